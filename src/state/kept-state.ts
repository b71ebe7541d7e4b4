/**
 * Shared state whose only copy this process has, in a machine that some keeper makes durable, or not (memory-state.ts,
 * local-state.ts). Calls wait in one line; those that wait together are decided together, kept by one write of the keeper,
 * and then answered. What is not kept yet nobody sees: reads, watches and answers come after it, and if it cannot be
 * kept, it has not been.
 *
 * Leases need no keepalive: one that this process has granted or taken over lives until it is revoked. One that an
 * earlier process left behind has its TTL once more, from the moment that the state is opened, for others to take it over.
 */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';
import { createBudget, NoAnswer } from './budget.js';
import { randomLeaseId } from './lease-id.js';
import type {
  Entry,
  Lease,
  Snapshot,
  State,
  Transaction,
  TransactResult,
  Watch,
  WatchListener,
} from './state.js';
import { keyOfChange, type StateMachine, type Step } from './state-machine.js';
import { checkTransaction } from './transaction.js';
import { type Keeper, WriteLine } from './write-line.js';

type Emit = WatchListener;

const CALL_TIMEOUT_MS = 15_000;
const AGAIN_MS = 1000;
const SHORTEST_TTL_MS = 2000;

export function createKeptState(keeper: Keeper): State {
  return new KeptState(keeper);
}

class KeptState implements State {
  readonly #keeper: Keeper;
  readonly #line: WriteLine;
  readonly #watches = new Set<{ readonly prefix: string; readonly emit: Emit }>();
  /** Of this process. */
  readonly #held = new Map<string, AbortController>();
  readonly #closed = new AbortController();
  #opened = false;

