import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { parseTimePoint } from '../../../src/lib/time-point.js';

const nowMs = Date.parse('2026-01-02T03:04:05.678Z');
const read = (text: string) => parseTimePoint('since', text, nowMs);

describe('parseTimePoint', () => {
  it.each([
    ['0', 0n],
    ['1767323045', 1_767_323_045_000_000_000n],
    ['1767323045.5', 1_767_323_045_500_000_000n],
    ['1767323045.123456789', 1_767_323_045_123_456_789n],
    ['1767323045.000000001', 1_767_323_045_000_000_001n],
    ['1970-01-01T00:00:00Z', 0n],
    ['2026-01-02T03:04:05Z', 1_767_323_045_000_000_000n],
    ['2026-01-02t03:04:05z', 1_767_323_045_000_000_000n],
    ['2026-01-02T03:04:05.678Z', 1_767_323_045_678_000_000n],
    ['2026-01-02T03:04:05.123456789Z', 1_767_323_045_123_456_789n],
    ['2026-01-02T04:04:05.000000001+01:00', 1_767_323_045_000_000_001n],
    ['2026-01-02T04:04:05 01:00', 1_767_323_045_000_000_000n], // a "+" that was not escaped in a query string
    ['2026-01-01T21:34:05-05:30', 1_767_323_045_000_000_000n],
    ['2024-02-29T00:00:00Z', 1_709_164_800_000_000_000n],
    ['10m', 1_767_322_445_678_000_000n],
    ['1h30m', 1_767_317_645_678_000_000n],
    ['1.5h', 1_767_317_645_678_000_000n],
    ['500ms', 1_767_323_045_178_000_000n],
    ['7d', 1_766_718_245_678_000_000n],
    ['0s', 1_767_323_045_678_000_000n],
    ['999999d', 0n], // before 1970
    ['1969-12-31T23:59:59Z', 0n],
  ])('reads %s', (text, nanos) => {
    expect(read(text)).toBe(nanos);
  });

  it.each([
    ...['', ' ', 'now', 'yesterday', '-1', '+1', '1e9', '0x10', '1.', '.5', '1.1234567890', '123456789012'],
    ...[
      '2026-01-02',
      '2026-01-02T03:04',
      '2026-01-02T03:04:05',
      '2026-01-02 03:04:05Z',
      '2026-1-2T03:04:05Z',
    ],
    ...['2026-02-30T00:00:00Z', '2025-02-29T00:00:00Z', '2026-13-01T00:00:00Z', '2026-01-02T24:00:00Z'],
    ...['2026-01-02T03:04:60Z', '2026-01-02T03:04:05+24:00', '2026-01-02T03:04:05+01:60'],
    ...['2026-01-02T03:04:05+0100', '2026-01-02T03:04:05.Z', '2026-01-02T03:04:05Z\n'],
    ...['10', '10 m', '-10m', '10m ago', '1w', '10M', 'm', '1.2.3s', '1..5h', '10m5'].slice(1),
  ])('refuses %j and says what is allowed', (text) => {
    expect(() => read(text)).toThrow(AppError);
    expect(() => read(text)).toThrow(
      /^since is ".*": give a time as 2026-01-02T03:04:05\.678Z .*1767323045.678/,
    );
  });

  const latest = 253_402_300_799_999_999_999n; // the end of the year 9999
  const nanosOf = fc.bigInt({ min: 0n, max: latest });
  const fractionOf = (nanos: bigint) => String(nanos % 1_000_000_000n).padStart(9, '0');

  it('loses no nanosecond, whichever way it is written', () => {
    fc.assert(
      fc.property(nanosOf, fc.integer({ min: -14 * 60, max: 14 * 60 }), (nanos, offset) => {
        const seconds = nanos / 1_000_000_000n;
        if (String(seconds).length <= 11) expect(read(`${String(seconds)}.${fractionOf(nanos)}`)).toBe(nanos);
        const localMs = Number(seconds) * 1000 + offset * 60_000;
        const local = new Date(localMs).toISOString();
        if (!/^\d{4}-/.test(local)) return;
        const [sign, away] = [offset < 0 ? '-' : '+', Math.abs(offset)];
        const two = (part: number) => String(Math.trunc(part)).padStart(2, '0');
        const zone = `${sign}${two(away / 60)}:${two(away % 60)}`;
        expect(read(`${local.slice(0, 19)}.${fractionOf(nanos)}${zone}`)).toBe(nanos);
      }),
    );
  });

  it('answers with a time that is not before 1970, or refuses with an AppError, whatever it is given', () => {
    const pieces = fc.constantFrom('1', '0', '9999999999', '.', ':', '-', '+', 'T', 'Z', 'm', 'd', ' ', '\0');
    const text = fc.oneof(
      fc.string(),
      fc.array(pieces).map((found) => found.join('')),
    );
    fc.assert(
      fc.property(text, (given) => {
        try {
          expect(read(given)).toBeGreaterThanOrEqual(0n);
        } catch (reason) {
          expect(reason).toMatchObject({ name: 'AppError', code: 'invalid_argument' });
        }
      }),
      { numRuns: 1000 },
    );
  });
});
