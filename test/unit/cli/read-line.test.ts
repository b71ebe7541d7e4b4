import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { readLine } from '../../../src/cli/read-line.js';

const bytes = (...parts: readonly (string | number[])[]) =>
  Readable.from(parts.map((part) => Buffer.from(part as string)));

it.each([
  [bytes('SECRET\n'), 'SECRET'],
  [bytes('SEC', 'RET'), 'SECRET'],
  [bytes('  SECRET \r\nmore\n'), 'SECRET'],
  [bytes([0xc3], [0xa4, 0x0a]), 'ä'],
  [bytes(), null],
  [bytes('\n'), null],
  [bytes('\nSECRET\n'), null],
  [bytes('x'.repeat(70_000)), null],
])('reads the first line', async (input, line) => {
  expect(await readLine(input)).toBe(line);
});

it('reads no further than its end, and not beyond what a line can be', async () => {
  let asked = 0;
  async function* endless(text: string) {
    for (;;) {
      asked += 1;
      await Promise.resolve();
      yield text;
    }
  }
  expect(await readLine(endless('a\n'))).toBe('a');
  expect(asked).toBe(1);
  expect(await readLine(endless('a'.repeat(1000)))).toBeNull();
  expect(asked).toBeLessThan(100);
});
