import type { Ctx } from '../context.js';

/**
 * The seam to shared state: five calls, with compare, lease and revision, because a store without them cannot
 * host a safe lock. Keys are full paths (state/keys.ts names them); values are opaque strings (state/records.ts
 * gives them shape).
 *
 * Errors, all AppError: `unavailable` (cannot reach it), `no_leader`, `no_space` (quota; reads still work),
 * `deadline_exceeded`, `canceled` (ctx.signal), `invalid_argument` (what can never be carried out), `conflict`
 * (a put under a lease that is gone). A refused login or certificate is `unavailable` too, with what to correct.
 */
export interface State {
  /** Linearizable read of one key. A null is a positive answer: the key does not exist. */
  get(ctx: Ctx, key: string): Promise<Entry | null>;
  /** Linearizable read of all keys that start with prefix, at one revision, sorted by key. */
  range(ctx: Ctx, prefix: string): Promise<Snapshot>;
  /**
   * All operations, or none if a comparison does not hold. Never retried blindly: when the answer was lost, the
   * adapter reads back what the transaction would have written and tells which of the two happened. So values
   * that are put must be unique per write (records carry a nonce), or say that they are not (`common`).
   *
   * If it rejects with `unavailable`, `deadline_exceeded` or `canceled`, it may still have been carried out: read
   * before deciding anew. A transaction whose comparisons it does not itself make false (none at all, or a
   * createRevision whose key it puts) is not sent a second time after a lost answer, so it rejects more often.
   */
  transact(ctx: Ctx, transaction: Transaction): Promise<TransactResult>;
  /**
   * Follows a prefix for ever, through reconnects and compactions. The listener first gets a `snapshot`, then
   * `changes` in revision order, one event per revision; after any gap it gets a fresh `snapshot` again, which
   * replaces all it knew. The listener is never called inside `watch` and must not throw.
   */
  watch(prefix: string, listener: WatchListener): Watch;
  /**
   * Grants a lease and keeps it alive. ttlMs at least 2000. With a number, the lease of this number is taken over,
   * with its keys, if it exists: a lease that several processes keep alive ends when the last of them does. It then
   * has the TTL that it was granted with.
   */
  lease(ctx: Ctx, ttlMs: number, id?: string): Promise<Lease>;
  /** Ends watches and refuses calls; leases are no longer kept alive, count as lost, and run out by themselves. */
  close(): Promise<void>;
}

export interface Entry {
  readonly key: string;
  readonly value: string;
  readonly createRevision: number;
  readonly modRevision: number;
  /** Of the lease that the key belongs to. */
  readonly leaseId?: string;
}

export interface Snapshot {
  readonly entries: readonly Entry[];
  readonly revision: number;
}

/** The last one: nothing below the prefix was put after that revision. It does not see what was deleted. */
export type Comparison =
  | { readonly key: string; readonly absent: true }
  | { readonly key: string; readonly createRevision: number }
  | { readonly key: string; readonly modRevision: number }
  | { readonly key: string; readonly value: string }
  | { readonly prefix: string; readonly noPutAfter: number };

/** A lease, or the number alone of one that another process keeps alive. */
export type LeaseReference = Pick<Lease, 'id'> & Partial<Pick<Lease, 'lost'>>;

export type Operation =
  | {
      readonly put: string;
      readonly value: string;
      readonly lease?: LeaseReference;
      /** Others may put the same value: to find it tells nothing of whose write it was. */
      readonly common?: true;
    }
  | { readonly delete: string };

/** At most 128 operations (etcd's max-txn-ops). */
export interface Transaction {
  readonly if: readonly Comparison[];
  readonly then: readonly Operation[];
}

export type TransactResult =
  | { readonly ok: true; readonly revision: number }
  | { readonly ok: false; readonly reason: 'compare_failed' };

export type WatchEvent =
  | { readonly type: 'snapshot'; readonly snapshot: Snapshot }
  | {
      readonly type: 'changes';
      readonly revision: number;
      readonly changes: readonly (
        { readonly type: 'put'; readonly entry: Entry } | { readonly type: 'delete'; readonly key: string }
      )[];
    };
export type WatchListener = (event: WatchEvent) => void;

export interface Watch {
  close(): void;
}

export interface Lease {
  /** Decimal, 1 to 2^63 - 1. */
  readonly id: string;
  /**
   * Aborts when the lease may be gone: at the latest TTL after the last acknowledged keepalive was sent, by this
   * process' monotonic clock, so before the server lets anybody else in.
   */
  readonly lost: AbortSignal;
  /** Milliseconds since the last keepalive that was acknowledged had been sent; or since the grant. */
  ageMs(): number;
  /** Revokes it and all its keys; fine if it is gone already. `lost` aborts at once. */
  revoke(ctx: Ctx): Promise<void>;
}
