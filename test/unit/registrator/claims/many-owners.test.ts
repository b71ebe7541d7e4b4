/** A key that more owners want than etcd compares in one transaction. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createLog } from '../../../../src/log.js';
import { createClaimKeeper } from '../../../../src/registrator/claims/keeper.js';
import {
  type Candidate,
  decisive,
  mergedValue,
  type MergeRule,
} from '../../../../src/registrator/claims/merge.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';

const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const OWNERS = 130;
const key = '/reg/all';

const claims = fc.array(
  fc.record({
    merge: fc.constantFrom<MergeRule>('min', 'first', 'union'),
    value: fc.constantFrom('a', 'b', 'c', '["a","d"]'),
    createRevision: fc.integer({ min: 1, max: 4 }),
    stays: fc.boolean(),
  }),
  { minLength: 1, maxLength: 9 },
);

it.each([['mixed'], ['min'], ['first'], ['union']] as const)(
  'what claims say stays the same while the decisive ones stand, with rules: %s',
  (rule) => {
    fc.assert(
      fc.property(claims, (drawn) => {
        const all = drawn.map((one, index): Candidate & { stays: boolean } => ({
          ...one,
          ...(rule === 'mixed' ? {} : { merge: rule }),
          owner: String(index),
        }));
        const needed = new Set(decisive(all));
        const left = all.filter((one) => one.stays || needed.has(one));
        expect(mergedValue(left)).toBe(mergedValue(all));
      }),
    );
  },
);

it.each(['min', 'first', 'union'] as const)(
  `changes as one of ${String(OWNERS)} owners wishes, stays for the others, and goes with the last: %s`,
  async (merge) => {
    const state = createMemoryState();
    const wish = (value: string) => ({ value, merge, overwrite: false, source: 'test' });
    const keepers = Array.from({ length: OWNERS }, (_, index) =>
      createClaimKeeper({ state, owner: `host-${String(index)}`, log: ctx.log, retryMinMs: 1 }),
    );
    for (const keeper of keepers) {
      keeper.want(key, wish('m'));
      keeper.complete();
      await keeper.settled();
    }
    const value = async () => (await state.get(ctx, key))?.value ?? null;
    const [first, last] = [keepers[0]!, keepers.at(-1)!];
    for (const keeper of [first, last]) {
      keeper.want(key, wish('b'));
      await keeper.settled();
    }
    expect(await value()).toBe({ min: 'b', first: 'b', union: '["b","m"]' }[merge]);
    for (const keeper of [first, last]) await keeper.close('withdraw');
    expect(await value()).toBe({ min: 'm', first: 'm', union: '["m"]' }[merge]);
    for (const keeper of keepers) await keeper.close('withdraw');
    expect(await value()).toBeNull();
    expect(keepers.map((keeper) => keeper.stats().failures)).toEqual(keepers.map(() => 0));
  },
  60_000,
);
