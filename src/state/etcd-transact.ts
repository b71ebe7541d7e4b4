/**
 * A transaction whose answer is lost may have been carried out, may be on its way, or may never have left. Sending
 * it again blindly could do it twice, giving up could leave a write nobody knows about. So the answer is read
 * from etcd, in one linearizable read of all keys concerned:
 *
 * - one of the values we put is there: it was carried out (values are unique, and it is all or nothing);
 * - every comparison still holds: it was not carried out yet. If carrying it out would make one of its own
 *   comparisons false, then at most one of two copies can ever take effect, and it is sent again. Otherwise a late
 *   first copy could undo a later write, so the caller is told that it did not happen as far as can be seen;
 * - neither: somebody changed a key. If that key's older versions show our value, we were first and they came
 *   after; if not, the comparison failed; if they cannot be had any more, the caller is told that it is not known.
 *   (Put by us, then deleted and created anew by another, before we could read: this too is reported as failed.
 *   Nothing of ours stands then, so the caller's next step is the same.)
 *
 * A transaction that only deletes leaves no value: it counts as carried out when all its keys are gone, which is
 * the same to everybody, whoever did it. NOSPACE is a doubt too: etcd may write and refuse in the same breath.
 */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { createBackoff } from '../lib/backoff.js';
import type { Budget } from './budget.js';
import { moreTelling, type EtcdClient } from './etcd-client.js';
import { endOf, toCompare, toEntry, toRequest } from './etcd-codec.js';
import type { Verdict } from './etcd-errors.js';
import { holds, keyOf, mayBeSentTwice } from './transaction.js';
import type { Entry, Transaction, TransactResult } from './state.js';

/** A key that others write all the time is covered often while an answer is waited for. */
const versionsToSearch = 500;

export async function transact(
  client: EtcdClient,
  ctx: Ctx,
  transaction: Transaction,
): Promise<TransactResult> {
  const budget = client.budget(ctx);
  const backoff = createBackoff({ minMs: 20, maxMs: 500 });
  const doing = describe(transaction);
  let last: AppError | undefined;
  let doubted = false;
  while (!budget.spent()) {
    try {
      const result = await send(client, budget, transaction);
      if (result.ok || !doubted) return result;
      // An earlier copy may have arrived in the meantime and be the very reason.
      return await settle(client, budget, transaction);
    } catch (reason) {
      const { verdict, error } = client.failed(reason);
      if (verdict === 'final') throw error;
      last = moreTelling(last, new AppError(error.code, `${doing}: ${error.message}`, { cause: error }));
      if (inDoubt(verdict)) {
        doubted = true;
        const result = await resolve(client, budget, transaction, last);
        if (result) return result;
      }
      await budget.pause(backoff.nextMs());
    }
  }
  const failure = budget.failure(doing, last);
  throw doubted ? unknownOutcome(failure) : failure;
}

function inDoubt(verdict: Verdict): boolean {
  return verdict === 'doubt' || verdict === 'no_space';
}

async function send(client: EtcdClient, budget: Budget, transaction: Transaction): Promise<TransactResult> {
  const request = { compare: transaction.if.map(toCompare), success: transaction.then.map(toRequest) };
  const answer = await client.attempt(budget, (etcd, options) => etcd.kv.txn(request, options));
  if (!answer.succeeded) return { ok: false, reason: 'compare_failed' };
  return { ok: true, revision: Number(answer.header.revision) };
}

/** What became of a transaction in doubt; undefined means it was not carried out yet and may be sent again. */
async function resolve(
  client: EtcdClient,
  budget: Budget,
  transaction: Transaction,
  doubt: AppError,
): Promise<TransactResult | undefined> {
  let stored: Stored;
  try {
    stored = await readBack(client, budget, transaction);
  } catch (cause) {
    throw unknownOutcome(budget.signal.aborted ? AppError.from(cause) : doubt);
  }
  const revision = carriedOutAt(transaction, stored);
  if (revision !== undefined) return { ok: true, revision };
  if (!transaction.if.every((comparison) => holds(comparison, stored.entries))) {
    return settle(client, budget, transaction);
  }
  if (doubt.code === 'no_space') throw doubt;
  if (mayBeSentTwice(transaction)) return undefined;
  throw new AppError(doubt.code, `${doubt.message} (it was not carried out when read back)`, {
    cause: doubt,
  });
}

/** Somebody changed a key it compares with: we, or another? */
async function settle(client: EtcdClient, budget: Budget, transaction: Transaction): Promise<TransactResult> {
  try {
    const stored = await readBack(client, budget, transaction);
    const revision =
      carriedOutAt(transaction, stored) ?? (await searchHistory(client, budget, transaction, stored));
    return revision === undefined ? { ok: false, reason: 'compare_failed' } : { ok: true, revision };
  } catch (reason) {
    throw unknownOutcome(AppError.from(reason));
  }
}

