export interface Backoff {
  /** Milliseconds to wait before the next try: doubles up to the cap, half of it at random. */
  nextMs(): number;
  reset(): void;
}

/** Endless retries spread out: the random half keeps many hosts from coming back in step. */
export function createBackoff(options: { minMs: number; maxMs: number; random?: () => number }): Backoff {
  const random = options.random ?? Math.random;
  let currentMs = options.minMs;
  return {
    nextMs() {
      const waitMs = currentMs / 2 + (currentMs / 2) * random();
      currentMs = Math.min(currentMs * 2, options.maxMs);
      return waitMs;
    },
    reset() {
      currentMs = options.minMs;
    },
  };
}
