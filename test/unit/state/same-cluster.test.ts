import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { keys } from '../../../src/state/keys.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import { records } from '../../../src/state/records.js';
import { openReplica, type Replica } from '../../../src/state/replica.js';
import { sameCluster } from '../../../src/state/same-cluster.js';
import type { State } from '../../../src/state/state.js';
import { createLogLines } from '../../support/log-lines.js';

const prefixes = [keys.volumes, keys.targets, keys.attachments, keys.cluster, keys.nodes];
const volume = keys.volume('db');

let folder: string;
let lines: ReturnType<typeof createLogLines>['lines'];
let log: ReturnType<typeof createLogLines>['log'];
/** What answers under the address now. */
let inner: State;
let replica: Replica | null;
/** Reads take so long at most, each another time. */
let latencyMs: number;
const open: Replica[] = [];

const ctx = () => ({ log, signal: new AbortController().signal, requestId: 'test' });

/** Through one address: which etcd that is can change, as can how long it takes. */
const address: State = {
  async get(caller, key) {
    const entry = await inner.get(caller, key);
    if (latencyMs > 0) await delay(Math.random() * latencyMs);
    return entry;
  },
  range: (caller, prefix) => inner.range(caller, prefix),
  transact: (caller, transaction) => inner.transact(caller, transaction),
  watch: (prefix, listener) => inner.watch(prefix, listener),
  lease: (caller, ttlMs) => inner.lease(caller, ttlMs),
  close: () => Promise.resolve(),
};

/** As the plugin starts: with what its cache holds. */
async function start(): Promise<State> {
  replica = null;
  const guarded = sameCluster(address, {
    log,
    retryMs: 10,
    known: {
      record: () => replica?.get(keys.cluster) ?? null,
      volumes: () => replica?.list(keys.volumes) ?? [],
      forget: () => replica?.forget(keys.cluster),
    },
  });
  replica = await openReplica({ state: guarded, prefixes, file: path.join(folder, 'records.json'), log });
  open.push(replica);
  return guarded;
}

async function put(state: State, key: string, value: string): Promise<void> {
  await state.transact(ctx(), { if: [], then: [{ put: key, value }] });
}

const clusterValue = (id: string) =>
  records.cluster.encode({ schema: 1, id, createdAt: '2026-01-02T03:04:05Z' });

async function etcdOf(id: string, ...volumes: string[]): Promise<State> {
  const state = createMemoryState();
  await put(state, keys.cluster, clusterValue(id));
  for (const name of volumes) await put(state, keys.volume(name), `of ${id}`);
  return state;
}

async function wipe(state: State): Promise<void> {
  const { entries } = await state.range(ctx(), '/openebs/');
  await state.transact(ctx(), { if: [], then: entries.map(({ key }) => ({ delete: key })) });
}

const known = () => replica!.list(keys.volumes).map(({ key }) => key);

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'same-cluster-'));
  ({ log, lines } = createLogLines());
  latencyMs = 0;
  inner = await etcdOf('mine', 'db', 'second');
});

afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  await rm(folder, { recursive: true });
});

