import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import type {
  Entry,
  Lease,
  Snapshot,
  State,
  Transaction,
  TransactResult,
  Watch,
  WatchEvent,
  WatchListener,
} from './state.js';
import { checkTransaction, holds } from './transaction.js';

type Change = Extract<WatchEvent, { type: 'changes' }>['changes'][number];

/**
 * Shared state in memory, for tests: the same revisions, comparisons, watches and leases as etcd's, including
 * that answers and watch events come later, never inside the call. It passes the suite that etcd passes. A lease
 * needs no keepalive here: it lives until it is revoked or the state is closed.
 */
export function createMemoryState(): State {
  return new MemoryState();
}

class MemoryState implements State {
  readonly #stored = new Map<string, Entry>();
  readonly #watches = new Set<{ prefix: string; emit: (event: WatchEvent) => void }>();
  readonly #leases = new Map<string, AbortController>();
  #revision = 1;
  #nextLease = 1;
  #closed = false;

  async get(ctx: Ctx, key: string): Promise<Entry | null> {
    await this.#arrive(ctx);
    const stored = this.#stored.get(key);
    return stored ?? null;
  }

  async range(ctx: Ctx, prefix: string): Promise<Snapshot> {
    await this.#arrive(ctx);
    return this.#list(prefix);
  }

  async transact(ctx: Ctx, transaction: Transaction): Promise<TransactResult> {
    checkTransaction(transaction);
    await this.#arrive(ctx);
    if (!transaction.if.every((comparison) => holds(comparison, this.#stored))) {
      return { ok: false, reason: 'compare_failed' };
    }
    const lost = transaction.then.find(
      (operation) => 'put' in operation && operation.lease && !this.#leases.has(operation.lease.id),
    );
    if (lost) throw new AppError('conflict', 'the lease this write belongs to is gone: grant a new one');
    const revision = this.#revision + 1;
    const changes: Change[] = [];
    for (const operation of transaction.then) {
      if ('delete' in operation) {
        if (this.#stored.delete(operation.delete)) changes.push({ type: 'delete', key: operation.delete });
        continue;
      }
      const { put: key, value, lease } = operation;
      const createRevision = this.#stored.get(key)?.createRevision ?? revision;
      const leaseId = lease === undefined ? {} : { leaseId: lease.id };
      const entry: Entry = { key, value, createRevision, modRevision: revision, ...leaseId };
      this.#stored.set(key, entry);
      changes.push({ type: 'put', entry });
    }
    this.#publish(changes);
    return { ok: true, revision: this.#revision };
  }

  watch(prefix: string, listener: WatchListener): Watch {
    const emit = (event: WatchEvent) => {
      try {
        listener(event);
      } catch {
        // As etcd's watch: a listener that throws harms itself only.
      }
    };
    const watch = { prefix, emit };
    setImmediate(() => {
      if (open && !this.#closed) {
        emit({ type: 'snapshot', snapshot: this.#list(prefix) });
        this.#watches.add(watch);
      }
    });
    let open = true;
    return {
      close: () => {
        open = false;
        this.#watches.delete(watch);
      },
    };
  }

  async lease(ctx: Ctx, ttlMs: number, known?: string): Promise<Lease> {
    if (!(ttlMs >= 2_000)) {
      throw new AppError('invalid_argument', `a lease of ${String(ttlMs)} ms is too short: at least 2000 ms`);
    }
    await this.#arrive(ctx);
    const id = known ?? String(this.#nextLease++);
    const over = this.#leases.get(id) ?? new AbortController();
    this.#leases.set(id, over);
    return {
      id,
      lost: over.signal,
      ageMs: () => 0,
      revoke: async (revokeCtx) => {
        over.abort(new AppError('conflict', `the lease ${id} was revoked`));
        await this.#arrive(revokeCtx);
        this.#expire(id);
      },
    };
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#watches.clear();
    for (const [id, over] of this.#leases) {
      over.abort(new AppError('canceled', `the lease ${id} is no longer kept alive: the state was closed`));
    }
    return Promise.resolve();
  }

  /** Every call crosses an event-loop turn, as it would on a network. */
  async #arrive(ctx: Ctx): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#closed) throw new AppError('unavailable', 'the connection to the state has been closed by us');
    if (!ctx.signal.aborted) return;
    const timedOut = ctx.signal.reason instanceof DOMException && ctx.signal.reason.name === 'TimeoutError';
    throw timedOut
      ? new AppError('deadline_exceeded', 'the call was not finished in the time its caller had')
      : new AppError('canceled', 'the call was given up because its caller went away');
  }

  #list(prefix: string): Snapshot {
    const entries = [...this.#stored.values()].filter(({ key }) => key.startsWith(prefix));
    entries.sort((a, b) => Buffer.compare(Buffer.from(a.key), Buffer.from(b.key)));
    return { entries, revision: this.#revision };
  }

  #expire(id: string): void {
    this.#leases.delete(id);
    const gone = [...this.#stored.values()].filter(({ leaseId }) => leaseId === id);
    for (const { key } of gone) this.#stored.delete(key);
    this.#publish(gone.map(({ key }) => ({ type: 'delete', key })));
  }

  /** One revision for all of them; none for nothing. */
  #publish(all: readonly Change[]): void {
    if (all.length === 0) return;
    const revision = ++this.#revision;
    for (const watch of this.#watches) {
      const changes = all.filter((change) => keyOf(change).startsWith(watch.prefix));
      if (changes.length === 0) continue;
      setImmediate(() => {
        if (this.#watches.has(watch)) watch.emit({ type: 'changes', revision, changes });
      });
    }
  }
}

function keyOf(change: Change): string {
  return change.type === 'put' ? change.entry.key : change.key;
}
