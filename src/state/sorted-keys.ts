/** Keys in their order, so that those with a prefix stand together: with ten thousands of events a look at all takes too long. */
export class SortedKeys {
  readonly #keys: string[] = [];

  add(key: string): void {
    const at = this.#indexOf(key);
    if (this.#keys[at] !== key) this.#keys.splice(at, 0, key);
  }

  remove(key: string): void {
    const at = this.#indexOf(key);
    if (this.#keys[at] === key) this.#keys.splice(at, 1);
  }

  below(prefix: string): string[] {
    const from = this.#indexOf(prefix);
    let to = from;
    while (this.#keys[to]?.startsWith(prefix) === true) to += 1;
    return this.#keys.slice(from, to);
  }

  /** Of the first key that is not before this one. */
  #indexOf(key: string): number {
    let [from, to] = [0, this.#keys.length];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((this.#keys[middle] ?? '') < key) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}
