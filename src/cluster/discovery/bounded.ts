/** What every discovery promises, whatever is behind it: an end in time, a bound in number, errors in our words. */
import { once } from 'node:events';
import { type Ctx, withDeadline } from '../../context.js';
import { AppError } from '../../errors.js';
import { formatAddress } from './address.js';
import { type Address, type Discovery, findLimits } from './discovery.js';

export interface Search {
  /** For messages. */
  readonly name: string;
  /** What a user can do about one that does not answer. */
  readonly wayOut: string;
  /** May find doubles, too many, throw anything, and take no notice of the signal. */
  readonly find: (ctx: Ctx) => Promise<readonly Address[]>;
  readonly limitMs?: number | undefined;
}

export function bounded(search: Search): Discovery {
  return { find: (ctx) => findWithin(ctx, search) };
}

async function findWithin(ctx: Ctx, { name, wayOut, find, limitMs = findLimits.ms }: Search) {
  const within = withDeadline(ctx, limitMs);
  const settled = new AbortController();
  try {
    within.signal.throwIfAborted();
    const finding = find(within);
    const late = once(within.signal, 'abort', { signal: settled.signal }).then(() => null);
    const found = await Promise.race([finding, late]);
    if (found === null) throw within.signal.reason;
    return distinct(found).map(({ host, port }) => ({ host, port, from: name }));
  } catch (cause) {
    if (ctx.signal.aborted)
      throw new AppError('canceled', `discovery ${name}: the caller gave up`, { cause });
    if (within.signal.aborted) {
      const text = `discovery ${name}: no answer within ${String(limitMs / 1000)} s: ${wayOut}`;
      throw new AppError('unavailable', text, { cause });
    }
    const { code, message } = AppError.from(cause, 'unavailable');
    throw new AppError(code, `discovery ${name}: ${message}`, { cause });
  } finally {
    settled.abort();
  }
}

function distinct(found: readonly Address[]): Address[] {
  const byText = new Map<string, Address>();
  for (const address of found) {
    if (byText.size === findLimits.peers) break;
    byText.set(formatAddress(address), address);
  }
  return [...byText.values()];
}
