/**
 * Makes the member of this host anew where its container is of another version of the plugin, when it is its turn: as
 * gate.ts says, with the lock. A member that does not come up from the new image stays as it is, on that image: its data
 * may be of that version from the first start on, and etcd refuses to go back. The others then keep theirs.
 */
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import { AppError } from '../../errors.js';
import { sleep } from '../../lib/sleep.js';
import type { MemberCare, Members } from '../../state/members.js';
import type { Observation, Observed } from '../formation/observation.js';
import { hasCaughtUp } from '../formation/plan.js';
import { type Gate, type GateMember, gateOf } from './gate.js';
import type { RenewalLock } from './renewal-lock.js';

export interface RenewalDeps {
  readonly lock: RenewalLock;
  readonly members: Pick<Members, 'list'> & Pick<MemberCare, 'moveLeader'>;
  readonly observation: Pick<Observation, 'look'>;
  /** Number of the member here. */
  readonly me: () => string | null;
  readonly hostname: (ctx: Ctx) => Promise<string>;
  /** Whether the container is of another version than wanted, and waits for its turn. */
  readonly isDue: () => boolean;
  /** Makes it anew, and resolves when etcd serves. */
  readonly renew: (ctx: Ctx) => Promise<void>;
  readonly pollMs?: number;
}

export interface RenewalView {
  /** What it waits for; or what it failed with. */
  readonly why: string;
  /** It has not come up from the new image. */
  readonly failed: boolean;
}

export interface Renewal {
  /** Whether the member was made anew, or another leads now. Never rejects. */
  look(ctx: Ctx, observed: Observed): Promise<boolean>;
  /** Null: the member is of this version. */
  readonly view: RenewalView | null;
}

/** As the container of an engine that is slow may take; another host can begin long before only if all others are well. */
const RENEW_MS = 180_000;
const WELL_MS = 60_000;
const POLL_MS = 200;

export function createRenewal(deps: RenewalDeps): Renewal {
  return new TakingTurns(deps);
}

class TakingTurns implements Renewal {
  readonly #deps: RenewalDeps;
  #waits = 'the other members are looked at first';
  #failure: string | null = null;

  constructor(deps: RenewalDeps) {
    this.#deps = deps;
  }

  get view(): RenewalView | null {
    if (this.#failure !== null) return { why: this.#failure, failed: true };
    return this.#deps.isDue() ? { why: this.#waits, failed: false } : null;
  }

  async look(ctx: Ctx, observed: Observed): Promise<boolean> {
    const { isDue, lock } = this.#deps;
    if (this.#isWell(observed)) this.#failure = null;
    if (!isDue()) return false;
    const limited = withDeadline(ctx, RENEW_MS);
    try {
      const gate = this.#decide(observed, await lock.busy(limited));
      return gate.kind === 'wait' ? this.#wait(gate.why) : await this.#takeTurn(limited);
    } catch (reason) {
      const { message } = AppError.from(reason);
      return this.#wait(message);
    } finally {
      // It runs out by itself if this fails.
      await lock.release(withDeadline(ctx, WELL_MS)).catch(() => undefined);
    }
  }

  #wait(why: string): false {
    this.#waits = why;
    return false;
  }

  async #takeTurn(ctx: Ctx): Promise<boolean> {
    const { hostname, lock } = this.#deps;
    const busy = await lock.take(ctx, await hostname(ctx));
    if (busy !== null) return this.#wait(busy);
    // What was seen before is of a time when others could still begin.
    let gate = await this.#decideAnew(ctx);
    while (gate.kind === 'hand over') {
      await this.#handOver(ctx, gate);
      gate = await this.#decideAnew(ctx);
    }
    if (gate.kind === 'wait') return this.#wait(gate.why);
    if (!lock.held) return this.#wait('the lock was lost meanwhile');
    await this.#renew(ctx);
    return true;
  }

  async #handOver(ctx: Ctx, { from, to }: Extract<Gate, { kind: 'hand over' }>): Promise<void> {
    const { members, pollMs = POLL_MS } = this.#deps;
    ctx.log.info({ to: to.name }, 'another member leads before the one here is made anew');
    const found = (await members.list(ctx)).members.find(({ id }) => id === from.id);
    await members.moveLeader(ctx, found?.clientUrls[0] ?? '', to.id);
    await sleep(pollMs, ctx.signal);
  }

  async #renew(ctx: Ctx): Promise<void> {
    ctx.log.info('the member of etcd here is made anew from the image of this plugin');
    try {
      await this.#deps.renew(ctx);
      await this.#untilWell(withDeadline(ctx, WELL_MS));
      this.#failure = null;
    } catch (reason) {
      const { message } = AppError.from(reason);
      this.#failure = `it has not come up from the image of this plugin: ${message}`;
      ctx.log.error({ err: reason }, 'the member of etcd has not come up from the image of this plugin');
    }
  }

  /** The next host is to find all others well. */
  async #untilWell(ctx: Ctx): Promise<void> {
    for (;;) {
      const seen = await this.#look(ctx).catch(() => null);
      if (seen && this.#isWell(seen)) return;
      if (ctx.signal.aborted)
        throw new AppError('deadline_exceeded', 'etcd serves, but does not follow the leader');
      await sleep(this.#deps.pollMs ?? POLL_MS, ctx.signal);
    }
  }

  #isWell({ members }: Observed): boolean {
    const mine = members.find(({ id }) => id === this.#deps.me());
    return mine !== undefined && hasCaughtUp(mine);
  }

  async #decideAnew(ctx: Ctx): Promise<Gate> {
    return this.#decide(await this.#look(ctx), null);
  }

  async #look(ctx: Ctx): Promise<Observed> {
    const { members, observation } = this.#deps;
    return observation.look(ctx, await members.list(ctx));
  }

  #decide(observed: Observed, busy: string | null): Gate {
    return gateOf({
      me: this.#deps.me(),
      members: observed.members.map((member) => named(member, observed)),
      alarms: observed.alarms,
      busy,
    });
  }
}

function named(member: Observed['members'][number], { hosts }: Observed): GateMember {
  const name = hosts.find(({ peerUrl }) => peerUrl === member.peerUrl)?.name ?? member.peerUrl;
  return { ...member, name };
}
