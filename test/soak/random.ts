/** The same seed gives the same faults in the same order. */
export interface Random {
  /** An integer from 0 to limit - 1. */
  below(limit: number): number;
}

/** mulberry32: small, and good enough to choose among faults. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    below(limit) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
    },
  };
}

export function pick<T extends { readonly weight: number }>(random: Random, from: readonly T[]): T {
  let left = random.below(from.reduce((sum, { weight }) => sum + weight, 0));
  for (const one of from) {
    if (left < one.weight) return one;
    left -= one.weight;
  }
  throw new Error('nothing to pick from');
}