  constructor(keeper: Keeper) {
    this.#keeper = keeper;
    this.#line = new WriteLine(keeper, (steps) => {
      for (const step of steps) this.#publish(step);
      for (const [id, over] of this.#held) if (over.signal.aborted) this.#held.delete(id);
    });
  }

  get #machine(): StateMachine {
    return this.#keeper.machine;
  }

  get(ctx: Ctx, key: string): Promise<Entry | null> {
    return this.#call(ctx, () => this.#line.read(() => this.#machine.entries.get(key) ?? null));
  }

  range(ctx: Ctx, prefix: string): Promise<Snapshot> {
    return this.#call(ctx, () => this.#line.read(() => this.#machine.list(prefix)));
  }

  async transact(ctx: Ctx, transaction: Transaction): Promise<TransactResult> {
    checkTransaction(transaction);
    const step = await this.#call(ctx, () => this.#write(ctx, () => this.#machine.transact(transaction)));
    return step === null ? { ok: false, reason: 'compare_failed' } : { ok: true, revision: step.revision };
  }

  watch(prefix: string, listener: WatchListener): Watch {
    const closed = new AbortController();
    const watch = {
      prefix,
      emit: ((event) => {
        try {
          if (!closed.signal.aborted) listener(event);
        } catch {
          // As etcd's watch: a listener that throws harms itself only.
        }
      }) satisfies Emit,
    };
    void this.#begin(watch, AbortSignal.any([closed.signal, this.#closed.signal]));
    return {
      close: () => {
        closed.abort();
        this.#watches.delete(watch);
      },
    };
  }

  async lease(ctx: Ctx, ttlMs: number, known?: string): Promise<Lease> {
    if (!(ttlMs >= SHORTEST_TTL_MS)) {
      throw new AppError(
        'invalid_argument',
        `a lease of ${String(ttlMs)} ms is too short: at least ${String(SHORTEST_TTL_MS)} ms`,
      );
    }
    const id = known ?? randomLeaseId();
    // From the moment that it is decided it does not run out, however long the write takes.
    const grant = () => {
      this.#hold(id);
      return this.#machine.grant(id, ttlMs);
    };
    const wasHeld = this.#isHeld(id);
    try {
      await this.#call(ctx, () => this.#write(ctx, grant));
      this.#refuseClosed();
    } catch (reason) {
      // It may be there all the same, for nobody.
      if (!wasHeld) this.#letRunOut(id, ttlMs);
      throw reason;
    }
    const over = this.#hold(id);
    return {
      id,
      lost: over.signal,
      ageMs: () => 0,
      revoke: async (revokeCtx) => {
        over.abort(new AppError('conflict', `the lease ${id} was revoked`));
        try {
          await this.#call(revokeCtx, () => this.#write(revokeCtx, () => this.#revoke(id)));
        } catch (reason) {
          this.#letRunOut(id, ttlMs);
          throw reason;
        }
      },
    };
  }

  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    this.#watches.clear();
    for (const [id, over] of this.#held) {
      over.abort(new AppError('canceled', `the lease ${id} is no longer kept alive: the state was closed`));
    }
    await this.#line.drained();
    await this.#keeper.close();
  }

  /** Within the caller's time, on an opened state. */
  async #call<T>(ctx: Ctx, work: () => Promise<T>): Promise<T> {
    const budget = createBudget(ctx, CALL_TIMEOUT_MS);
    try {
      return await budget.race(this.#open().then(work), CALL_TIMEOUT_MS);
    } catch (reason) {
      throw reason instanceof NoAnswer ? budget.failure('a call to the state of this host') : reason;
    }
  }

  async #open(): Promise<void> {
    this.#refuseClosed();
    await this.#keeper.ready();
    this.#refuseClosed();
    if (this.#opened) return;
    this.#opened = true;
    for (const [id, ttlMs] of this.#machine.leases) this.#letRunOut(id, ttlMs);
  }

  #refuseClosed(): void {
    if (this.#closed.signal.aborted)
      throw new AppError('unavailable', 'the connection to the state has been closed by us');
  }

  #write(ctx: Ctx, decide: () => Step | null): Promise<Step | null> {
    return this.#line.write(() => {
      // Nobody waits for it any more.
      if (ctx.signal.aborted) throw new AppError('canceled', 'given up before it was begun');
      return decide();
    });
  }

  /** Whoever has taken it over since it was asked for learns of it as well. */
  #revoke(id: string): Step | null {
    this.#held.get(id)?.abort(new AppError('conflict', `the lease ${id} was revoked`));
    return this.#machine.end(id);
  }

  #isHeld(id: string): boolean {
    return this.#held.get(id)?.signal.aborted === false;
  }

  #hold(id: string): AbortController {
    const held = this.#held.get(id);
    if (held?.signal.aborted === false) return held;
    const anew = new AbortController();
    this.#held.set(id, anew);
    return anew;
  }

  /** Kept alive by nobody: it ends, unless somebody here takes it over meanwhile. */
  #letRunOut(id: string, ttlMs: number): void {
    if (this.#isHeld(id)) this.#held.delete(id);
    const unlessHeld = () => (this.#isHeld(id) ? null : this.#machine.end(id));
    const end = async () => {
      let isOver = false;
      await sleep(ttlMs, this.#closed.signal);
      while (!isOver && !this.#closed.signal.aborted) {
        isOver = await this.#line.write(unlessHeld).then(
          () => true,
          () => false,
        );
        if (!isOver) await sleep(AGAIN_MS, this.#closed.signal);
      }
    };
    void end();
  }

  async #begin(watch: { readonly prefix: string; readonly emit: Emit }, closed: AbortSignal): Promise<void> {
    while (!closed.aborted) {
      const opened = await this.#open().then(
        () => true,
        () => false,
      );
      if (opened) break;
      await sleep(AGAIN_MS, closed);
    }
    await this.#line.read(() => {
      if (closed.aborted) return;
      // Before any change that follows: those come by the same queue.
      const snapshot = this.#machine.list(watch.prefix);
      this.#watches.add(watch);
      setImmediate(() => {
        if (!closed.aborted) watch.emit({ type: 'snapshot', snapshot });
      });
    });
  }

  #publish({ revision, changes: all }: Step): void {
    for (const watch of this.#watches) {
      const changes = all.filter((change) => keyOfChange(change).startsWith(watch.prefix));
      if (changes.length === 0) continue;
      setImmediate(() => {
        if (this.#watches.has(watch)) watch.emit({ type: 'changes', revision, changes });
      });
    }
  }
}
