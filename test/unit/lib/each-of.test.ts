import { expect, it } from 'vitest';
import { eachOf } from '../../../src/lib/each-of.js';
import { sleep } from '../../../src/lib/sleep.js';

it('takes each item once, as many at a time as it may', async () => {
  const seen: number[] = [];
  let [running, most] = [0, 0];
  await eachOf([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
    most = Math.max(most, ++running);
    await sleep(1);
    running -= 1;
    seen.push(item);
  });
  expect(seen.sort()).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(most).toBe(3);
});

it('goes on with the others while one takes long', async () => {
  const { promise: never, resolve: end } = Promise.withResolvers<undefined>();
  const seen: number[] = [];
  const all = eachOf([0, 1, 2, 3], 2, async (item) => {
    if (item === 0) await never;
    seen.push(item);
    if (seen.length === 3) end(undefined);
  });
  await all;
  expect(seen).toEqual([1, 2, 3, 0]);
});

it('rejects with the first failure', async () => {
  await expect(eachOf([1], 2, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
});
