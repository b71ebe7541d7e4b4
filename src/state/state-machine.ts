/**
 * Shared state as a machine in memory: it decides what a transaction does, with etcd's revisions, comparisons and leases,
 * and takes steps. Nothing here waits, and deciding changes nothing: who keeps steps somewhere (kept-state.ts) may write
 * them down before anybody sees them, or take them back.
 */
import { AppError } from '../errors.js';
import type { Comparison, Entry, Operation, Snapshot, Transaction, WatchEvent } from './state.js';
import { SortedKeys } from './sorted-keys.js';
import { holds } from './transaction.js';

export type Change = Extract<WatchEvent, { type: 'changes' }>['changes'][number];

/** What one call does. Taken in their order, the same steps always lead to the same state. */
export interface Step {
  /** After it; it grows by one with each step that has changes. */
  readonly revision: number;
  readonly changes: readonly Change[];
  readonly grant?: { readonly id: string; readonly ttlMs: number };
  /** A lease that is over; its keys are among the changes. */
  readonly end?: string;
}

export class StateMachine {
  readonly #entries = new Map<string, Entry>();
  readonly #keys = new SortedKeys();
  /** ID -> TTL it was granted with. */
  readonly #leases = new Map<string, number>();
  #revision = 1;

  get revision(): number {
    return this.#revision;
  }

  get entries(): ReadonlyMap<string, Entry> {
    return this.#entries;
  }

  get leases(): ReadonlyMap<string, number> {
    return this.#leases;
  }

  list(prefix: string): Snapshot {
    // As etcd sorts: by the bytes of the keys.
    const sorted = this.#below(prefix).map((entry) => ({ entry, bytes: Buffer.from(entry.key) }));
    sorted.sort((x, y) => Buffer.compare(x.bytes, y.bytes));
    return { entries: sorted.map(({ entry }) => entry), revision: this.#revision };
  }

  /** Null: a comparison does not hold. @throws AppError `conflict` when it puts below a lease that is gone */
  transact({ if: comparisons, then: operations }: Transaction): Step | null {
    if (!comparisons.every((comparison) => this.#holds(comparison))) return null;
    const revision = this.#revision + 1;
    const changes = operations.flatMap((operation) => this.#changes(operation, revision));
    return { revision: changes.length === 0 ? this.#revision : revision, changes };
  }

  #holds(comparison: Comparison): boolean {
    if (!('prefix' in comparison)) return holds(comparison, this.#entries);
    return this.#below(comparison.prefix).every(({ modRevision }) => modRevision <= comparison.noPutAfter);
  }

  #below(prefix: string): Entry[] {
    return this.#keys.below(prefix).flatMap((key) => this.#entries.get(key) ?? []);
  }

  #put(entry: Entry): void {
    this.#entries.set(entry.key, entry);
    this.#keys.add(entry.key);
  }

  #remove(key: string): void {
    this.#entries.delete(key);
    this.#keys.remove(key);
  }

  #changes(operation: Operation, revision: number): Change[] {
    if ('delete' in operation) {
      return this.#entries.has(operation.delete) ? [{ type: 'delete', key: operation.delete }] : [];
    }
    const { put: key, value, lease } = operation;
    if (lease && !this.#leases.has(lease.id)) {
      throw new AppError('conflict', 'the lease this write belongs to is gone: grant a new one');
    }
    const createRevision = this.#entries.get(key)?.createRevision ?? revision;
    const leaseId = lease === undefined ? {} : { leaseId: lease.id };
    return [{ type: 'put', entry: { key, value, createRevision, modRevision: revision, ...leaseId } }];
  }

  /** Null: it is there already. */
  grant(id: string, ttlMs: number): Step | null {
    return this.#leases.has(id) ? null : { revision: this.#revision, changes: [], grant: { id, ttlMs } };
  }

  /** Null: it is gone already. */
  end(id: string): Step | null {
    if (!this.#leases.has(id)) return null;
    const gone = [...this.#entries.values()].filter(({ leaseId }) => leaseId === id);
    const changes = gone.map(({ key }): Change => ({ type: 'delete', key }));
    return { revision: this.#revision + (changes.length === 0 ? 0 : 1), changes, end: id };
  }

  /** Answers what takes it back, as long as no other step has followed. */
  take({ revision, changes, grant, end }: Step): () => void {
    const before = { revision: this.#revision, ttlMs: this.#leases.get(end ?? '') };
    const entries = changes.map((change) => {
      const key = keyOfChange(change);
      return [key, this.#entries.get(key)] as const;
    });
    for (const change of changes) {
      if (change.type === 'put') this.#put(change.entry);
      else this.#remove(change.key);
    }
    if (grant) this.#leases.set(grant.id, grant.ttlMs);
    if (end !== undefined) this.#leases.delete(end);
    this.#revision = revision;
    return () => {
      for (const [key, entry] of entries) {
        if (entry) this.#put(entry);
        else this.#remove(key);
      }
      if (grant) this.#leases.delete(grant.id);
      if (end !== undefined && before.ttlMs !== undefined) this.#leases.set(end, before.ttlMs);
      this.#revision = before.revision;
    };
  }
}

export function keyOfChange(change: Change): string {
  return change.type === 'put' ? change.entry.key : change.key;
}
