import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createLog } from '../../../src/log.js';
import { keys } from '../../../src/state/keys.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import { records } from '../../../src/state/records.js';
import { sameCluster } from '../../../src/state/same-cluster.js';
import type { Entry, State } from '../../../src/state/state.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const volume = keys.volume('db');

let inner: State;
let guarded: State;
let known: { record: Entry | null; volumes: number };

async function put(key: string, value: string): Promise<Entry> {
  await inner.transact(ctx, { if: [], then: [{ put: key, value }] });
  return (await inner.get(ctx, key))!;
}

const cluster = (id: string) =>
  put(keys.cluster, records.cluster.encode({ schema: 1, id, createdAt: '2026-01-02T03:04:05Z' }));

beforeEach(async () => {
  inner = createMemoryState();
  guarded = sameCluster(inner, {
    log,
    retryMs: 10,
    known: () => ({ record: known.record, countVolumes: () => known.volumes }),
  });
  known = { record: await cluster('mine'), volumes: 2 };
});

const lose = () => inner.transact(ctx, { if: [], then: [{ delete: keys.cluster }] });
const write = { if: [], then: [{ put: volume, value: 'v' }] };

describe('shared state that is the one it was', () => {
  it('reads, writes and watches as ever', async () => {
    expect((await guarded.transact(ctx, write)).ok).toBe(true);
    expect((await guarded.get(ctx, volume))?.value).toBe('v');
    expect(await guarded.get(ctx, keys.volume('none'))).toBeNull();
    expect((await guarded.range(ctx, keys.volumes)).entries).toHaveLength(1);
    const refused = { if: [{ key: volume, absent: true as const }], then: [{ delete: volume }] };
    expect(await guarded.transact(ctx, refused)).toEqual({ ok: false, reason: 'compare_failed' });
    const told: string[] = [];
    guarded.watch(keys.volumes, ({ type }) => told.push(type));
    await vi.waitFor(() => {
      expect(told).toEqual(['snapshot']);
    });
    await guarded.transact(ctx, write);
    await vi.waitFor(() => {
      expect(told).toEqual(['snapshot', 'changes']);
    });
  });
});

describe('shared state that has lost its data, or is another', () => {
  it.each([
    ['has no record of the cluster', lose],
    ['is that of cluster theirs', () => cluster('theirs')],
  ])('is not believed, and not written to: it %s', async (text, happens) => {
    await happens();
    if (text.includes('theirs')) {
      await lose();
      await cluster('theirs');
    }
    const why = `the etcd that answers ${text}, while this host knows 2 volume(s) of cluster mine`;
    await expect(guarded.get(ctx, volume)).rejects.toThrow(why);
    await expect(guarded.range(ctx, keys.volumes)).rejects.toThrow(why);
    await expect(guarded.transact(ctx, write)).rejects.toThrow(why);
    expect(await inner.get(ctx, volume)).toBeNull();
  });

  it('tells nothing to who watches, until it is the same again', async () => {
    await put(volume, 'v');
    await lose();
    const told: unknown[] = [];
    const watch = guarded.watch(keys.volumes, (event) => told.push(event.type));
    await inner.transact(ctx, { if: [], then: [{ delete: volume }] });
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(told).toEqual([]);
    await put(volume, 'restored');
    await cluster('mine');
    await vi.waitFor(() => {
      expect(told).toEqual(['snapshot']);
    });
    watch.close();
  });

  it('is as good as any when this host knows no volume, or no cluster yet', async () => {
    await lose();
    known.volumes = 0;
    expect(await guarded.get(ctx, volume)).toBeNull();
    expect((await guarded.transact(ctx, write)).ok).toBe(true);
    known = { record: null, volumes: 2 };
    expect((await guarded.transact(ctx, write)).ok).toBe(true);
    expect(await guarded.get(ctx, keys.volume('none'))).toBeNull();
  });
});
