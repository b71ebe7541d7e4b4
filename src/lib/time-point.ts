/**
 * Points in time as people write them, the way `docker events --since` takes them. Nanoseconds since 1970 in a bigint:
 * two events may be apart by less than a number of milliseconds tells.
 */
import { AppError } from '../errors.js';
import { parseDuration } from './duration.js';
import { quote } from './quote.js';

/** How points in time are written, for messages. */
export const timePointSyntax =
  'a time as 2026-01-02T03:04:05.678Z (RFC 3339, with its zone), seconds since 1970 as 1767323045.678, ' +
  'or how long ago as 10m or 1h30m (units: ms, s, m, h, d)';

const NANOS_PER_MS = 1_000_000n;

/**
 * The moment that `text` stands for, in nanoseconds since 1970; what is before 1970 is 1970.
 * @param name of the parameter, for the message
 * @param nowMs what durations count back from, as Date.now()
 * @throws AppError `invalid_argument` that says what is allowed
 */
export function parseTimePoint(name: string, text: string, nowMs: number): bigint {
  const nanos = fromUnix(text) ?? fromAgo(text, nowMs) ?? fromRfc3339(text);
  if (nanos === undefined)
    throw new AppError('invalid_argument', `${name} is ${quote(text)}: give ${timePointSyntax}`);
  return nanos < 0n ? 0n : nanos;
}

function fromUnix(text: string): bigint | undefined {
  const match = /^(\d{1,11})(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) return undefined;
  return BigInt(match[1] ?? '') * 1_000_000_000n + fraction(match[2]);
}

function fromAgo(text: string, nowMs: number): bigint | undefined {
  if (!/^(?:[\d.]+[a-z]+){1,8}$/.test(text)) return undefined;
  let agoMs = 0;
  for (const [part] of text.matchAll(/[\d.]+[a-z]+/g)) agoMs += parseDuration(part) ?? NaN;
  return Number.isNaN(agoMs) ? undefined : BigInt(nowMs - agoMs) * NANOS_PER_MS;
}

// In a query string a "+" that was not escaped arrives as a space: before hours it can be nothing else.
const rfc3339 =
  /^(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+ -])([01]\d|2[0-3]):([0-5]\d))$/;

function fromRfc3339(text: string): bigint | undefined {
  const [, date = '', time = '', digits, sign, hours = '0', minutes = '0'] = rfc3339.exec(text) ?? [];
  const local = `${date}T${time}.000Z`;
  const ms = Date.parse(local);
  // Date.parse makes the 2nd of March of the 30th of February.
  if (Number.isNaN(ms) || new Date(ms).toISOString() !== local) return undefined;
  const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000 * (sign === '-' ? -1 : 1);
  return BigInt(ms - offsetMs) * NANOS_PER_MS + fraction(digits);
}

function fraction(digits = ''): bigint {
  return BigInt(digits.padEnd(9, '0'));
}
