import { afterEach, expect, test } from 'vitest';
import {
  changedMaterially,
  createNodeRecord,
  type NodeDescription,
  type NodeRecordKeeper,
} from '../../../src/registrator/node-record.js';
import { keys } from '../../../src/state/keys.js';
import { records } from '../../../src/state/records.js';
import { createFaultyState, type FaultyState } from '../../fakes/faulty-state.js';
import { waitFor } from '../../support/exec.js';
import { createLogLines } from '../../support/log-lines.js';

const GiB = 1024 ** 3;
const described: NodeDescription = {
  id: 'n1',
  hostname: 'host1',
  address: '10.99.0.1',
  engineVersion: '20.10.24',
  pluginVersion: '0.1.0',
  pools: { default: { sizeBytes: 100 * GiB, freeBytes: 50 * GiB } },
  labels: { rack: 'a' },
};
const open: NodeRecordKeeper[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((keeper) => keeper.close()));
});

function start(state: FaultyState = createFaultyState(), intervalMs = 20, isInUse = () => false) {
  const { log, lines } = createLogLines();
  const host = { now: described, asked: 0, broken: false };
  const keeper = createNodeRecord({
    state,
    log,
    intervalMs,
    isInUse,
    describe: () => {
      host.asked += 1;
      return host.broken ? Promise.reject(new Error('no engine')) : Promise.resolve(host.now);
    },
  });
  open.push(keeper);
  const get = (key: string) => state.get({ log, signal: AbortSignal.timeout(5000), requestId: 'test' }, key);
  const node = async () => {
    const entry = await get(keys.node('n1'));
    return entry === null ? null : records.node.decode(entry.key, entry.value);
  };
  const settled = async () => {
    const before = host.asked;
    await waitFor('it has looked again', () => host.asked >= before + 2, { everyMs: 5 });
  };
  return { state, keeper, host, lines, get, node, settled };
}

function poolsFree(freeBytes: number): NodeDescription {
  return { ...described, pools: { default: { sizeBytes: 100 * GiB, freeBytes } } };
}

test.each<[string, NodeDescription, boolean]>([
  ['nothing changed', described, false],
  ['free space moved a little', poolsFree(50 * GiB - 10_000_000), false],
  ['free space moved by 1 GiB', poolsFree(49 * GiB), true],
  ['free space grew by 1 GiB', poolsFree(51 * GiB), true],
  [
    'the pool grew',
    { ...described, pools: { default: { sizeBytes: 101 * GiB, freeBytes: 50 * GiB } } },
    true,
  ],
  ['a pool came', { ...described, pools: { ...described.pools, ssd: { sizeBytes: 1, freeBytes: 1 } } }, true],
  ['the pools went', { ...described, pools: {} }, true],
  ['the host was renamed', { ...described, hostname: 'other' }, true],
  ['the engine was upgraded', { ...described, engineVersion: '28.5.2' }, true],
  ['a label changed', { ...described, labels: { rack: 'b' } }, true],
])('%s: worth a write?', (_what, now, expected) => {
  expect(changedMaterially({ ...described }, now)).toBe(expected);
});

test('a small pool is written when 5 % of its free space moved', () => {
  const small = (freeBytes: number) => ({ ...described, pools: { default: { sizeBytes: 2000, freeBytes } } });
  expect(changedMaterially(small(1000), small(951))).toBe(false);
  expect(changedMaterially(small(1000), small(949))).toBe(true);
  expect(changedMaterially(small(0), small(1))).toBe(true);
});

test('the node is recorded and alive', async () => {
  const { keeper, node, get } = start();
  await keeper.refresh();
  expect(await node()).toMatchObject({ schema: 1, ...described });
  const alive = await get(keys.alive('n1'));
  expect(records.alive.decode(alive!.key, alive!.value)).toMatchObject({ node: 'n1' });
});

test('nothing is written while nothing changes, and small moves add up', async () => {
  const { state, keeper, host, settled, node } = start();
  await keeper.refresh();
  expect(state.transactions).toHaveLength(2);
  await settled();
  host.now = poolsFree(49.5 * GiB);
  await settled();
  expect(state.transactions).toHaveLength(2);
  host.now = poolsFree(49 * GiB);
  await waitFor('it is written', async () => (await node())?.pools['default']?.freeBytes === 49 * GiB);
  expect(state.transactions).toHaveLength(3);
});

