/** Which objects are to be looked at: each once, in the order of their first hint, and no two looks at one at once. */
import type { ObjectKind } from '../../docker/objects.js';

export interface Hint {
  readonly key: string;
  readonly kind: ObjectKind;
  readonly id: string;
  /** By the monotonic clock, in milliseconds. */
  readonly since: number;
}

export function keyOf(kind: ObjectKind, id: string): string {
  return `${kind} ${id}`;
}

export class Hints {
  readonly #hints = new Map<string, Hint>();
  /** Somebody has taken them: waits for more hints of them, or looks. */
  readonly #taken = new Set<string>();
  readonly #looking = new Set<string>();

  get size(): number {
    return this.#hints.size + this.#taken.size;
  }

  get keys(): string[] {
    return [...this.#hints.keys(), ...this.#taken];
  }

  /** Whether it is news. */
  add(kind: ObjectKind, id: string): boolean {
    const key = keyOf(kind, id);
    if (this.#hints.has(key)) return false;
    this.#hints.set(key, { key, kind, id, since: performance.now() });
    return true;
  }

  /** The oldest of an object that nobody has taken. */
  take(): Hint | undefined {
    for (const [key, hint] of this.#hints) {
      if (this.#taken.has(key)) continue;
      this.#taken.add(key);
      return hint;
    }
    return undefined;
  }

  /** What is hinted at from here on is another look. False: it was dropped meanwhile. */
  begin(hint: Hint): boolean {
    if (this.#hints.get(hint.key) !== hint) return false;
    this.#hints.delete(hint.key);
    this.#looking.add(hint.key);
    return true;
  }

  /** Whether there is another hint of it. */
  end({ key }: Hint): boolean {
    this.#looking.delete(key);
    this.#taken.delete(key);
    return this.#hints.has(key);
  }

  /** False while somebody looks at it: what is seen then may be older than the reason to drop it. */
  drop(key: string): boolean {
    if (this.#looking.has(key)) return false;
    this.#hints.delete(key);
    return true;
  }
}
