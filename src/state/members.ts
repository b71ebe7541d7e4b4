/** Contract: who the members of an etcd are, and changing them one at a time. */
import type { Ctx } from '../context.js';

export interface Members {
  /**
   * As the majority has it, never a member's own view. @throws `unavailable`, `no_leader` or `deadline_exceeded` without
   * a majority: that tells nothing of who is a member.
   */
  list(ctx: Ctx): Promise<MemberList>;
  /**
   * A member that has no vote yet. @throws `conflict` when a member has this URL already; `unavailable` when etcd
   * refuses the change at this moment (too few of its members are connected). Any other failure leaves it open: list again.
   */
  addLearner(ctx: Ctx, peerUrl: string): Promise<Member>;
  /** False: it has not caught up yet. Fine if it has a vote already. @throws like addLearner */
  promote(ctx: Ctx, id: string): Promise<boolean>;
  /** Fine if it is no member any more. @throws like addLearner */
  remove(ctx: Ctx, id: string): Promise<void>;
  /** Where the others reach it from now on. @throws like addLearner */
  move(ctx: Ctx, id: string, peerUrl: string): Promise<void>;
  /** Asks one member of itself, majority or not. @throws when it does not answer */
  status(ctx: Ctx, clientUrl: string): Promise<MemberStatus>;
}

export interface MemberList {
  /** etcd's number for the cluster, decimal. */
  readonly clusterId: string;
  /** In the order of their numbers. */
  readonly members: readonly Member[];
}

export interface Member {
  /** Decimal, 1 to 2^64 - 1. */
  readonly id: string;
  /** Empty as long as it was never started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  /** Empty as long as it was never started. */
  readonly clientUrls: readonly string[];
  readonly learner: boolean;
}

export interface MemberStatus {
  readonly id: string;
  readonly clusterId: string;
  /** Of etcd, like 3.5.16. */
  readonly version: string;
  /** Number of the leader that it follows; null for none. */
  readonly leader: string | null;
  /** Newest entry of the log that it has applied. */
  readonly appliedIndex: number;
  readonly learner: boolean;
  readonly dbBytes: number;
  readonly dbBytesInUse: number;
}

/** What keeps the members' databases small and writable. */
export interface MemberCare {
  /** All alarms of the cluster: NOSPACE, CORRUPT. */
  alarms(ctx: Ctx): Promise<readonly Alarm[]>;
  /** Only for NOSPACE: a corrupt member is a person's business. */
  disarmNoSpace(ctx: Ctx): Promise<void>;
  /** Drops all history, and resolves when it is gone from the database of the member that is asked. */
  compact(ctx: Ctx, clientUrl: string): Promise<void>;
  /** The member answers nothing meanwhile: one after the other. */
  defragment(ctx: Ctx, clientUrl: string): Promise<void>;
  /** How many keys begin so; all keys for the empty prefix. */
  count(ctx: Ctx, prefix: string): Promise<number>;
  /** Another member leads. Asked of the one that leads. */
  moveLeader(ctx: Ctx, clientUrl: string, to: string): Promise<void>;
}

export interface Alarm {
  readonly member: string;
  readonly kind: 'NOSPACE' | 'CORRUPT';
}
