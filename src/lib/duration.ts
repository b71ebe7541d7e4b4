const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `500ms`, `25s`, `1.5h`, `7d` in milliseconds; undefined for anything else (a bare number says no unit). */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text);
  const factor = unitMs[match?.[2] ?? ''];
  return factor === undefined ? undefined : Math.round(Number(match?.[1]) * factor);
}

/** The shortest way to write it with one unit, e.g. `90s`, `7d`. */
export function formatDuration(ms: number): string {
  const fitting = Object.entries(unitMs).filter(([, factor]) => ms >= factor && ms % factor === 0);
  const [unit, factor] = fitting.at(-1) ?? ['ms', 1];
  return `${String(ms / factor)}${unit}`;
}
