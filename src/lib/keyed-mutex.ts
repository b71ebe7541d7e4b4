/**
 * One operation at a time per key, in order of arrival; different keys run side by side.
 *
 * INVARIANT: whoever waits on an aborted signal leaves the queue without running, and never breaks the order of
 * the others.
 */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(key: string, signal: AbortSignal, operation: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: done, resolve: finish } = Promise.withResolvers<undefined>();
    const tail = before.then(() => done);
    this.#tails.set(key, tail);
    // Not when we are done: who leaves the queue early leaves others before it who still hold the key.
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    try {
      await aborted(before, signal);
      return await operation();
    } finally {
      finish(undefined);
    }
  }
}

async function aborted(turn: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => {
    reject(signal.reason as Error);
  };
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([promise, turn]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
