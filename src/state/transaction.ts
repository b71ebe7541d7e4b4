import { AppError } from '../errors.js';
import type { Comparison, Entry, Operation, Transaction } from './state.js';

/** etcd's default for --max-txn-ops. */
const maxOperations = 128;

export function keyOf(operation: Operation): string {
  return 'delete' in operation ? operation.delete : operation.put;
}

/** Does the comparison hold for what is stored now, as far as it concerns it? */
export function holds(comparison: Comparison, entries: ReadonlyMap<string, Entry>): boolean {
  if ('prefix' in comparison) return hasNoPutAfter(comparison, entries);
  const stored = entries.get(comparison.key);
  if ('absent' in comparison) return stored === undefined;
  if ('value' in comparison) return stored?.value === comparison.value;
  if ('createRevision' in comparison) return (stored?.createRevision ?? 0) === comparison.createRevision;
  return (stored?.modRevision ?? 0) === comparison.modRevision;
}

function hasNoPutAfter(
  { prefix, noPutAfter }: { prefix: string; noPutAfter: number },
  entries: ReadonlyMap<string, Entry>,
): boolean {
  for (const { key, modRevision } of entries.values()) {
    if (modRevision > noPutAfter && key.startsWith(prefix)) return false;
  }
  return true;
}

/**
 * True if carrying it out makes one of its own comparisons false, so that of two copies under way at most one can
 * do anything; or if it does nothing at all.
 */
export function mayBeSentTwice({ if: comparisons, then: operations }: Transaction): boolean {
  if (operations.length === 0) return true;
  const changed = new Map(operations.map((operation) => [keyOf(operation), 'delete' in operation]));
  return comparisons.some((comparison) => {
    if ('prefix' in comparison) {
      return [...changed].some(([key, deleted]) => !deleted && key.startsWith(comparison.prefix));
    }
    const deleted = changed.get(comparison.key);
    if (deleted === undefined) return false;
    if ('absent' in comparison) return !deleted;
    // Another may have put the same value.
    if ('value' in comparison) return false;
    if ('modRevision' in comparison) return comparison.modRevision > 0 || !deleted;
    return comparison.createRevision > 0 ? deleted : !deleted;
  });
}

/** @throws AppError `invalid_argument` for what etcd would refuse, `conflict` for a lease that may be gone. */
export function checkTransaction({ if: comparisons, then: operations }: Transaction): void {
  if (operations.length > maxOperations || comparisons.length > maxOperations) {
    throw new AppError(
      'invalid_argument',
      `a transaction has at most ${String(maxOperations)} operations and as many comparisons, this one has ` +
        `${String(operations.length)} and ${String(comparisons.length)}: split it`,
    );
  }
  const keys = operations.map(keyOf);
  const twice = keys.find((key, index) => keys.indexOf(key) !== index);
  if (twice !== undefined || keys.includes('')) {
    throw new AppError(
      'invalid_argument',
      `a transaction names the key "${twice ?? ''}" twice or has an empty key`,
    );
  }
  const late = operations.find((operation) => 'put' in operation && operation.lease?.lost?.aborted);
  if (late) throw new AppError('conflict', `the lease for ${keyOf(late)} may have run out: grant a new one`);
}
