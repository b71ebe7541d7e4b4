import { AppError, type ErrorCode } from '../../src/errors.js';
import { createMemoryState } from '../../src/state/memory-state.js';
import type { Lease, State, Transaction } from '../../src/state/state.js';

/** Shared state in memory whose faults a test turns on and off, and which remembers what was asked of it. */
export interface FaultyState extends State {
  /** Every call fails with this code while it is set. */
  failing: ErrorCode | null;
  /** Transactions take this long. */
  slowMs: number;
  /** The next transaction is carried out, but its answer is lost. */
  loseAnswer: boolean;
  readonly transactions: readonly Transaction[];
  readonly ranges: readonly string[];
  readonly leases: readonly Lease[];
}

export function createFaultyState(): FaultyState {
  const memory = createMemoryState();
  const transactions: Transaction[] = [];
  const ranges: string[] = [];
  const leases: Lease[] = [];
  const check = () => {
    if (state.failing !== null) throw new AppError(state.failing, 'the store is away for a test');
  };
  const state: FaultyState = {
    failing: null,
    slowMs: 0,
    loseAnswer: false,
    transactions,
    ranges,
    leases,
    async get(ctx, key) {
      check();
      return memory.get(ctx, key);
    },
    async range(ctx, prefix) {
      check();
      ranges.push(prefix);
      return memory.range(ctx, prefix);
    },
    async transact(ctx, transaction) {
      check();
      if (state.slowMs > 0) await new Promise((resolve) => setTimeout(resolve, state.slowMs));
      check();
      transactions.push(transaction);
      const result = await memory.transact(ctx, transaction);
      if (!state.loseAnswer) return result;
      state.loseAnswer = false;
      throw new AppError('unavailable', 'the answer was lost for a test');
    },
    watch: (prefix, listener) => memory.watch(prefix, listener),
    async lease(ctx, ttlMs, id) {
      check();
      const lease = await memory.lease(ctx, ttlMs, id);
      leases.push(lease);
      return lease;
    },
    close: () => memory.close(),
  };
  return state;
}
