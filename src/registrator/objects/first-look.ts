/** When all that was there at the start has been looked at once. */
export class FirstLook {
  readonly #over = Promise.withResolvers<undefined>();
  #left: Set<string> | null = null;

  /** Resolves then. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** All was listed: these are still to be looked at. The first time counts. */
  listed(left: Iterable<string>): void {
    if (this.#left) return;
    this.#left = new Set(left);
    this.#settle();
  }

  done(key: string): void {
    if (this.#left?.delete(key)) this.#settle();
  }

  #settle(): void {
    if (this.#left?.size === 0) this.#over.resolve(undefined);
  }
}
