/**
 * The life of the plugin's own etcd on this host once others can join: every two seconds the list of the members is
 * read, this host's part is made true to it, and whoever holds the lock changes it where it is not as wanted, or cares for
 * the space of the databases: never both at once, as a member that is defragmented does not answer. Where the plugin is of
 * another version than the container of the member, that is made anew in its turn.
 */
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import { AppError } from '../../errors.js';
import { sleep } from '../../lib/sleep.js';
import type { ManagerRecord } from '../../state/records.js';
import type { MemberList } from '../../state/members.js';
import { type Care, hasNoSpace } from '../care/care.js';
import type { Renewal } from '../renewal/renewal.js';
import type { LocalMember } from './local-member.js';
import { manage, type ManagerDeps } from './manager.js';
import { endpointsOf, type Observed } from './observation.js';
import type { FormationView, MemberReport, MemberRole } from './view.js';

export interface FormationDeps extends ManagerDeps {
  readonly local: LocalMember;
  readonly care: Care;
  readonly renewal: Renewal;
  /** Of the cluster's record, as it is on disk. */
  readonly incarnation: () => number;
  /** Of the cluster's record, as etcd has it. */
  readonly readIncarnation: (ctx: Ctx) => Promise<number>;
  /** The members are there from now on, and no lower incarnation is believed. */
  readonly follow: (endpoints: readonly string[], incarnation: number) => Promise<void>;
  /** Clients ask these from now on. */
  readonly prefer: (endpoints: readonly string[]) => void;
  /**
   * From now on asks those alone that answer with this incarnation of the cluster, or a higher one. @throws `unavailable`
   * when none does
   */
  readonly goTo: (ctx: Ctx, incarnation: number) => Promise<void>;
  /** No majority answers: where else to look. */
  readonly search: () => void;
  readonly paceMs?: number;
}

export interface Formation {
  /** Goes on until the signal aborts. Never rejects. */
  run(ctx: Ctx): Promise<void>;
  /** As seen last. */
  view(ctx: Ctx): Promise<FormationView>;
}

const PACE_MS = 2000;
const TURN_TIMEOUT_MS = 60_000;
const SOON_MS = 100;
/** Two looks in vain: one is no reason to connect anew. */
const SILENT_MS = 2500;

export function createFormation(deps: FormationDeps): Formation {
  return new WatchedFormation(deps);
}

class WatchedFormation implements Formation {
  readonly #deps: FormationDeps;
  #seen: Observed | null = null;
  #problem: string | null = null;

  constructor(deps: FormationDeps) {
    this.#deps = deps;
  }

  async run(ctx: Ctx): Promise<void> {
    const { local, lock, paceMs = PACE_MS } = this.#deps;
    // What is damaged is told by the first turn.
    await local.recall().catch(() => undefined);
    while (!ctx.signal.aborted) {
      const moved = await this.#attempt(ctx);
      await sleep(moved ? SOON_MS : paceMs, ctx.signal);
    }
    await lock.release({ ...ctx, signal: AbortSignal.timeout(1000) }).catch(() => undefined);
  }

  async view(ctx: Ctx): Promise<FormationView> {
    const { care, local, lock, renewal } = this.#deps;
    const seen = this.#seen;
    const manager: ManagerRecord | null = await lock.read(ctx).catch(() => null);
    return {
      role: roleOf(local, seen),
      voters: seen?.voters ?? 0,
      members: seen === null ? [] : reportsOf(seen),
      // What etcd has no space for cannot be read from it either.
      doing: care.doing ?? doingOf(manager),
      manager: manager?.node ?? null,
      problem: this.#problem,
      alarms: seen?.alarms ?? [],
      renewal: renewal.view,
    };
  }

  async #attempt(ctx: Ctx): Promise<boolean> {
    try {
      const moved = await this.#turn(withDeadline(ctx, TURN_TIMEOUT_MS));
      const cared = !moved && this.#seen !== null && (await this.#keep(ctx, this.#seen));
      this.#problem = null;
      return moved || cared;
    } catch (err) {
      const { message } = AppError.from(err);
      if (message !== this.#problem && !ctx.signal.aborted)
        ctx.log.warn({ err }, 'the members of etcd cannot be looked after');
      this.#problem = message;
      return false;
    }
  }

