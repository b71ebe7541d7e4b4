export interface JournalIndex {
  readonly size: number;
  has(key: string): boolean;
  add(key: string): void;
  /** What has to go to keep to the bounds, oldest first, at most `atMost`. */
  surplus(bounds: JournalBounds, atMost: number): string[];
  remove(keys: readonly string[]): void;
}

export interface JournalBounds {
  maxRecords: number;
  /** Keys that sort before this one are too old. */
  oldestKey: string;
  /** Keys that sort after this one come from a clock that was ahead: they must not crowd out what is new. */
  newestKey: string;
}

/** The keys of one node's journal in order, kept in memory so that trimming reads nothing. */
export function createJournalIndex(): JournalIndex {
  const known = new Set<string>();
  let sorted: string[] = [];

  return {
    get size() {
      return known.size;
    },
    has: (key) => known.has(key),
    add(key) {
      if (known.has(key)) return;
      known.add(key);
      // Nearly always the last: events come in order but for a few.
      let at = sorted.length;
      while (at > 0 && (sorted[at - 1] ?? '') > key) at -= 1;
      if (at === sorted.length) sorted.push(key);
      else sorted.splice(at, 0, key);
    },
    surplus(bounds, atMost) {
      const tooOld = sorted.slice(0, atMost).filter((key) => key < bounds.oldestKey);
      const tooMany = Math.min(known.size - bounds.maxRecords, atMost);
      if (tooMany <= tooOld.length) return tooOld;
      const ahead = sorted.slice(-tooMany).filter((key) => key > bounds.newestKey);
      return [...ahead, ...sorted.slice(0, tooMany - ahead.length)];
    },
    remove(keys) {
      for (const key of keys) known.delete(key);
      sorted = sorted.filter((key) => known.has(key));
    },
  };
}
