import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLineSplitter } from '../../../src/lib/line-splitter.js';

function split(chunks: Buffer[], maxLineChars = 1_000_000) {
  const lines: string[] = [];
  let overlong = 0;
  const splitter = createLineSplitter({
    maxLineChars,
    onLine: (line) => lines.push(line),
    onOverlong: () => (overlong += 1),
  });
  for (const chunk of chunks) splitter.push(chunk);
  return { lines, overlong };
}

function cutAt(bytes: Buffer, places: number[]): Buffer[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
}

test('lines come out whole wherever the chunks end, also inside a character', () => {
  const line = fc.string({ unit: 'binary' }).map((text) => JSON.stringify({ text }));
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat(100_000)), (lines, places) => {
      const bytes = Buffer.from(lines.map((text) => `${text}\n`).join(''));
      const whole = bytes.toString().split('\n').slice(0, -1);
      expect(split(cutAt(bytes, places)).lines).toEqual(whole);
    }),
  );
});

test('byte after byte, a four-byte character survives', () => {
  const bytes = Buffer.from('{"name":"🐳 Kübel"}\n');
  expect(split([...bytes].map((byte) => Buffer.from([byte]))).lines).toEqual(['{"name":"🐳 Kübel"}']);
});

test('a line without end is thrown away once and the next line is read', () => {
  const chunks = ['a'.repeat(60), 'a'.repeat(60), 'a'.repeat(60), '\nnext\n'].map((text) =>
    Buffer.from(text),
  );
  expect(split(chunks, 100)).toEqual({ lines: ['next'], overlong: 1 });
});

test('empty lines are no lines', () => {
  expect(split([Buffer.from('\n\r\n \na\n\n')]).lines).toEqual(['a']);
});
