/** How often strangers are answered. */

/** A search takes three of a host's; more hosts than `ALL` that search within a second ask again. */
const FROM_ONE = 8;
const ALL = 64;
const WINDOW_MS = 1000;

export class ReplyBudget {
  readonly #bySource = new Map<string, number>();
  #startMs = -Infinity;
  #left = ALL;

  /** False: this one is to stay without an answer. */
  take(source: string, nowMs = performance.now()): boolean {
    if (nowMs - this.#startMs >= WINDOW_MS) {
      this.#startMs = nowMs;
      this.#left = ALL;
      this.#bySource.clear();
    }
    const count = this.#bySource.get(source) ?? 0;
    if (this.#left === 0 || count === FROM_ONE) return false;
    this.#left -= 1;
    this.#bySource.set(source, count + 1);
    return true;
  }
}
