import { poolPattern, sizeLimits } from '../config-values.js';
import { AppError } from '../errors.js';
import { nearest } from '../lib/nearest.js';
import { quote } from '../lib/quote.js';
import { formatSize, parseSize, sizeSyntax } from '../lib/size.js';
import { fileSystems, type FileSystem } from '../state/records.js';
import { describeMkfsOptions, parseMkfsOptions } from './mkfs-options.js';
import { describeMountOptions, parseMountOptions } from './mount-options.js';

/** What a user asks of a volume: the part of its record that never changes by itself. */
export interface VolumeSpec {
  readonly sizeBytes: number;
  readonly fs: FileSystem;
  readonly mkfsOptions: string[];
  readonly mountOptions: string[];
  readonly uid: number;
  readonly gid: number;
  /** Permission bits of the volume's root, e.g. 0o755. */
  readonly mode: number;
  readonly pool: string;
}

export interface OptionDefaults {
  readonly sizeBytes: number;
  readonly fs: FileSystem;
  readonly pool: string;
}

/** uid and gid end one below 2^32: (uid_t)-1 means "leave as it is" to chown. */
const maxOwner = 2 ** 32 - 2;

/** The table of options: `-o help` prints it, README.md repeats it. */
export const optionRows = [
  ['size', 'size of the volume (thin: blocks are taken when written)', `${sizeSyntax}; at most 64 TiB`],
  ['fs', 'file system', fileSystems.join(', ')],
  ['mkfs', 'options for mkfs, e.g. "-m 0 -i 16384"', 'see below'],
  ['mount', 'mount options, e.g. "noatime,commit=30"', 'see below'],
  ['uid', "owner of the volume's root", `0 to ${String(maxOwner)}`],
  ['gid', "group of the volume's root", `0 to ${String(maxOwner)}`],
  ['mode', "permissions of the volume's root", 'four octal digits, 0000 to 7777'],
  ['pool', 'pool the volume is stored in', 'lower case letters, digits, "_", "." and "-"'],
  ['help', 'print this table and create nothing', 'anything'],
] as const;
const names = optionRows.map(([name]) => name);
type OptionName = (typeof names)[number];

/** What other drivers call them. */
const otherNames = new Map<string, OptionName>([
  ['capacity', 'size'],
  ['fstype', 'fs'],
  ['filesystem', 'fs'],
  ['filesystemtype', 'fs'],
  ['type', 'fs'],
  ['fsopts', 'mkfs'],
  ['mkfsopts', 'mkfs'],
  ['o', 'mount'],
  ['mountopts', 'mount'],
  ['mountoptions', 'mount'],
  ['fsowner', 'uid'],
  ['fsmode', 'mode'],
  ['storagepool', 'pool'],
]);

function fallbacks(defaults: OptionDefaults): Readonly<Record<OptionName, string>> {
  const size = formatSize(defaults.sizeBytes);
  return {
    size,
    fs: defaults.fs,
    mkfs: '',
    mount: '',
    uid: '0',
    gid: '0',
    mode: '0755',
    pool: defaults.pool,
    help: '',
  };
}

