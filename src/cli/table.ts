/** Text for people: columns, sizes, spans of time. What comes from outside is made fit for a terminal. */
import { formatSize } from '../lib/size.js';

/** Control and invisible characters would reach the terminal, which obeys some of them. */
export function plain(text: string): string {
  return text.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`,
  );
}

/** The same, but for the ends of lines. */
export function plainLines(text: string): string {
  return text.split('\n').map(plain).join('\n');
}

const GAP = '   ';

/** Rows below their heads, as wide as they need be; no space at the ends of lines. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const shown = [heads, ...rows.map((row) => row.map(plain))];
  const widths = heads.map((_, column) => Math.max(...shown.map((row) => widthOf(row[column] ?? ''))));
  return lines(shown.map((row) => row.map((cell, column) => pad(cell, widths[column] ?? 0)).join(GAP)));
}

/** `name   value` below each other. */
export function facts(rows: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...rows.map(([name]) => widthOf(name)));
  return lines(rows.map(([name, value]) => `${pad(name, width)}${GAP}${plain(value)}`));
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text.trimEnd()}\n`).join('');
}

function widthOf(text: string): number {
  return Array.from(text).length;
}

function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - widthOf(text)));
}

export function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** For columns: `73.42 GiB`. */
export function size(bytes: number): string {
  return formatSize(bytes).replace('about ', '');
}

const spans: readonly (readonly [seconds: number, unit: string])[] = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
];

/** Coarse, as for people: `45 s`, `12 min`, `3 h`, `2 d`. */
export function span(seconds: number): string {
  const [factor, unit] = spans.find(([least]) => seconds >= 2 * least) ?? [1, 's'];
  return `${String(Math.floor(seconds / factor))} ${unit}`;
}

/** `1 volume`, `2 volumes`. */
export function count(number: number, thing: string, things = `${thing}s`): string {
  return `${String(number)} ${number === 1 ? thing : things}`;
}

/** The first few of many, the number of the rest told. */
export function few(names: readonly string[], most = 5): string {
  const rest = names.length - most;
  return rest > 0 ? `${names.slice(0, most).join(', ')} and ${String(rest)} more` : names.join(', ');
}
