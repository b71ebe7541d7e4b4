import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createLog } from '../../../src/log.js';
import { keys } from '../../../src/state/keys.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import { openReplica, type Replica } from '../../../src/state/replica.js';
import type { State } from '../../../src/state/state.js';
import { newTargetRecord, newVolumeRecord } from '../../../src/volumes/volume.js';
import { VolumeRecords } from '../../../src/volumes/volume-records.js';

const log = createLog('silent');
const ctx: Ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const spec = {
  sizeBytes: 2 ** 30,
  fs: 'ext4' as const,
  mkfsOptions: [],
  mountOptions: [],
  uid: 0,
  gid: 0,
  mode: 0o755,
  pool: 'default',
};

let directory: string;
let state: State;
let replicas: Replica[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'records-'));
  state = createMemoryState();
  replicas = [];
});

afterEach(async () => {
  await Promise.all(replicas.map((replica) => replica.close()));
  await state.close();
  rmSync(directory, { recursive: true });
});

async function host(name: string): Promise<VolumeRecords> {
  const file = join(directory, `${name}.json`);
  const prefixes = [keys.volumes, keys.targets, keys.attachments];
  const replica = await openReplica({ state, prefixes, file, log });
  replicas.push(replica);
  await replica.synced;
  return new VolumeRecords(state, replica);
}

async function insert(on: VolumeRecords): Promise<string> {
  const volume = newVolumeRecord('db', spec);
  const target = newTargetRecord(volume, { node: 'a', address: '127.0.0.1', port: 13_260 });
  expect(await on.insert(ctx, volume, target)).toBe(true);
  return volume.id;
}

describe('the records of a volume', () => {
  it('are inserted once, however many hosts try at once', async () => {
    const hosts = await Promise.all(['a', 'b', 'c'].map(host));
    const results = await Promise.all(
      hosts.map((on) => {
        const volume = newVolumeRecord('db', spec);
        return on.insert(ctx, volume, newTargetRecord(volume, { node: 'a', address: '127.0.0.1', port: 1 }));
      }),
    );
    expect(results.filter(Boolean)).toHaveLength(1);
    expect((await state.range(ctx, keys.targets)).entries).toHaveLength(1);
  });

  it('give the attachment to one of many nodes, with one epoch', async () => {
    const hosts = await Promise.all(['a', 'b', 'c', 'd'].map(host));
    const id = await insert(hosts[0]!);
    for (const on of hosts) await on.fetch(ctx, 'db');
    const results = await Promise.allSettled(
      hosts.map((on, index) => on.attach(ctx, 'db', `node-${String(index)}`)),
    );
    expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    const fresh = await host('fresh');
    expect(fresh.volume('db')?.epoch).toBe(1);
    expect(fresh.attachment(id)?.epoch).toBe(1);
  });

  it.each(Array.from({ length: 20 }, (_, round) => round))(
    'never hold both a removal and an attachment, round %i',
    async () => {
      const [one, two] = [await host('one'), await host('two')];
      const id = await insert(one);
      await two.fetch(ctx, 'db');
      await Promise.allSettled([one.markRemoving(ctx, 'db'), two.attach(ctx, 'db', 'node-b')]);
      const fresh = await host('fresh');
      const removing = fresh.volume('db')?.status === 'removing';
      const attached = fresh.attachment(id) !== null;
      expect(removing && attached).toBe(false);
      expect(removing || attached).toBe(true);
    },
  );

  it('of a removal refuse one that decided on old knowledge', async () => {
    const [one, two] = [await host('one'), await host('two')];
    await insert(one);
    await two.fetch(ctx, 'db');
    await two.attach(ctx, 'db', 'node-b');
    // `one` may not have heard of it yet: the comparison tells.
    await expect(one.markRemoving(ctx, 'db')).rejects.toMatchObject({ code: 'in_use' });
  });

  it('keep an attachment that is not ours when we release', async () => {
    const on = await host('one');
    const id = await insert(on);
    await on.attach(ctx, 'db', 'node-a');
    await on.release(ctx, id, 'node-b');
    expect(on.attachment(id)?.node).toBe('node-a');
    await on.release(ctx, id, 'node-a');
    expect(on.attachment(id)).toBeNull();
  });

  it('deleted and made anew under the same name are not deleted by who meant the old ones', async () => {
    const [one, two] = [await host('one'), await host('two')];
    const old = { name: 'db', id: await insert(one) };
    await two.fetch(ctx, 'db');
    await one.delete(ctx, old);
    const anew = await insert(one);
    await two.delete(ctx, old);
    await expect(two.change(ctx, old, (volume) => ({ ...volume, formatted: true }))).rejects.toMatchObject({
      code: 'not_found',
    });
    expect(await one.fetch(ctx, 'db')).toMatchObject({ id: anew, formatted: false });
  });
});
