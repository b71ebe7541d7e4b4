/**
 * Which member takes a call, and when the connections to it are closed. etcd3 asks a policy of each member, in an order of
 * its own, and goes on to the next when one throws without having made the call; what the policy throws after a call
 * decides whether all connections to that member are closed.
 *
 * - Members are taken that serve. Then those that answer that they cannot, as during an election. Then those that let a
 *   call wait, which may be for our own want of time to read the answer, by turns. Last those that are silent, by turns:
 *   whoever has lost its power lets each call wait for the whole of its try.
 * - Connections are closed once for each time that a member falls silent. etcd3 would close them after each call that
 *   fails, also when a member says that it has no leader. Other calls that wait there would fail with it, and a
 *   hundred of them would each begin a TLS connection of its own.
 */
import type { IOptions } from 'etcd3';
import { Stream } from 'node:stream';

export type HostPolicy = ReturnType<NonNullable<NonNullable<IOptions['faultHandling']>['host']>>;

interface Host {
  /** What its last answer was; silent: it has failed without one since. */
  state: 'serves' | 'refuses' | 'silent';
  /** The first call since its last answer was sent then, in milliseconds; undefined: all are answered. */
  waitingSince: number | undefined;
  /** Numbers of calls and answers, in their order; 0: none. */
  answeredAt: number;
  triedAt: number;
  closedAt: number;
}

/** Whoever lets a call wait for so long gives way to those that answer. */
const LATE_MS = 300;
const neverAborted = new AbortController().signal;
/** CANCELLED, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE. */
const failing = /^(?:\w+: )?(?:1|4|13|14) [A-Z_]+:/;

/** In words of a call that was never sent, which it was not. Not of a class that etcd3 knows, and closes connections for. */
class NotItsTurn extends Error {
  constructor() {
    super('Failed to connect: it is the turn of another member');
  }
}

export class EtcdHosts {
  readonly #hosts: Host[] = [];
  readonly #now: () => number;
  #last = 0;

  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /** Of one more member. */
  policy(): HostPolicy {
    const host: Host = {
      ...{ state: 'serves', waitingSince: undefined },
      ...{ answeredAt: 0, triedAt: 0, closedAt: 0 },
    };
    this.#hosts.push(host);
    const policy: Omit<HostPolicy, '_altReturn'> = {
      onSuccess: () => ({ dispose: () => undefined }),
      onFailure: () => ({ dispose: () => undefined }),
      execute: (call) => this.#execute(host, async () => call({ signal: neverAborted })),
    };
    return policy as HostPolicy;
  }

  async #execute<T>(host: Host, call: () => Promise<T>): Promise<T> {
    if (!this.#isTurnOf(host)) throw new NotItsTurn();
    const beganAt = this.#next();
    const { waitingSince } = host;
    host.triedAt = beganAt;
    host.waitingSince ??= this.#now();
    try {
      const answer = await call();
      // To open a stream tells nothing of who is to answer.
      if (answer instanceof Stream) host.waitingSince = waitingSince;
      else this.#note(host, 'serves');
      return answer;
    } catch (reason) {
      throw this.#judge(host, beganAt, reason);
    }
  }

  #isTurnOf(host: Host): boolean {
    const best = Math.min(...this.#hosts.map((one) => this.#rank(one)));
    if (this.#rank(host) > best) return false;
    const equal = this.#hosts.filter((one) => this.#rank(one) === best);
    return best < RANKS.late || host.triedAt === Math.min(...equal.map(({ triedAt }) => triedAt));
  }

  #rank({ state, waitingSince }: Host): number {
    const isLate = waitingSince !== undefined && this.#now() - waitingSince >= LATE_MS;
    return isLate ? Math.max(RANKS[state], RANKS.late) : RANKS[state];
  }

  /** The error to go on with: as it is where the connections are to be closed. */
  #judge(host: Host, beganAt: number, reason: unknown): unknown {
    const text = reason instanceof Error ? reason.message : String(reason);
    const isAnswer = text.includes('etcdserver: ') || !failing.test(text);
    if (isAnswer) this.#note(host, failing.test(text) ? 'refuses' : 'serves');
    else if (host.answeredAt < beganAt) {
      host.state = 'silent';
      if (host.closedAt < beganAt) {
        host.closedAt = this.#next();
        return reason;
      }
    }
    return new Error(text, { cause: reason });
  }

  #note(host: Host, state: Host['state']): void {
    host.state = state;
    host.waitingSince = undefined;
    host.answeredAt = this.#next();
  }

  #next(): number {
    return (this.#last += 1);
  }
}

const RANKS: Readonly<Record<Host['state'] | 'late', number>> = { serves: 0, refuses: 1, late: 2, silent: 3 };
