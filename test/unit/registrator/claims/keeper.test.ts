import { expect, it } from 'vitest';
import { createLog } from '../../../../src/log.js';
import { createClaimKeeper } from '../../../../src/registrator/claims/keeper.js';
import { sharedLeaseOf } from '../../../../src/registrator/claims/leases.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import { records } from '../../../../src/state/records.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };

it('a keeper that begins clears up after owners that are gone, also when it has met their key before it was complete', async () => {
  const state = createMemoryState();
  const key = '/reg/a';
  // Another key of the same bucket keeps the lease alive.
  const lease = await state.lease(ctx, 5_000, sharedLeaseOf(key));
  const marker = records.sharedKey.encode({ schema: 1, key });
  const then = [
    { put: key, value: 'v', lease },
    { put: keys.sharedKey(key), value: marker, lease },
  ];
  await state.transact(ctx, { if: [], then });
  const keeper = createClaimKeeper({ state, owner: 'one', log });
  keeper.want('/reg/other', { value: 'v', merge: 'min', overwrite: false, source: 'test' });
  await keeper.settled();
  expect(await state.get(ctx, key)).not.toBeNull();
  keeper.complete();
  await keeper.settled();
  expect(await state.get(ctx, key)).toBeNull();
  expect(await state.get(ctx, keys.sharedKey(key))).toBeNull();
  await keeper.close('hand-over');
});

it('a key that somebody says is not wanted goes, though what it came from is not known just then', async () => {
  const state = createMemoryState();
  const wish = { value: 'v', merge: 'min', overwrite: false, source: 'test' } as const;
  const before = createClaimKeeper({ state, owner: 'one', log });
  before.want('/reg/before', wish);
  before.complete();
  await before.settled();
  await before.close('hand-over');

  const keeper = createClaimKeeper({ state, owner: 'one', log });
  keeper.want('/reg/goes', wish);
  keeper.complete(() => true);
  await keeper.settled();
  keeper.want('/reg/goes', null);
  await keeper.settled();
  expect(await state.get(ctx, '/reg/goes')).toBeNull();
  expect(await state.get(ctx, '/reg/before')).not.toBeNull();
  // Nor does what was said of it hold for ever.
  keeper.complete(() => true);
  await keeper.settled();
  expect(keeper.stats().wanted).toBe(0);
  await keeper.close('hand-over');
});
