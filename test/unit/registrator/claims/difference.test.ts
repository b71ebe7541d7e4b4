import { expect, it } from 'vitest';
import { createLog } from '../../../../src/log.js';
import { differences } from '../../../../src/registrator/claims/difference.js';
import { createClaimKeeper } from '../../../../src/registrator/claims/keeper.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const wish = (value: string, source: string) => ({ value, merge: 'min', overwrite: false, source }) as const;

it('a dry run tells what would be put, changed and taken away, and not what a run would let be', async () => {
  const state = createMemoryState();
  const before = createClaimKeeper({ state, owner: 'one', log });
  before.want('/reg/gone', wish('a', 'good container a'));
  before.want('/reg/unknown', wish('b', 'bad container a'));
  before.want('/reg/changed', wish('c', 'good container a'));
  before.want('/reg/same', wish('d', 'good container a'));
  before.complete();
  await before.settled();
  await before.close('hand-over');
  await state.transact(ctx, { if: [], then: [{ put: '/reg/foreign', value: 'theirs' }] });

  const wanted = new Map([
    ['/reg/changed', wish('e', 'good container a')],
    ['/reg/same', wish('d', 'good container a')],
    ['/reg/new', wish('f', 'good container b')],
    ['/reg/foreign', wish('g', 'good container b')],
  ]);
  const keep = (source: string) => source.startsWith('bad ');
  expect(await differences(ctx, state, { owner: 'one', wanted, keep })).toEqual([
    { key: '/reg/changed', now: 'c', then: 'e', isForeign: false },
    { key: '/reg/foreign', now: 'theirs', then: 'theirs', isForeign: true },
    { key: '/reg/gone', now: 'a', then: null, isForeign: false },
    { key: '/reg/new', now: null, then: 'f', isForeign: false },
  ]);
  expect(await differences(ctx, state, { owner: 'one', wanted: new Map(), keep: () => true })).toEqual([]);
  await state.close();
});
