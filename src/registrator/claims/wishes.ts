/** What one owner wants of each key, and whether that is all. */
import type { Wanted } from './step.js';

export class Wishes {
  /** A null is a wish too, until all is known: it tells a key that is not wanted from one that nobody spoke of yet. */
  readonly #wanted = new Map<string, Wanted | null>();
  /** Keys that were met before all was known, and that are to be cleared up or withdrawn then. */
  readonly #later = new Set<string>();
  #areAll = false;
  #keep: (source: string) => boolean = () => false;

  get size(): number {
    return this.#wanted.size;
  }

  /** All that is wanted has been said. */
  get areAll(): boolean {
    return this.#areAll;
  }

  keys(): string[] {
    return [...this.#wanted.keys()];
  }

  has(key: string): boolean {
    return this.#wanted.has(key);
  }

  of(key: string): Wanted | null {
    return this.#wanted.get(key) ?? null;
  }

  set(key: string, wanted: Wanted | null): void {
    if (wanted || !this.#areAll) this.#wanted.set(key, wanted);
    else this.#wanted.delete(key);
  }

  later(key: string): void {
    this.#later.add(key);
  }

  /** @returns keys that were to be looked at later. */
  complete(keep: (source: string) => boolean): string[] {
    this.#areAll = true;
    this.#keep = keep;
    for (const [key, wanted] of this.#wanted) if (!wanted) this.#wanted.delete(key);
    const later = [...this.#later];
    this.#later.clear();
    return later;
  }

  /** Whether what a process before wanted, from this source, stays as it is. */
  keeps(source: string): boolean {
    return this.#keep(source);
  }
}