/** The answer to `-o help`. */
export function describeOptions(defaults: OptionDefaults): string {
  const fallback = fallbacks(defaults);
  const rows = [
    ['OPTION', 'DEFAULT', 'MEANING', 'ALLOWED'] as const,
    ...optionRows.map(([name, meaning, allowed]) => [name, fallback[name], meaning, allowed] as const),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
  const lists = fileSystems.flatMap((fs) => [
    `mkfs for ${fs}: ${describeMkfsOptions(fs)}`,
    `mount for ${fs}: ${describeMountOptions(fs)}`,
    `size for ${fs}: at least ${formatSize(sizeLimits.minBytes[fs])}`,
  ]);
  return ['options of the driver (nothing was created):', ...lines, '', ...lists].join('\n');
}

function refuse(option: OptionName, value: string, allowed: string): AppError {
  return new AppError(
    'invalid_argument',
    `option ${option}: ${quote(value)} is not allowed; allowed: ${allowed}`,
  );
}

function refuseName(name: string, value: string): AppError {
  const near = otherNames.get(name.toLowerCase()) ?? nearest(name, names);
  const hint = near === undefined ? '' : ` (did you mean ${near}?)`;
  return new AppError(
    'invalid_argument',
    `there is no option ${quote(name)} (given as ${quote(`${name}=${value}`)})${hint}; allowed: ${names.join(', ')}. "-o help" explains them`,
  );
}

/** A list's own refusal names the item; the user knows the whole that was given. */
function parseList(
  parse: (fs: FileSystem, text: string) => string[],
  fs: FileSystem,
  text: string,
): string[] {
  try {
    return parse(fs, text);
  } catch (reason) {
    const { code, message } = AppError.from(reason);
    throw new AppError(code, `${message} (given: ${quote(text, 200)})`, { cause: reason });
  }
}

function readSize(value: string | undefined, fs: FileSystem, fallbackBytes: number): number {
  const bytes = value === undefined ? fallbackBytes : parseSize(value, sizeLimits.multipleBytes);
  if (bytes === undefined) throw refuse('size', value ?? '', `${sizeSyntax}, e.g. 10G or 1.5GiB`);
  const text = value ?? formatSize(bytes);
  const least = sizeLimits.minBytes[fs];
  const unitMissing = /^\d+$/.test(text) && bytes < least ? ` (did you mean ${text}G?)` : '';
  if (bytes < least) {
    throw refuse('size', text, `at least ${formatSize(least)} for ${fs}${unitMissing}`);
  }
  if (bytes > sizeLimits.maxBytes) throw refuse('size', text, `at most ${formatSize(sizeLimits.maxBytes)}`);
  return bytes;
}

function readFs(value: string): FileSystem {
  const found = fileSystems.find((fs) => fs === value);
  if (found === undefined) throw refuse('fs', value, fileSystems.join(', '));
  return found;
}

function readOwner(option: 'uid' | 'gid', value: string): number {
  if (/^(0|[1-9]\d{0,9})$/.test(value) && Number(value) <= maxOwner) return Number(value);
  throw refuse(option, value, `a number from 0 to ${String(maxOwner)}`);
}

/**
 * Four digits always: YAML turns an unquoted 0777 into 511 before Docker sees it, and 511 would be a mode too.
 */
function readMode(value: string): number {
  if (/^(0o)?[0-7]{4}$/.test(value)) return Number.parseInt(value.slice(-4), 8);
  throw refuse('mode', value, 'four octal digits, e.g. 0755 or 1777 (in YAML in quotes: "0755")');
}

function readPool(value: string): string {
  if (poolPattern.test(value)) return value;
  throw refuse('pool', value, 'up to 63 lower case letters, digits, "_", "." and "-", the first no sign');
}

/**
 * Turns the strings of `-o key=value` into a spec. @throws AppError `invalid_argument` that names the option, the
 * value and what is allowed; for the option `help` its message is the table of options.
 */
export function parseOptions(
  options: Readonly<Record<string, string>>,
  defaults: OptionDefaults,
): VolumeSpec {
  const given = new Map(Object.entries(options));
  if (given.has('help')) throw new AppError('invalid_argument', describeOptions(defaults));
  const unknown = [...given.keys()].find((name) => !names.some((known) => known === name));
  if (unknown !== undefined) throw refuseName(unknown, given.get(unknown) ?? '');
  const read = (option: OptionName, fallback: string) => given.get(option) ?? fallback;
  const fs = readFs(read('fs', defaults.fs));
  return {
    sizeBytes: readSize(given.get('size'), fs, defaults.sizeBytes),
    fs,
    mkfsOptions: parseList(parseMkfsOptions, fs, read('mkfs', '')),
    mountOptions: parseList(parseMountOptions, fs, read('mount', '')),
    uid: readOwner('uid', read('uid', '0')),
    gid: readOwner('gid', read('gid', '0')),
    mode: readMode(read('mode', '0755')),
    pool: readPool(read('pool', defaults.pool)),
  };
}

function shownSpec(spec: VolumeSpec): readonly (readonly [OptionName, string])[] {
  return [
    ['size', `${formatSize(spec.sizeBytes)} (${String(spec.sizeBytes)} bytes)`],
    ['fs', spec.fs],
    ['mkfs', quote(spec.mkfsOptions.join(' '), 200)],
    ['mount', quote(spec.mountOptions.join(','), 200)],
    ['uid', String(spec.uid)],
    ['gid', String(spec.gid)],
    ['mode', spec.mode.toString(8).padStart(4, '0')],
    ['pool', spec.pool],
  ];
}

/** The first option in which they differ, e.g. `fs is ext4, asked for xfs`; undefined when they are the same. */
export function describeDifference(existing: VolumeSpec, wanted: VolumeSpec): string | undefined {
  const asked = shownSpec(wanted);
  const index = shownSpec(existing).findIndex(([, value], at) => value !== asked[at]?.[1]);
  if (index < 0) return undefined;
  const [name, value] = shownSpec(existing)[index] ?? ['size', ''];
  return `${name} is ${value}, asked for ${asked[index]?.[1] ?? ''}`;
}

export function sameSpec(existing: VolumeSpec, wanted: VolumeSpec): boolean {
  return describeDifference(existing, wanted) === undefined;
}
