import type { DryRun } from './run.js';

type Format = 'text' | 'json';

/** Keys with their values, sorted. */
export function showKeys(found: ReadonlyMap<string, string>, format: Format): string {
  const sorted = [...found].toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (format === 'json') return `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`;
  if (sorted.length === 0) return 'nothing is registered\n';
  return sorted.map(([key, value]) => `${key} = ${value}\n`).join('');
}

/** `+` would be made, `~` changed, `-` removed; `!` belongs to somebody else and stays. */
export function showDryRun(found: DryRun, format: Format): string {
  if (format === 'json') return `${JSON.stringify(found, null, 2)}\n`;
  const changes = found.differences.map(({ key, now, then, isForeign }) => {
    if (isForeign) return `! ${key} = ${now ?? ''}`;
    if (then === null) return `- ${key} = ${now ?? ''}`;
    return now === null ? `+ ${key} = ${then}` : `~ ${key} = ${now} -> ${then}`;
  });
  const services = found.consul.map(({ key, value }) => `  ${key} = ${value}`);
  const problems = found.problems.map(({ name, problem }) => `  ${name}: ${problem}`);
  const count = (sign: string) => changes.filter((line) => line.startsWith(sign)).length;
  const summary =
    `etcd: ${String(count('+'))} to make, ${String(count('~'))} to change, ${String(count('-'))} to remove, ` +
    `${String(count('!'))} of somebody else; ${String(found.unchanged)} are as they should be`;
  return [
    ...changes,
    ...(services.length > 0 ? ['services at Consul:', ...services] : []),
    ...(problems.length > 0 ? ['policies with a problem:', ...problems] : []),
    summary,
    '',
  ].join('\n');
}