  /** Takes as long as it takes. */
  async #keep(ctx: Ctx, seen: Observed): Promise<boolean> {
    const { care, renewal } = this.#deps;
    if (await renewal.look(ctx, seen)) return true;
    // One member less for a moment is enough.
    return seen.renewing === null && care.look(ctx, seen);
  }

  async #turn(ctx: Ctx): Promise<boolean> {
    const { follow, local, members, observation } = this.#deps;
    let list = await this.#list(ctx, members);
    const incarnation = await this.#judge(ctx);
    if (incarnation > this.#deps.incarnation()) {
      // That list, or this record, may be of the former etcd: the endpoints were those of both.
      await this.#deps.goTo(ctx, incarnation);
      list = await this.#list(ctx, members);
      await local.yield(ctx, list);
    }
    const endpoints = endpointsOf(list);
    if (endpoints) await follow(endpoints, incarnation);
    // Others are looked after also by a host that cannot do its own part.
    const failed = await local.follow(ctx, list).then(
      () => null,
      (reason: unknown) => AppError.from(reason),
    );
    this.#seen = await observation.look(ctx, list);
    this.#prefer(this.#seen);
    if (this.#seen.strangers.length > 0) await this.#meet(ctx);
    // One that is full takes no intent.
    if (hasNoSpace(this.#seen)) return false;
    const moved = await manage(ctx, this.#deps, this.#seen);
    if (failed) throw failed;
    return moved;
  }

  /** Each call to a host that lost its power takes seconds: nobody is sent there who need not be. */
  #prefer({ list, members }: Observed): void {
    const silent = new Set(
      members.filter(({ unreachableMs }) => unreachableMs >= SILENT_MS).map(({ id }) => id),
    );
    const answering = { ...list, members: list.members.filter(({ id }) => !silent.has(id)) };
    const endpoints = endpointsOf(answering) ?? endpointsOf(list);
    if (endpoints) this.#deps.prefer(endpoints);
  }

  /** Another etcd answers where a member should: it may be this cluster's next incarnation. */
  async #meet(ctx: Ctx): Promise<void> {
    const { goTo, incarnation } = this.#deps;
    await goTo(ctx, incarnation() + 1).catch((err: unknown) => {
      ctx.log.debug({ err }, 'an etcd of its own answers where a member should');
    });
  }

  /** An etcd that was left behind by a recovery may still have its majority. */
  async #judge(ctx: Ctx): Promise<number> {
    const found = await this.#deps.readIncarnation(ctx);
    const known = this.#deps.incarnation();
    if (found >= known) return found;
    await this.#deps.goTo(ctx, known);
    throw new AppError(
      'conflict',
      'an etcd answers that this cluster has left behind when it was recovered: the hosts that still run it put it aside as ' +
        'soon as they meet the new one',
    );
  }

  async #list(ctx: Ctx, members: FormationDeps['members']): Promise<MemberList> {
    try {
      return await members.list(ctx);
    } catch (reason) {
      this.#seen = null;
      this.#deps.search();
      throw reason;
    }
  }
}

function doingOf(manager: ManagerRecord | null): string | null {
  return manager === null || manager.doing === '' ? null : manager.doing;
}

function roleOf({ has, lost }: LocalMember, seen: Observed | null): MemberRole {
  if (lost) return 'lost';
  if (has === null) return 'spare';
  return seen?.members.find(({ id }) => id === has)?.learner === true ? 'learner' : 'voter';
}

function reportsOf({ members, hosts, statuses }: Observed): MemberReport[] {
  return members.map(({ id, peerUrl, learner, unreachableMs, leader, lag }) => {
    const status = statuses.get(id);
    return {
      id,
      node: hosts.find((host) => host.peerUrl === peerUrl)?.node ?? null,
      peerUrl,
      role: learner ? ('learner' as const) : ('voter' as const),
      healthy: unreachableMs === 0,
      leader,
      unreachableSeconds: unreachableMs === 0 ? null : Math.floor(unreachableMs / 1000),
      lag,
      dbBytes: status?.dbBytes ?? null,
      version: status?.version ?? '',
    };
  });
}