/** With a code that does not promise that nothing has happened. */
function unknownOutcome(error: AppError): AppError {
  const { code: told } = error;
  const code = told === 'deadline_exceeded' || told === 'canceled' ? told : 'unavailable';
  return new AppError(code, `${error.message} (whether it was carried out is not known)`, { cause: error });
}

interface Stored {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly revision: number;
}

async function readBack(client: EtcdClient, budget: Budget, transaction: Transaction): Promise<Stored> {
  const keys = new Set([
    ...transaction.if.flatMap((comparison) => ('key' in comparison ? [comparison.key] : [])),
    ...transaction.then.map(keyOf),
  ]);
  const success = [
    ...[...keys].map((key) => ({ request_range: { key: Buffer.from(key) } })),
    ...transaction.if.flatMap((comparison) =>
      'prefix' in comparison
        ? [{ request_range: { key: Buffer.from(comparison.prefix), range_end: endOf(comparison.prefix) } }]
        : [],
    ),
  ];
  // Comparisons and operations may name 128 keys each, and a transaction reads at most 128.
  const halves = [success.slice(0, 128), success.slice(128)].filter((half) => half.length > 0);
  const entries = new Map<string, Entry>();
  let revision = 0;
  for (const half of halves) {
    const answer = await client.repeat(budget, 'reading back a transaction', (etcd, options) =>
      etcd.kv.txn({ success: half }, options),
    );
    for (const { response_range } of answer.responses) {
      for (const kv of response_range.kvs) entries.set(kv.key.toString(), toEntry(kv));
    }
    revision = Number(answer.header.revision);
  }
  return { entries, revision };
}

function carriedOutAt(transaction: Transaction, { entries, revision }: Stored): number | undefined {
  for (const operation of transaction.then) {
    if ('delete' in operation || operation.common) continue;
    const entry = entries.get(operation.put);
    if (entry?.value === operation.value) return entry.modRevision;
  }
  return isGone(transaction, entries) ? revision : undefined;
}

/** All it deletes is absent, and what else it compared with stands as it should. */
function isGone(transaction: Transaction, entries: Stored['entries']): boolean {
  const deleted = new Set(transaction.then.map(keyOf));
  return (
    deleted.size > 0 &&
    transaction.then.every((operation) => 'delete' in operation && !entries.has(operation.delete)) &&
    transaction.if.every(
      (comparison) => ('key' in comparison && deleted.has(comparison.key)) || holds(comparison, entries),
    )
  );
}

/**
 * Looks for a value of ours that other writes have already covered.
 * @throws AppError `conflict` when what was there before has been compacted, or too many came after it
 */
async function searchHistory(
  client: EtcdClient,
  budget: Budget,
  transaction: Transaction,
  { entries }: Stored,
): Promise<number | undefined> {
  for (const operation of transaction.then) {
    if ('delete' in operation || operation.common) continue;
    const oldest = comparedRevision(transaction, operation.put);
    let entry = entries.get(operation.put);
    for (let step = 0; entry !== undefined; step++) {
      if (entry.value === operation.value) return entry.modRevision;
      if (entry.modRevision <= entry.createRevision || entry.modRevision <= oldest) break;
      if (step === versionsToSearch)
        throw new AppError('conflict', `${operation.put} was written more than ${String(step)} times since`);
      entry = await readAt(client, budget, operation.put, entry.modRevision - 1);
    }
  }
  return undefined;
}

/** What a put of ours comes after; 0 when that is not known. */
function comparedRevision({ if: comparisons }: Transaction, key: string): number {
  const found = comparisons.find((comparison) => 'key' in comparison && comparison.key === key);
  return found !== undefined && 'modRevision' in found ? found.modRevision : 0;
}

async function readAt(
  client: EtcdClient,
  budget: Budget,
  key: string,
  revision: number,
): Promise<Entry | undefined> {
  const request = { key: Buffer.from(key), revision };
  const answer = await client.repeat(budget, `reading ${key}`, (etcd, options) =>
    etcd.kv.range(request, options),
  );
  const [kv] = answer.kvs;
  return kv === undefined ? undefined : toEntry(kv);
}

function describe({ if: comparisons, then: operations }: Transaction): string {
  const [first] = operations;
  const [compared] = comparisons.flatMap((comparison) => ('key' in comparison ? [comparison.key] : []));
  const key = first === undefined ? (compared ?? 'nothing') : keyOf(first);
  const more = operations.length > 1 ? ` and ${String(operations.length - 1)} more` : '';
  return `writing ${key}${more}`;
}
