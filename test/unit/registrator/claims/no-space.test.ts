import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AppError } from '../../../../src/errors.js';
import { createLog } from '../../../../src/log.js';
import type { RegistryBackend } from '../../../../src/registrator/backends/backend.js';
import { createClaimKeeper } from '../../../../src/registrator/claims/keeper.js';
import { firstOf } from '../../../../src/registrator/claims/together.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import type { State } from '../../../../src/state/state.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const wish = (value: string) => ({ value, merge: 'min', overwrite: false, source: 'test' }) as const;
const full = new AppError('no_space', 'full for a test');

let memory: State;
let isFull: boolean;
/** Takes over leases that exist, though it is full. */
let hasLeases: boolean;
let keepers: RegistryBackend[];
let granted: Set<string | undefined>;
let leasesRefused: number;

beforeEach(() => {
  memory = createMemoryState();
  isFull = false;
  hasLeases = true;
  keepers = [];
  granted = new Set();
  leasesRefused = 0;
});

afterEach(async () => {
  await Promise.all(keepers.map((keeper) => keeper.close('hand-over')));
  await memory.close();
});

/** As a start of the registrator makes it. */
function start(owner: string, retryMinMs = 1): RegistryBackend {
  const state: State = {
    get: (...args) => memory.get(...args),
    range: (...args) => memory.range(...args),
    watch: (...args) => memory.watch(...args),
    close: () => memory.close(),
    async lease(caller, ttlMs, id) {
      if (isFull && (!hasLeases || !granted.has(id))) {
        leasesRefused += 1;
        throw full;
      }
      granted.add(id);
      return memory.lease(caller, ttlMs, id);
    },
    async transact(caller, transaction) {
      if (isFull && transaction.then.some((operation) => 'put' in operation)) throw full;
      return memory.transact(caller, transaction);
    },
  };
  const keeper = createClaimKeeper({ state, owner, log, retryMinMs });
  keepers.push(keeper);
  return keeper;
}

/** Until it has what it wants, and says that this is all. */
async function wants(keeper: RegistryBackend, wishes: Record<string, string>): Promise<void> {
  for (const [key, value] of Object.entries(wishes)) keeper.want(key, wish(value));
  keeper.complete();
  await keeper.settled();
}

const valueOf = async (key: string) => (await memory.get(ctx, key))?.value;
const becomes = (key: string, value: string | undefined) =>
  vi.waitFor(async () => {
    expect(await valueOf(key)).toBe(value);
  });

describe('a store without space', () => {
  it('takes away what has gone, though what came with it has to wait', async () => {
    const keeper = start('one');
    await wants(keeper, { '/reg/goes': 'a' });
    expect(await valueOf('/reg/goes')).toBe('a');

    isFull = true;
    keeper.want('/reg/comes', wish('b'));
    keeper.want('/reg/goes', null);
    await becomes('/reg/goes', undefined);
    expect(await valueOf('/reg/comes')).toBeUndefined();
    isFull = false;
    await becomes('/reg/comes', 'b');
  });

  it.each([
    ['and has those of before', true],
    ['not even those of before', false],
  ])('that grants no lease (%s) takes away for a new process what has gone meanwhile', async (_what, has) => {
    const before = start('one');
    await wants(before, { '/reg/goes': 'a', '/reg/stays': 'b' });
    await before.close('hand-over');

    [isFull, hasLeases] = [true, has];
    const after = start('one');
    for (const key of ['/reg/comes', '/reg/stays']) after.want(key, wish('b'));
    after.complete();
    await becomes('/reg/goes', undefined);
    expect(await valueOf('/reg/stays')).toBe('b');
    expect(await valueOf('/reg/comes')).toBeUndefined();
    isFull = false;
    await becomes('/reg/comes', 'b');
  });

  it('that grants no lease lets go of a key that another wants too', async () => {
    const other = start('other');
    await wants(other, { '/reg/both': 'a' });
    const before = start('one');
    await wants(before, { '/reg/both': 'a', '/reg/goes': 'a' });
    await before.close('hand-over');
    expect(await valueOf(keys.claim('/reg/both', 'one'))).toBeDefined();

    [isFull, hasLeases] = [true, false];
    const after = start('one');
    after.complete();
    await becomes(keys.claim('/reg/both', 'one'), undefined);
    await becomes('/reg/goes', undefined);
    expect(await valueOf('/reg/both')).toBe('a');
    expect(await valueOf(keys.claim('/reg/both', 'other'))).toBeDefined();
  });

  it('is not asked for a lease by each key that needs one', async () => {
    [isFull, hasLeases] = [true, false];
    const keeper = start('one', 10_000);
    for (let index = 0; index < 100; index += 1) keeper.want(`/reg/${String(index)}`, wish('a'));
    keeper.complete();
    await vi.waitFor(() => {
      expect(keeper.stats().failures).toBeGreaterThan(0);
    });
    expect(leasesRefused).toBeLessThan(10);
  });
});

it('what is done first are keys in order, but for those that can come later', () => {
  const all = ['a', 'B', 'c', 'D', 'e'];
  const isUpper = (key: string) => key < 'a';
  expect(firstOf(all, 4, isUpper)).toEqual(['a', 'c', 'e', 'B']);
  expect(firstOf(all, 2, isUpper)).toEqual(['a', 'c']);
  expect(firstOf(all, 4, () => false)).toEqual(['a', 'B', 'c', 'D']);
  expect(firstOf(all, 9, () => true)).toEqual(all);
});
