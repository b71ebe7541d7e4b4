import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';

export interface Row {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly bar: number;
  /** What the bar is made of, as measured in the same run. */
  readonly yardstick: string;
  readonly ok: boolean;
}

type Expected = Pick<Row, 'bar' | 'unit' | 'yardstick'>;

const rows: Row[] = [];

/** The value must not be above the bar. */
export function atMost(name: string, value: number, expected: Expected): void {
  rows.push({ name, value, ...expected, ok: value <= expected.bar });
}

export function atLeast(name: string, value: number, expected: Expected): void {
  rows.push({ name, value, ...expected, ok: value >= expected.bar });
}

const FILE = 'build/bench.json';

/** Prints the table, and puts it in build/bench.json in the place of what this bench measured before. */
export function report(bench: string): void {
  const round = (value: number) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
  const cells = rows.map((row) => [
    row.name,
    `${round(row.value)} ${row.unit}`,
    `${round(row.bar)} ${row.unit}`,
    row.ok ? 'ok' : 'MISSED',
    row.yardstick,
  ]);
  const table = [['what', 'measured', 'bar', '', 'yardstick of the same run'], ...cells];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
  const lines = table.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
  console.log(lines.join('\n'));
  mkdirSync('build', { recursive: true });
  const all = [...rowsOfOthers(bench), ...rows.map((row) => ({ bench, ...row }))];
  writeFileSync(FILE, `${JSON.stringify(all, null, 2)}\n`);
}

function rowsOfOthers(bench: string): unknown[] {
  try {
    const before = JSON.parse(readFileSync(FILE, 'utf8')) as { bench?: string }[];
    return before.filter((row) => row.bench !== undefined && row.bench !== bench);
  } catch {
    return [];
  }
}

export function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? NaN;
}

export function percentile(values: readonly number[], share: number): number {
  return values.toSorted((one, other) => one - other)[Math.ceil(values.length * share) - 1] ?? NaN;
}

export async function timedMs(operation: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await operation();
  return performance.now() - start;
}
