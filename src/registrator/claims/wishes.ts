/** What one owner wants of each key, and whether that is all. */
import type { Wanted } from './step.js';

export class Wishes {
  readonly #wanted = new Map<string, Wanted>();
  /** Keys that are not to be there, until that is so; of all others that are not wanted nobody has spoken. */
  readonly #unwanted = new Set<string>();
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
    return [...this.#wanted.keys(), ...this.#unwanted];
  }

  has(key: string): boolean {
    return this.#wanted.has(key) || this.#unwanted.has(key);
  }

  of(key: string): Wanted | null {
    return this.#wanted.get(key) ?? null;
  }

  set(key: string, wanted: Wanted | null): void {
    if (wanted) {
      this.#wanted.set(key, wanted);
      this.#unwanted.delete(key);
    } else {
      this.#wanted.delete(key);
      this.#unwanted.add(key);
    }
  }

  /** A key that is not wanted is not there. */
  carriedOut(key: string): void {
    if (this.#areAll) this.#unwanted.delete(key);
  }

  later(key: string): void {
    this.#later.add(key);
  }

  /** @returns keys that are to be looked at now: that were put off, and of which nobody has seen that they are gone. */
  complete(keep: (source: string) => boolean): string[] {
    this.#areAll = true;
    this.#keep = keep;
    const later = [...this.#later, ...this.#unwanted];
    this.#later.clear();
    return later;
  }

  /** Whether what a process before wanted, from this source, stays as it is: unless somebody says of the key that it goes. */
  keeps(key: string, source: string): boolean {
    return !this.#unwanted.has(key) && this.#keep(source);
  }
}
