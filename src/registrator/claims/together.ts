/** Steps of several keys in one transaction, and what becomes of keys that etcd refuses. */
import { AppError, hasCode } from '../../errors.js';
import type { Transaction } from '../../state/state.js';

/** What it takes to write the step of one key. */
export interface Prepared {
  readonly key: string;
  readonly transaction: Transaction;
}

/** etcd takes 128 comparisons and as many operations at once, and 1.5 MiB. */
const AT_ONCE = 120;
const AT_ONCE_CHARS = 400_000;
const AGAIN_MS = 30_000;

/** In as few transactions as it takes. A store without space takes away still: what has gone does not wait for the rest. */
export async function writeTogether(
  all: readonly Prepared[],
  write: (together: readonly Prepared[]) => Promise<void>,
): Promise<void> {
  try {
    for (const together of packed(all)) await write(together);
  } catch (reason) {
    const removals = all.filter(({ transaction }) => transaction.then.every((one) => 'delete' in one));
    if (hasCode(reason, 'no_space')) for (const together of packed(removals)) await write(together);
    throw reason;
  }
}

/** So many of them in order, but those that can come `later` behind all others. */
export function firstOf(keys: Iterable<string>, count: number, later: (key: string) => boolean): string[] {
  const [first, last]: [string[], string[]] = [[], []];
  for (const key of keys) {
    if (first.length === count) break;
    if (!later(key)) first.push(key);
    else if (last.length < count) last.push(key);
  }
  return [...first, ...last].slice(0, count);
}

/** Of several steps: what a store without space refuses to one of them holds up none of the others. */
export class Shortage {
  #reason: unknown;

  /** Null where there was no space for it. */
  async spare<T>(step: Promise<T>): Promise<T | null> {
    return step.catch((reason: unknown) => {
      if (!hasCode(reason, 'no_space')) throw reason;
      this.#reason = reason;
      return null;
    });
  }

  /** @throws what was refused. */
  end(): void {
    if (this.#reason !== undefined) throw AppError.from(this.#reason);
  }
}

/** As many together as one transaction takes, in order. */
function packed(all: readonly Prepared[]): Prepared[][] {
  const packs: Prepared[][] = [];
  let [size, chars] = [Infinity, 0];
  for (const one of all) {
    const more = Math.max(one.transaction.if.length, one.transaction.then.length);
    const longer = charsOf(one.transaction);
    if (size + more > AT_ONCE || chars + longer > AT_ONCE_CHARS) {
      packs.push([]);
      [size, chars] = [0, 0];
    }
    packs.at(-1)?.push(one);
    size += more;
    chars += longer;
  }
  return packs;
}

export function join(together: readonly Prepared[]): Transaction {
  const all = together.map(({ transaction }) => transaction);
  return { if: all.flatMap((one) => one.if), then: all.flatMap((one) => one.then) };
}

function charsOf({ then }: Transaction): number {
  return then.reduce(
    (sum, one) => sum + ('put' in one ? one.put.length + one.value.length : one.delete.length),
    0,
  );
}

/** The same again gets the same answer. */
export function isRefusal(reason: unknown): boolean {
  const { message } = AppError.from(reason);
  return hasCode(reason, 'invalid_argument', 'internal') || message.includes('denies user');
}

/** Keys that are looked at again in a while, and hold up none of the others meanwhile. */
export class SetAside {
  readonly #keys = new Set<string>();
  readonly #again: (keys: readonly string[]) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(again: (keys: readonly string[]) => void) {
    this.#again = again;
  }

  add(key: string): void {
    this.#keys.add(key);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const all = [...this.#keys];
      this.#keys.clear();
      this.#again(all);
    }, AGAIN_MS).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }
}
