import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createBackups, readBackup } from '../../../../src/cluster/backup/backups.js';
import { load } from '../../../../src/cluster/backup/recovery.js';
import type { Ctx } from '../../../../src/context.js';
import { createHostPaths, type HostPaths } from '../../../../src/dataplane/host-paths.js';
import { hookFailPoints } from '../../../../src/lib/fail-points.js';
import { createLog } from '../../../../src/log.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import { records } from '../../../../src/state/records.js';
import type { State } from '../../../../src/state/state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let root: string;
let paths: HostPaths;
let state: State;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'backup-'));
  mkdirSync(join(root, 'var/lib/openebs'), { recursive: true });
  paths = createHostPaths(root, '/mnt');
  state = createMemoryState();
  const cluster = records.cluster.encode({
    schema: 1,
    id: 'c1',
    createdAt: '2026-01-01T00:00:00Z',
    incarnation: 3,
  });
  await put(keys.cluster, cluster);
  for (let count = 0; count < 250; count++)
    await put(`/openebs/volumes/v${String(count)}`, `value "${String(count)}"\n`);
  await put(keys.duty('n1'), 'of the old members');
  const lease = await state.lease(ctx, 10_000);
  await state.transact(ctx, { if: [], then: [{ put: keys.alive('n1'), value: 'leased', lease }] });
});

afterEach(async () => {
  hookFailPoints(null);
  await state.close();
  rmSync(root, { recursive: true });
});

async function put(key: string, value: string): Promise<void> {
  await state.transact(ctx, { if: [], then: [{ put: key, value }] });
}

const backups = (keep = 3) =>
  createBackups({ paths, state, everyMs: 0, keep, isKeeper: () => Promise.resolve(true) });

describe('a backup', () => {
  it('holds everything but what belongs to leases', async () => {
    const made = await backups().make(ctx);
    expect(made).toMatchObject({ cluster: 'c1', keys: 252 });
    const { head, entries } = await readBackup(paths, made.file);
    expect(head).toMatchObject({ cluster: 'c1', incarnation: 3, revision: made.revision });
    expect(entries).toContainEqual(['/openebs/volumes/v249', 'value "249"\n']);
    expect(entries.map(([key]) => key)).not.toContain(keys.alive('n1'));
  });

  it('is for root alone', async () => {
    const { file } = await backups().make(ctx);
    const { statSync } = await import('node:fs');
    expect(statSync(paths.view(file)).mode & 0o777).toBe(0o600);
  });

  it('is refused when it is cut anywhere or changed anywhere', async () => {
    const { file } = await backups().make(ctx);
    const whole = readFileSync(paths.view(file));
    for (let at = 0; at < whole.length; at += 41) {
      writeFileSync(paths.view(file), whole.subarray(0, at));
      await expect(readBackup(paths, file), `cut at ${String(at)}`).rejects.toMatchObject({
        code: 'invalid_argument',
      });
      const other = Buffer.from(whole);
      other[at]! ^= 0x10;
      writeFileSync(paths.view(file), other);
      const taken = await readBackup(paths, file).catch(() => null);
      // Some bytes of gzip's head mean nothing.
      if (taken) expect(taken.entries).toHaveLength(252);
    }
  });

  it.each(['/etc/shadow', '/var/lib/../etc/shadow', 'relative', ''])('is not read from %j', async (file) => {
    await expect(readBackup(paths, file)).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('that is not there is told by its name', async () => {
    await expect(readBackup(paths, '/var/lib/nothing')).rejects.toThrow(/\/var\/lib\/nothing cannot be read/);
  });

  it('of a state without a cluster is not made: an etcd that has lost its data would push good ones out', async () => {
    await state.transact(ctx, { if: [], then: [{ delete: keys.cluster }] });
    await expect(backups().make(ctx)).rejects.toThrow(/there is no record of one/);
    expect(await backups().list()).toEqual([]);
  });

  it('pushes out only what is more than are kept, the oldest first', async () => {
    const made = [];
    for (let count = 0; count < 5; count++) {
      made.push((await backups(3).make(ctx)).file);
      await put('/openebs/more', String(count));
    }
    expect((await backups().list()).map(({ file }) => file)).toEqual(made.slice(2).reverse());
  });
});

describe('loading a backup', () => {
  it('brings everything back into an empty etcd, as the next incarnation, without the old members', async () => {
    await put(keys.ending, 'it was being taken down');
    await put(keys.ended('n1'), 'and one host had carried that out');
    const { file } = await backups().make(ctx);
    const fresh = createMemoryState();
    expect(await load(ctx, await readBackup(paths, file), fresh, 0)).toBe(4);
    const { entries } = await fresh.range(ctx, '/openebs/');
    expect(entries).toHaveLength(251);
    for (const key of [keys.duty('n1'), keys.ending, keys.ended('n1')])
      expect(await fresh.get(ctx, key)).toBeNull();
    const record = await fresh.get(ctx, keys.cluster);
    expect(records.cluster.decode(keys.cluster, record!.value)).toMatchObject({ id: 'c1', incarnation: 4 });
    await fresh.close();
  });

  it('that was cut off is begun again, and nobody can take a part for the whole', async () => {
    const { file } = await backups().make(ctx);
    const backup = await readBackup(paths, file);
    const fresh = createMemoryState();
    let left = 2;
    hookFailPoints(() => {
      left -= 1;
      return left === 0 ? Promise.reject(new Error('cut off')) : undefined;
    });
    await expect(load(ctx, backup, fresh, 0)).rejects.toThrow('cut off');
    hookFailPoints(null);
    expect(await fresh.get(ctx, keys.cluster)).toBeNull();
    await load(ctx, backup, fresh, 0);
    expect((await fresh.range(ctx, '/openebs/')).entries).toHaveLength(251);
    // Once more changes nothing.
    const { revision } = await fresh.range(ctx, '/openebs/');
    await load(ctx, backup, fresh, 0);
    expect((await fresh.range(ctx, '/openebs/')).revision).toBe(revision);
    await fresh.close();
  });

  it('has the last word about the record, whatever a host that has not heard of it puts back meanwhile', async () => {
    const { file } = await backups().make(ctx);
    const fresh = createMemoryState();
    const old = { schema: 1, id: 'c1', createdAt: '', incarnation: 3 } as const;
    let left = 2;
    hookFailPoints(() => {
      left -= 1;
      if (left !== 0) return undefined;
      const then = [{ put: keys.cluster, value: records.cluster.encode(old) }];
      return fresh.transact(ctx, { if: [], then }).then(() => undefined);
    });
    expect(await load(ctx, await readBackup(paths, file), fresh, 0)).toBe(4);
    const record = await fresh.get(ctx, keys.cluster);
    expect(records.cluster.decode(keys.cluster, record!.value)).toMatchObject({ incarnation: 4 });
    expect((await fresh.range(ctx, '/openebs/')).entries).toHaveLength(251);
    await fresh.close();
  });

  it('that is older than the last recovery is a later incarnation all the same', async () => {
    const { file } = await backups().make(ctx);
    const fresh = createMemoryState();
    expect(await load(ctx, await readBackup(paths, file), fresh, 7)).toBe(8);
    await fresh.close();
  });
});
