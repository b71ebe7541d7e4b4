import { describe, expect, it } from 'vitest';
import { createRandom } from '../soak/random.js';
import { type RegisterCall, unexplained } from '../support/register-history.js';

const call = (
  kind: RegisterCall['kind'],
  value: string | null,
  [begin, end]: readonly [number, number],
  more: Partial<RegisterCall> = {},
): RegisterCall => ({ client: 'x', kind, value, expected: null, begin, end, outcome: 'ok', ...more });

const write = (value: string, begin: number, end: number) => call('write', value, [begin, end]);
const lost = (value: string, begin: number) =>
  call('write', value, [begin, Infinity], { outcome: 'unknown' });
const read = (value: string | null, begin: number, end: number) => call('read', value, [begin, end]);
const swap = (expected: string, value: string, begin: number, end: number) =>
  call('swap', value, [begin, end], { expected });
const differed = (expected: string, begin: number, end: number) =>
  call('swap', `not ${expected}`, [begin, end], { expected, outcome: 'differed' });

const good: readonly (readonly [string, readonly RegisterCall[]])[] = [
  ['an empty register', [read(null, 0, 1)]],
  [
    'reads during a write, of the former value and then of the new one',
    [write('a', 0, 9), read(null, 1, 2), read('a', 3, 4)],
  ],
  [
    'writes at once, in the order that the reads tell',
    [write('a', 0, 9), write('b', 0, 9), read('b', 10, 11)],
  ],
  ['swaps in a row', [write('a', 0, 1), swap('a', 'b', 2, 3), swap('b', 'c', 4, 5), read('c', 6, 7)]],
  ['a swap that comes too late', [write('a', 0, 1), write('b', 2, 3), differed('a', 4, 5), read('b', 6, 7)]],
  [
    'a lost answer of a write that never was',
    [write('a', 0, 1), lost('b', 2), read('a', 3, 4), read('a', 99, 100)],
  ],
  [
    'a lost answer of a write that came late',
    [write('a', 0, 1), lost('b', 2), read('a', 3, 4), read('b', 99, 100)],
  ],
  [
    'a lost answer that alone explains why a comparison failed',
    [write('a', 0, 1), lost('b', 2), differed('a', 50, 51)],
  ],
  [
    'a lost answer of a swap, covered before anybody read it',
    [
      write('a', 0, 1),
      call('swap', 'b', [2, Infinity], { expected: 'a', outcome: 'unknown' }),
      differed('a', 3, 4),
      write('c', 5, 6),
      read('c', 7, 8),
    ],
  ],
];

const bad: readonly (readonly [string, readonly RegisterCall[]])[] = [
  ['a stale read', [write('a', 0, 1), write('b', 2, 3), read('a', 4, 5)]],
  ['a read that goes back', [write('a', 0, 1), write('b', 2, 9), read('b', 3, 4), read('a', 5, 6)]],
  ['a lost write', [write('a', 0, 1), write('b', 2, 3), read('a', 4, 5), read('a', 6, 7)]],
  ['a value that nobody wrote', [write('a', 0, 1), read('b', 2, 3)]],
  ['two swaps of the same value', [write('a', 0, 1), swap('a', 'b', 2, 9), swap('a', 'c', 2, 9)]],
  ['a swap that failed without a reason', [write('a', 0, 1), differed('a', 2, 3)]],
  [
    'a swap that was said to have failed, and was seen',
    [write('a', 0, 1), differed('a', 2, 3), read('not a', 4, 5)],
  ],
  ['an unknown write that is seen before it began', [write('a', 0, 1), read('b', 2, 3), lost('b', 4)]],
  [
    'an unknown write that takes effect twice',
    [lost('b', 0), read('b', 1, 2), write('a', 3, 4), read('b', 5, 6)],
  ],
];

describe('the history of a register', () => {
  it.each(good)('is explained with %s', (_, calls) => {
    expect(unexplained(calls)).toBeNull();
  });

  it.each(bad)('is not explained with %s', (_, calls) => {
    expect(unexplained(calls)).toContain('no order explains');
  });

  /** Clients of a register that answers right, but loses each tenth answer. A call takes effect as it begins. */
  function history(seed: number, count: number): RegisterCall[] {
    const random = createRandom(seed);
    let value: string | null = null;
    const known = new Map<string, string | null>();
    const open = new Map<string, RegisterCall>();
    const calls: RegisterCall[] = [];
    const begin = (client: string, now: number): RegisterCall => {
      const kind = (['read', 'write', 'swap'] as const)[random.below(3)]!;
      if (kind === 'read') {
        known.set(client, value);
        return { ...read(value, now, now), client };
      }
      const expected = kind === 'swap' ? (known.get(client) ?? null) : null;
      const differs = kind === 'swap' && expected !== value;
      const fresh = `${client}${String(now)}`;
      const isLost = random.below(10) === 0;
      if (!differs && !(isLost && random.below(2) === 0)) value = fresh;
      const outcome = isLost ? 'unknown' : differs ? 'differed' : 'ok';
      return { ...call(kind, fresh, [now, now], { outcome, expected }), client };
    };
    for (let now = 0; calls.length < count; now += 1) {
      const client = `c${String(random.below(5))}`;
      const under = open.get(client);
      if (under) {
        open.delete(client);
        calls.push({ ...under, end: under.outcome === 'unknown' ? Infinity : now });
      } else open.set(client, begin(client, now));
    }
    return calls;
  }

  it.each([1, 2, 3, 4, 5])('of thousands of calls is explained, seed %i', (seed) => {
    expect(unexplained(history(seed, 4000))).toBeNull();
  });

  it.each([1, 2, 3, 4, 5])('of thousands of calls with one stale read is not, seed %i', (seed) => {
    const calls = history(seed, 4000);
    const reads = calls.filter(({ kind }) => kind === 'read');
    const late = reads.at(-20)!;
    const stale = { ...late, value: reads.at(-400)!.value };
    expect(stale.value).not.toBe(late.value);
    expect(unexplained(calls.map((one) => (one === late ? stale : one)))).toContain('no order explains');
  });
});
