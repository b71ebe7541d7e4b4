import { expect, it, vi } from 'vitest';
import { AppError } from '../../../../src/errors.js';
import { createLog } from '../../../../src/log.js';
import { createClaimKeeper } from '../../../../src/registrator/claims/keeper.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import type { State } from '../../../../src/state/state.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const wish = (value: string) => ({ value, merge: 'min', overwrite: false, source: 'test' }) as const;

it('takes away what has gone from a store without space, though what came with it has to wait', async () => {
  const memory = createMemoryState();
  let isFull = false;
  const state: State = {
    get: (...args) => memory.get(...args),
    range: (...args) => memory.range(...args),
    watch: (...args) => memory.watch(...args),
    lease: (...args) => memory.lease(...args),
    close: () => memory.close(),
    async transact(caller, transaction) {
      if (isFull && transaction.then.some((operation) => 'put' in operation))
        throw new AppError('no_space', 'full for a test');
      return memory.transact(caller, transaction);
    },
  };
  const valueOf = async (key: string) => (await memory.get(ctx, key))?.value;
  const keeper = createClaimKeeper({ state, owner: 'one', log, retryMinMs: 1 });
  keeper.want('/reg/goes', wish('a'));
  keeper.complete();
  await keeper.settled();
  expect(await valueOf('/reg/goes')).toBe('a');

  isFull = true;
  keeper.want('/reg/comes', wish('b'));
  keeper.want('/reg/goes', null);
  await vi.waitFor(async () => {
    expect(await valueOf('/reg/goes')).toBeUndefined();
  });
  expect(await valueOf('/reg/comes')).toBeUndefined();
  isFull = false;
  await vi.waitFor(async () => {
    expect(await valueOf('/reg/comes')).toBe('b');
  });
  await keeper.close('hand-over');
});