test('fields of a newer version survive a rewrite', async () => {
  const { state, keeper, host, node, get } = start(createFaultyState(), 100_000);
  await keeper.refresh();
  const entry = await get(keys.node('n1'));
  await state.transact(
    { log: createLogLines().log, signal: AbortSignal.timeout(5000), requestId: 'test' },
    {
      if: [],
      then: [{ put: entry!.key, value: records.node.encode({ ...(await node())!, zone: 'eu-1' }) }],
    },
  );
  host.now = { ...described, hostname: 'renamed' };
  await keeper.refresh();
  expect(await node()).toMatchObject({ hostname: 'renamed', zone: 'eu-1' });
});

test('a lost lease is granted anew and the sign of life comes back', async () => {
  const { state, keeper, get } = start(createFaultyState(), 100_000);
  await keeper.refresh();
  const ctx = { log: createLogLines().log, signal: AbortSignal.timeout(5000), requestId: 'test' };
  await state.leases[0]!.revoke(ctx);
  await waitFor('it is alive again', async () => (await get(keys.alive('n1'))) !== null, { everyMs: 10 });
  expect(state.leases).toHaveLength(2);
});

test('the sign of life stays while the engine does not answer', async () => {
  const { state, keeper, host, get, lines } = start();
  await keeper.refresh();
  host.broken = true;
  const ctx = { log: createLogLines().log, signal: AbortSignal.timeout(5000), requestId: 'test' };
  await state.leases[0]!.revoke(ctx);
  await waitFor('it is alive again', async () => (await get(keys.alive('n1'))) !== null, { everyMs: 10 });
  expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
});

test('a key left by an earlier process of this node is taken over, and lives on when its old lease ends', async () => {
  const state = createFaultyState();
  const ctx = { log: createLogLines().log, signal: AbortSignal.timeout(5000), requestId: 'test' };
  const lease = await state.lease(ctx, 15_000);
  const value = records.alive.encode({ schema: 1, node: 'n1', since: 'before' });
  await state.transact(ctx, { if: [], then: [{ put: keys.alive('n1'), value, lease }] });
  const { keeper, get } = start(state, 100_000);
  await keeper.refresh();
  await lease.revoke(ctx);
  expect((await get(keys.alive('n1')))?.value).not.toContain('before');
});

test('two plugins of one identity do not fight: the second is heard, the first says so once', async () => {
  const state = createFaultyState();
  const first = start(state);
  await first.keeper.refresh();
  const second = start(state);
  await second.keeper.refresh();
  await first.settled();
  await second.settled();
  const writes = state.transactions.length;
  await first.settled();
  await second.settled();
  expect(state.transactions).toHaveLength(writes);
  expect(first.lines.filter(({ msg }) => msg.includes('another plugin'))).toHaveLength(1);
});

test('a store that is away is tried again, with one warning', async () => {
  const state = createFaultyState();
  state.failing = 'unavailable';
  const { host, node, lines } = start(state);
  await waitFor('it has tried', () => host.asked > 4, { everyMs: 10 });
  state.failing = null;
  await waitFor('it is written', async () => (await node()) !== null, { everyMs: 10 });
  expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
});

test('closing takes the node off the list of the living and leaves its record', async () => {
  const { keeper, get, node } = start();
  await keeper.refresh();
  await keeper.close();
  expect(await get(keys.alive('n1'))).toBeNull();
  expect(await node()).not.toBeNull();
});

test.each([
  ['goes with the process when nothing uses volumes there', false],
  ['outlives the process for a while when containers go on using volumes', true],
])('the sign of life %s', async (_what, inUse) => {
  const { keeper, get, settled } = start(undefined, 20, () => inUse);
  await settled();
  const before = await get(keys.alive('n1'));
  expect(before).not.toBeNull();
  await keeper.close();
  const after = await get(keys.alive('n1'));
  expect(after !== null).toBe(inUse);
  // By a lease of its own: the one that was kept alive ends here.
  expect(after?.modRevision === before?.modRevision).toBe(false);
});

test('a refresh looks once more though a look is under way, which may have come too early', async () => {
  const { keeper, host, node } = start(createFaultyState(), 60_000);
  await waitFor('the first record', async () => (await node()) !== null, { everyMs: 5 });
  await keeper.refresh();
  const first = keeper.refresh();
  const { asked } = host;
  host.now = { ...described, labels: { rack: 'b' } };
  await Promise.all([first, keeper.refresh()]);
  expect((await node())?.labels).toEqual({ rack: 'b' });
  expect(host.asked).toBeGreaterThan(asked);
});