describe('shared state that is the one it was', () => {
  it('is read, written and watched as ever', async () => {
    const state = await start();
    await replica!.synced;
    await put(state, keys.volume('third'), 'v');
    expect((await state.get(ctx(), keys.volume('third')))?.value).toBe('v');
    expect(await state.get(ctx(), keys.volume('none'))).toBeNull();
    const refused = { if: [{ key: volume, absent: true as const }], then: [{ delete: volume }] };
    expect(await state.transact(ctx(), refused)).toEqual({ ok: false, reason: 'compare_failed' });
    await state.transact(ctx(), { if: [], then: [{ delete: volume }] });
    await vi.waitFor(() => {
      expect(known()).toEqual([keys.volume('second'), keys.volume('third')]);
    });
  });

  it('is written to when its record was made anew at another revision', async () => {
    await (await start()).get(ctx(), volume);
    await replica!.synced;
    await replica!.close();
    await inner.transact(ctx(), { if: [], then: [{ delete: keys.cluster }] });
    await put(inner, keys.cluster, clusterValue('mine'));
    const state = await start();
    expect((await state.transact(ctx(), { if: [], then: [{ put: volume, value: 'new' }] })).ok).toBe(true);
  });

  it.each(['not json', '{"schema":9,"id":"mine"}', '{"schema":1}'])(
    'is believed also when its record is of a newer version, or cannot be read: %s',
    async (value) => {
      await start();
      await replica!.synced;
      await put(inner, keys.cluster, value);
      await vi.waitFor(() => {
        expect(replica!.get(keys.cluster)?.value).toBe(value);
      });
      await replica!.close();
      const state = await start();
      await replica!.synced;
      expect(await state.get(ctx(), keys.volume('none'))).toBeNull();
      await put(state, volume, 'new');
      await put(inner, keys.cluster, clusterValue('mine'));
      await replica!.close();
      await start();
      await replica!.synced;
      expect(known()).toHaveLength(2);
    },
  );

  it('gets its record back when somebody has deleted that alone', async () => {
    const state = await start();
    await replica!.synced;
    await inner.transact(ctx(), { if: [], then: [{ delete: keys.cluster }] });
    await vi.waitFor(async () => {
      expect((await inner.get(ctx(), keys.cluster))?.value).toContain('"mine"');
    });
    expect(await state.get(ctx(), keys.volume('none'))).toBeNull();
    expect(known()).toHaveLength(2);
  });
});

describe('shared state that has lost its data, or is another', () => {
  it.each([
    ['has no record of the cluster', () => Promise.resolve(createMemoryState())],
    ['is that of cluster theirs', () => etcdOf('theirs', 'db')],
  ])('is not believed, and not written to: it %s', async (text, other) => {
    await start();
    await replica!.synced;
    await replica!.close();
    inner = await other();
    const before = (await inner.range(ctx(), '/')).entries;
    const state = await start();
    const why = `the etcd that answers ${text}, while this host knows 2 volume(s) of cluster mine`;
    await expect(state.get(ctx(), volume)).rejects.toThrow(why);
    await expect(state.range(ctx(), keys.volumes)).rejects.toThrow(why);
    await expect(state.transact(ctx(), { if: [], then: [{ put: volume, value: 'v' }] })).rejects.toThrow(why);
    await delay(60);
    expect((await inner.range(ctx(), '/')).entries).toEqual(before);
    expect(known()).toEqual([volume, keys.volume('second')]);
    expect(replica!.current).toBe(false);
    // Once, however many watches look again and again.
    expect(lines.filter(({ msg }) => msg.includes('not believed'))).toHaveLength(1);
  });

  it('is not believed when it loses all while it is watched, and is again once it is restored', async () => {
    await start();
    await replica!.synced;
    const counts = new Set<number>();
    replica!.onChange(() => counts.add(known().length));
    await wipe(inner);
    await delay(60);
    expect(known()).toHaveLength(2);
    const then = ['db', 'new'].map((name) => ({ put: keys.volume(name), value: 'restored' }));
    const cluster = { put: keys.cluster, value: clusterValue('mine') };
    await inner.transact(ctx(), { if: [], then: [cluster, ...then] });
    await vi.waitFor(() => {
      expect(known().toSorted()).toEqual([volume, keys.volume('new')]);
    });
    expect(counts).not.toContain(0);
  });

  it('is taken by a host that knows no volume, whatever comes first, and is known after a restart', async () => {
    latencyMs = 4;
    for (let round = 0; round < 20; round += 1) {
      await rm(path.join(folder, 'records.json'), { force: true });
      inner = await etcdOf('mine');
      await start();
      await replica!.synced;
      await replica!.close();
      inner = await etcdOf('theirs', 'one', 'two', 'three');
      const state = await start();
      await replica!.synced;
      expect(known()).toHaveLength(3);
      expect(replica!.get(keys.cluster)?.value).toContain('"theirs"');
      await put(state, keys.volume('four'), 'v');
      await replica!.close();
      await start();
      await replica!.synced;
      expect(known()).toHaveLength(4);
      await replica!.close();
    }
  });
});
