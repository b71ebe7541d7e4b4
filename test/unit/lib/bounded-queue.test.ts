import { expect, test } from 'vitest';
import { createBoundedQueue } from '../../../src/lib/bounded-queue.js';

test('the oldest give way when there are too many', () => {
  const queue = createBoundedQueue<number>({ maxItems: 3, maxBytes: 1000 });
  const dropped = [1, 2, 3, 4, 5].flatMap((item) => queue.push(item, 1));
  expect(dropped).toEqual([1, 2]);
  expect(queue.take(10)).toEqual([3, 4, 5]);
  expect(queue.sizeBytes).toBe(0);
});

test('the oldest give way when there are too many bytes, but one item always fits', () => {
  const queue = createBoundedQueue<string>({ maxItems: 10, maxBytes: 100 });
  expect(queue.push('a', 60)).toEqual([]);
  expect(queue.push('b', 60)).toEqual(['a']);
  expect(queue.push('big', 500)).toEqual(['b']);
  expect(queue.length).toBe(1);
});

test('a batch ends before it has too many bytes, and is never empty', () => {
  const queue = createBoundedQueue<string>({ maxItems: 10, maxBytes: 1000 });
  for (const item of ['a', 'b', 'c']) queue.push(item, 40);
  expect(queue.take(10, 90)).toEqual(['a', 'b']);
  expect(queue.take(10, 1)).toEqual(['c']);
  expect(queue.take(10, 1)).toEqual([]);
});

test('order is kept over many thousands', () => {
  const queue = createBoundedQueue<number>({ maxItems: 10_000, maxBytes: 1e9 });
  const out: number[] = [];
  for (let item = 0; item < 30_000; item += 1) {
    queue.push(item, 1);
    if (item % 3 === 2) out.push(...queue.take(3));
  }
  expect(out).toEqual(Array.from({ length: 30_000 }, (_, index) => index));
});
