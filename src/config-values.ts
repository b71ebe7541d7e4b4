/** What the settings' texts may be, and what they mean. Each reader throws AppError `invalid_argument`. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { AppError } from './errors.js';
import { parseDuration } from './lib/duration.js';
import { quote } from './lib/quote.js';
import { formatSize, parseSize, sizeSyntax } from './lib/size.js';

/**
 * What a volume's size may be: the smallest that each file system's mkfs accepts (ext4: room for a journal), and
 * the largest. A multiple of 4096, as target, initiator and loop device then agree on the last block.
 */
export const sizeLimits = {
  multipleBytes: 4096,
  minBytes: { ext4: 16 * 1024 ** 2, xfs: 300 * 1024 ** 2, btrfs: 128 * 1024 ** 2 },
  maxBytes: 64 * 1024 ** 4,
} as const;
/** A pool is a directory: no slash, no leading dot. */
export const poolPattern = /^[a-z0-9][a-z0-9_.-]{0,62}$/;

/** A string that `read` turns into T; what it throws becomes the setting's error. */
export function text<T>(read: (value: string) => T) {
  return z.string().transform((value, context): T => {
    try {
      return read(value);
    } catch (reason) {
      context.addIssue({ code: 'custom', message: AppError.from(reason).message, input: value });
      return z.NEVER;
    }
  });
}

function refuse(value: string, allowed: string): AppError {
  return new AppError('invalid_argument', `${quote(value)} is not allowed: give ${allowed}`);
}

export function matching(pattern: RegExp, allowed: string) {
  return text((value) => {
    if (!pattern.test(value)) throw refuse(value, allowed);
    return value;
  });
}

export function wholeNumber(min: number, max: number) {
  return text((value) => {
    const number = /^\d{1,10}$/.test(value) ? Number(value) : NaN;
    if (number >= min && number <= max) return number;
    throw refuse(value, `a whole number from ${String(min)} to ${String(max)}`);
  });
}

export function duration(shortest: string, longest: string) {
  const [minMs, maxMs] = [parseDuration(shortest) ?? 0, parseDuration(longest) ?? 0];
  return text((value) => {
    const ms = parseDuration(value);
    if (ms !== undefined && ms >= minMs && ms <= maxMs) return ms;
    throw refuse(value, `a duration from ${shortest} to ${longest}, with its unit: ms, s, m, h or d`);
  });
}

/** A file the plugin sees: it is given the host's /var/lib (and /run, for the socket), nothing else. */
export function hostPath(root: string) {
  return (value: string): string => {
    const path = value.replace(/^\/var\/run\//, '/run/');
    const inside = path.startsWith(`${root}/`) && !path.endsWith('/') && !path.includes('//');
    if (inside && !path.split('/').some((part) => part === '.' || part === '..')) return path;
    throw refuse(value, `a path of the host below ${root}: the plugin sees no other directory`);
  };
}

export function endpoint(value: string): string {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  const extra = url ? `${url.username}${url.password}${url.search}${url.hash}${url.pathname.slice(1)}` : '';
  if (url && extra === '' && /^https?:$/.test(url.protocol)) return `${url.protocol}//${url.host}`;
  throw refuse(value, 'URLs like https://10.0.0.1:2379, separated by commas; user and password are settings');
}

export function targetPorts(value: string) {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(value);
  const [first, last] = [Number(match?.[1]), Number(match?.[2])];
  if (first >= 1024 && first <= last && last <= 65_535) return { first, last };
  throw refuse(value, 'FIRST-LAST, two ports from 1024 to 65535');
}

export function labels(value: string): Readonly<Record<string, string>> {
  const pairs = value === '' ? [] : value.split(',').map((pair) => pair.trim());
  const entries = pairs.map((pair): [string, string] => {
    const match = /^([a-zA-Z0-9][a-zA-Z0-9_./-]{0,62})=([a-zA-Z0-9_.:/-]{0,128})$/.exec(pair);
    if (match) return [match[1] ?? '', match[2] ?? ''];
    throw refuse(pair, 'KEY=VALUE pairs of letters, digits, "_", ".", "/" and "-", separated by commas');
  });
  const record = Object.fromEntries(entries);
  if (Object.keys(record).length === entries.length) return record;
  throw refuse(value, 'each label once');
}

/** Those that the plugin has (registrator/policies/built-in/). */
export const builtInNames = ['objects', 'services', 'vsm', 'skydns', 'loadbalancer'] as const;
export type BuiltInName = (typeof builtInNames)[number];

export function policies(value: string): readonly BuiltInName[] {
  if (value === 'none') return [];
  return value.split(',').map((given) => {
    const known = builtInNames.find((name) => name === given.trim());
    if (known !== undefined) return known;
    throw refuse(given, `some of ${builtInNames.join(', ')}, separated by commas, or none`);
  });
}

export function address(value: string): string {
  if (isIP(value) !== 0 && value !== '0.0.0.0' && value !== '::') return value;
  throw refuse(value, 'the one IP address of this host that the other hosts reach');
}

export function size(value: string): number {
  const bytes = parseSize(value, sizeLimits.multipleBytes);
  if (bytes === undefined) throw refuse(value, sizeSyntax);
  if (bytes <= sizeLimits.maxBytes) return bytes;
  throw refuse(value, `at most ${formatSize(sizeLimits.maxBytes)}`);
}

/** `ADDRESS:PORT`, with an address of IPv6 in brackets. */
export function listenAddress(value: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:]+)):(\d{1,5})$/.exec(value) ?? [];
  const host = bracketed ?? plain ?? '';
  const number = Number(port);
  if (isIP(host) !== 0 && number >= 1 && number <= 65_535) return { host, port: number };
  throw refuse(value, 'ADDRESS:PORT, an IP address and a port, or none');
}
