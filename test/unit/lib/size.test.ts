import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatDuration, parseDuration } from '../../../src/lib/duration.js';
import { nearest } from '../../../src/lib/nearest.js';
import { quote } from '../../../src/lib/quote.js';
import { formatSize, parseSize } from '../../../src/lib/size.js';

describe('parseSize', () => {
  it.each([
    ['0', 0],
    ['512', 512],
    ['512b', 512],
    ['1K', 1024],
    ['1kb', 1024],
    ['1Ki', 1024],
    ['1KiB', 1024],
    ['1.5G', 1.5 * 1024 ** 3],
    ['10 GiB', 10 * 1024 ** 3],
    ['2Ti', 2 * 1024 ** 4],
    ['9EiB', 9 * 1024 ** 6],
  ])('reads %s as %d', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each([
    '',
    ' ',
    '10X',
    '-1',
    '+1',
    '1e3',
    '0x10',
    '1,5G',
    '.5G',
    '1.G',
    '10i',
    '10iB',
    'G',
    '1 0',
    'Infinity',
    '1G\n',
  ])('refuses %j', (text) => {
    expect(parseSize(text)).toBeUndefined();
  });

  it('rounds up to a multiple', () => {
    expect(parseSize('0.1G', 4096)).toBe(26_215 * 4096);
    expect(parseSize('4097', 4096)).toBe(8192);
  });

  it('reads back what formatSize wrote, unless that says "about"', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 64 * 1024 ** 4 }),
        fc.integer({ min: 0, max: 4 }),
        (bytes, unit) => {
          const size = Math.min(bytes, 4096) * 1024 ** unit;
          for (const value of [bytes, size]) {
            const text = formatSize(value);
            if (!text.startsWith('about ')) expect(parseSize(text.replace(' bytes', ''))).toBe(value);
            const read = parseSize(text.replace(/^about /, '').replace(' bytes', '')) ?? NaN;
            expect(Math.abs(read - value)).toBeLessThanOrEqual(value * 0.005);
          }
        },
      ),
    );
  });
});

describe('parseDuration', () => {
  it.each([
    ['500ms', 500],
    ['25s', 25_000],
    ['1.5h', 5_400_000],
    ['7d', 604_800_000],
  ])('reads %s as %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
    expect(parseDuration(formatDuration(ms))).toBe(ms);
  });

  it.each(['', '25', 's', '-1s', '1 s', '1w', '1S', '1e3s'])('refuses %j', (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });
});

describe('quote', () => {
  it('escapes what cannot be seen and shortens what is long', () => {
    expect(quote('a\n\u001b[31m\u202eb"')).toBe(String.raw`"a\u{a}\u{1b}[31m\u{202e}b\""`);
    expect(quote('größe')).toBe('"größe"');
    expect(quote('x'.repeat(300))).toBe(`"${'x'.repeat(60)}"... (300 characters)`);
  });
});

describe('nearest', () => {
  it.each([
    ['siez', 'size'],
    ['Size', 'size'],
    ['moutn', 'mount'],
    ['uuid', 'uid'],
    ['colour', undefined],
    ['x'.repeat(10_000), undefined],
  ])('takes %.10s for %s', (text, meant) => {
    expect(nearest(text, ['size', 'mount', 'uid'])).toBe(meant);
  });
});
