import type { AppError } from '../../errors.js';
import type { Log } from '../../log.js';
import { isConflict } from './merge.js';
import type { Seen, Wanted } from './step.js';

/** What people should know of keys: told once in the log, each time it begins. */
export class Troubles {
  readonly #log: Log;
  readonly #owner: string;
  readonly #conflicts = new Set<string>();
  readonly #foreign = new Set<string>();
  readonly #refused = new Set<string>();

  constructor(log: Log, owner: string) {
    this.#log = log;
    this.#owner = owner;
  }

  /** Keys whose owners want different values. */
  get conflicts(): string[] {
    return [...this.#conflicts];
  }

  /** Keys that somebody who is no owner has written. */
  get foreign(): string[] {
    return [...this.#foreign];
  }

  /** The store does not take the key, or its value. */
  refused(key: string, err: AppError): void {
    if (note(this.#refused, key, true)) this.#log.warn({ key, err }, 'a key cannot be registered');
  }

  look(
    key: string,
    { claims }: Seen,
    { wanted, isForeign }: { wanted: Wanted | null; isForeign: boolean },
  ): void {
    const others = claims.filter(({ owner }) => owner !== this.#owner);
    const mine = wanted && { ...wanted, owner: this.#owner, createRevision: 0 };
    if (note(this.#conflicts, key, mine !== null && isConflict([...others, mine]))) {
      const owners = others.map(({ owner }) => owner);
      this.#log.warn({ key, owners }, 'others want another value for a key: the rule for merging decides');
    }
    if (note(this.#foreign, key, isForeign && wanted !== null)) {
      this.#log.warn({ key }, 'a key that is wanted belongs to somebody else: it stays as it is');
    }
  }
}

/** Whether it begins to hold. */
function note(noted: Set<string>, key: string, holds: boolean): boolean {
  if (!holds) noted.delete(key);
  else if (!noted.has(key)) return Boolean(noted.add(key));
  return false;
}
