import { expect, test } from 'vitest';
import { createJournalIndex } from '../../../src/registrator/journal-index.js';

const bounds = { maxRecords: 3, oldestKey: '', newestKey: 'y' };

function indexOf(...keys: string[]) {
  const index = createJournalIndex();
  for (const key of keys) index.add(key);
  return index;
}

test('keeps keys in order whatever order they come in, each once', () => {
  const index = indexOf('c', 'a', 'b', 'a', 'c');
  expect(index.size).toBe(3);
  expect(index.surplus({ ...bounds, maxRecords: 0 }, 9)).toEqual(['a', 'b', 'c']);
});

test('the oldest are too many, in portions', () => {
  const index = indexOf('a', 'b', 'c', 'd', 'e', 'f');
  expect(index.surplus(bounds, 2)).toEqual(['a', 'b']);
  index.remove(['a', 'b']);
  expect(index.has('a')).toBe(false);
  expect(index.surplus(bounds, 2)).toEqual(['c']);
  index.remove(['c']);
  expect(index.surplus(bounds, 2)).toEqual([]);
});

test('what is too old goes even when there is room', () => {
  expect(indexOf('a', 'b', 'c').surplus({ ...bounds, oldestKey: 'c' }, 9)).toEqual(['a', 'b']);
});

test('keys of a clock that was ahead go before what is new', () => {
  expect(indexOf('a', 'b', 'z1', 'z2').surplus({ ...bounds, maxRecords: 2 }, 9)).toEqual(['z1', 'z2']);
  expect(indexOf('a', 'b', 'c', 'z').surplus({ ...bounds, maxRecords: 2 }, 9)).toEqual(['z', 'a']);
});
