function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let line = 1; line <= a.length; line += 1) {
    const next = [line];
    for (let column = 1; column <= b.length; column += 1) {
      const replace = (row[column - 1] ?? 0) + (a[line - 1] === b[column - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The candidate a person most likely meant, or undefined when none is near: at most two slips, fewer for short words. */
export function nearest(text: string, candidates: readonly string[]): string | undefined {
  if (text.length > 40) return undefined;
  const word = text.toLowerCase();
  const ranked = candidates
    .map((candidate) => ({ candidate, slips: distance(word, candidate.toLowerCase()) }))
    .filter(({ candidate, slips }) => slips <= (candidate.length > 3 ? 2 : 1))
    .sort((a, b) => a.slips - b.slips);
  return ranked[0]?.candidate;
}
