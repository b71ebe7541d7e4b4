/**
 * Keeps the members' databases small and writable, as care-plan.ts says. Nothing here writes to etcd: one that is full
 * refuses each put and each new lease.
 */
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import { keys } from '../../state/keys.js';
import type { MemberCare } from '../../state/members.js';
import type { Observed } from '../formation/observation.js';
import { type CareMember, type CarePast, type CareStep, planCare } from './care-plan.js';

export interface CareDeps {
  readonly members: MemberCare;
  readonly quotaBytes: number;
  readonly graceMs: number;
  /** Whether it is this host's turn, of which there is one in the cluster. */
  readonly isMine: (ctx: Ctx, observed: Observed) => Promise<boolean>;
  /** Says what is begun; false: not now, as a member is made anew, or it is not this host's turn any more. */
  readonly begin: (ctx: Ctx, doing: string) => Promise<boolean>;
  readonly now?: () => number;
}

export interface Care {
  /** Takes one step, or none. Whether there may be more to do at once. @throws what etcd fails with */
  look(ctx: Ctx, observed: Observed): Promise<boolean>;
  /** What is done about the space, or what that waits for; null: nothing. */
  readonly doing: string | null;
}

/** After a failure: who was defragmented may still be at it. */
const PAUSE_MS = 5 * 60_000;
const COUNT_MS = 10_000;

export function createCare(deps: CareDeps): Care {
  return new StepwiseCare(deps);
}

class StepwiseCare implements Care {
  readonly #deps: CareDeps;
  readonly #now: () => number;
  readonly #defragmentedAt = new Map<string, number>();
  #compactedAt = -Infinity;
  #caringSince: number | null = null;
  #pausedUntil = -Infinity;
  #told: { readonly why: string; readonly text: string } | null = null;
  doing: string | null = null;

  constructor(deps: CareDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
  }

  async look(ctx: Ctx, observed: Observed): Promise<boolean> {
    const noSpace = hasNoSpace(observed);
    if (!noSpace) this.#forgetFull();
    if (!(await this.#deps.isMine(ctx, observed))) {
      this.#caringSince = null;
      this.doing =
        noSpace && !observed.corrupt ? 'etcd has used up its space: another host makes room' : null;
      return false;
    }
    const now = this.#now();
    this.#caringSince ??= now;
    if (now < this.#pausedUntil) return false;
    const { graceMs, quotaBytes } = this.#deps;
    const step = planCare({
      members: membersOf(observed),
      corrupt: observed.corrupt,
      noSpace,
      quotaBytes,
      graceMs,
      past: this.#past(now),
    });
    this.doing = await this.#tell(ctx, step);
    // One that is full takes no word of it, and no turn of another either.
    if (step.kind === 'defragment' && !noSpace && !(await this.#deps.begin(ctx, step.why))) return false;
    return this.#carryOut(ctx, step);
  }

  #past(now: number): CarePast {
    return {
      compactedMs: now - this.#compactedAt,
      defragmentedMs: (id) => now - (this.#defragmentedAt.get(id) ?? -Infinity),
      caringMs: now - (this.#caringSince ?? now),
    };
  }

  /** The next time that it is full is another one. */
  #forgetFull(): void {
    this.#compactedAt = -Infinity;
    this.#told = null;
  }

  async #tell(ctx: Ctx, { kind, why }: CareStep): Promise<string | null> {
    if (why === '') return null;
    if (kind !== 'full') return why;
    if (this.#told?.why !== why) {
      const text = `${why}. ${await this.#whatUsesIt(ctx)}`;
      ctx.log.error({ text }, 'etcd is full, and stays so until somebody deletes something');
      this.#told = { why, text };
    }
    return this.#told.text;
  }

  /** By counts of keys, which cost nothing; their sizes would be all of the data. */
  async #whatUsesIt(ctx: Ctx): Promise<string> {
    const limited = withDeadline(ctx, COUNT_MS);
    const count = (prefix: string) => this.#deps.members.count(limited, prefix);
    try {
      const counted = await Promise.all(
        prefixes.map(async (prefix) => ({ prefix, keys: await count(prefix) })),
      );
      const outside = (await count('')) - (await count(keys.root));
      const most = [...counted, { prefix: `other keys than ${keys.root}`, keys: outside }]
        .filter(({ keys: many }) => many > 0)
        .toSorted((one, other) => other.keys - one.keys)
        .slice(0, 4)
        .map(({ prefix, keys: many }) => `${prefix} (${String(many)})`);
      return `Most keys: ${most.join(', ')}. ${WAY_OUT}`;
    } catch {
      return WAY_OUT;
    }
  }

  async #carryOut(ctx: Ctx, step: CareStep): Promise<boolean> {
    if (step.kind === 'none' || step.kind === 'full') return false;
    ctx.log.info({ step: step.kind, why: step.why }, 'caring for the space of etcd');
    try {
      await this.#act(ctx, step);
      return true;
    } catch (reason) {
      this.#pausedUntil = this.#now() + (step.kind === 'defragment' ? PAUSE_MS : 0);
      throw reason;
    }
  }

  async #act(ctx: Ctx, step: Exclude<CareStep, { kind: 'none' | 'full' }>): Promise<void> {
    const { members } = this.#deps;
    switch (step.kind) {
      case 'compact':
        await members.compact(ctx, step.member.clientUrl);
        this.#compactedAt = this.#now();
        break;
      case 'defragment':
        this.#defragmentedAt.set(step.member.id, this.#now());
        await members.defragment(ctx, step.member.clientUrl);
        this.#defragmentedAt.set(step.member.id, this.#now());
        break;
      case 'hand over':
        await members.moveLeader(ctx, step.from.clientUrl, step.to.id);
        break;
      case 'disarm':
        await members.disarmNoSpace(ctx);
        this.#defragmentedAt.clear();
        break;
    }
  }
}

const prefixes = [
  ...[keys.events, keys.objects, keys.services, keys.vsms, keys.registry],
  ...[keys.volumes, keys.targets, keys.attachments, keys.policies],
];
const WAY_OUT =
  'Delete what is not needed: fewer events (EVENTS_MAX_COUNT), policies that register less, volumes, keys of others; ' +
  'room is made by itself after that';

export function hasNoSpace({ alarms }: Observed): boolean {
  return alarms.includes('NOSPACE');
}

function membersOf({ hosts, list, members, statuses }: Observed): CareMember[] {
  return members.map(({ id, peerUrl, learner, leader, unreachableMs }) => {
    const status = statuses.get(id);
    const [clientUrl = ''] = list.members.find((member) => member.id === id)?.clientUrls ?? [];
    return {
      id,
      name: hosts.find((host) => host.peerUrl === peerUrl)?.name ?? peerUrl,
      clientUrl,
      learner,
      leader,
      unreachableMs,
      size: status ? { bytes: status.dbBytes, inUse: status.dbBytesInUse } : null,
    };
  });
}
