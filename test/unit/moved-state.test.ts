import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createHostPaths } from '../../src/dataplane/host-paths.js';
import { createLog } from '../../src/log.js';
import { refuseToHide } from '../../src/moved-state.js';
import { keys } from '../../src/state/keys.js';
import { openLocalState } from '../../src/state/local-state.js';
import { createMemoryState } from '../../src/state/memory-state.js';
import { openReplica } from '../../src/state/replica.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
let root: string;
let home: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'openebs-moved-'));
  home = join(root, 'var/lib/openebs');
  mkdirSync(home, { recursive: true });
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

const change = (to: 'etcd' | 'none') => refuseToHide(createHostPaths(root, '/mnt/none'), to, log);
const puts = (count: number) =>
  Array.from({ length: count }, (_, index) => ({ put: keys.volume(`v${String(index)}`), value: 'x' }));

/** What the replica leaves behind of a state with so many volumes. */
async function cache(volumes: number): Promise<void> {
  const state = createMemoryState();
  await state.transact(ctx, { if: [], then: [{ put: keys.cluster, value: 'x' }, ...puts(volumes)] });
  const file = join(home, 'cache/records.json');
  const replica = await openReplica({ state, prefixes: [keys.volumes, keys.cluster], file, log });
  await replica.synced;
  await replica.close();
  await state.close();
}

async function keepHere(volumes: number): Promise<void> {
  const directory = join(home, 'local');
  const state = await openLocalState({ directory, shown: directory, log });
  await state.transact(ctx, { if: [], then: [{ put: keys.cluster, value: 'x' }, ...puts(volumes)] });
  await state.close();
}

describe('a change of CLUSTER', () => {
  it.each(['etcd', 'none'] as const)('on a new host begins with %s, and is noted', async (to) => {
    expect(await change(to)).toBeNull();
    expect(JSON.parse(readFileSync(join(home, 'kept-in.json'), 'utf8'))).toEqual({ cluster: to });
    await cache(3);
    expect(await change(to)).toBeNull();
  });

  it('away from an etcd that was there before there was a choice is refused, and back is not', async () => {
    await cache(2);
    writeFileSync(join(home, 'etcd-incarnation.json'), '{}');
    const refused = await change('none');
    expect(refused).toMatchObject({ code: 'conflict' });
    expect(refused?.message).toMatch(
      /CLUSTER=none, but 2 volume\(s\) are recorded in etcd .*set openebs CLUSTER=etcd"/,
    );
    expect(await change('none')).not.toBeNull();
    expect(await change('etcd')).toBeNull();
  });

  it('away from etcd is taken when its records are known, and no volume among them', async () => {
    await change('etcd');
    await cache(0);
    expect(await change('none')).toBeNull();
    expect(await change('none')).toBeNull();
  });

  it.each([
    ['missing', undefined],
    ['damaged', '{"complete":true'],
    ['of part of them', JSON.stringify({ checksum: '', complete: false, entries: [] })],
  ])('away from etcd is refused when what is known of its records is %s', async (_, content) => {
    await change('etcd');
    mkdirSync(join(home, 'cache'));
    if (content !== undefined) writeFileSync(join(home, 'cache/records.json'), content);
    expect((await change('none'))?.message).toContain('volumes may be recorded in etcd');
  });

  it('away from the file is refused while volumes are in it, whatever the cache says', async () => {
    await change('none');
    await keepHere(2);
    await cache(0);
    const refused = await change('etcd');
    expect(refused?.message).toMatch(
      /CLUSTER=etcd, but 2 volume\(s\) are recorded in \/var\/lib\/openebs\/local .*none"/,
    );
    expect(await change('none')).toBeNull();
  });

  it('away from a file without volumes is taken; from one that is damaged, as the cache says', async () => {
    await change('none');
    await keepHere(0);
    await cache(1);
    expect(await change('etcd')).toBeNull();
    expect(await cacheThen(0)).toBeNull();
    writeFileSync(join(home, 'local/state'), 'garbage, and more than a header of it');
    await cache(1);
    expect((await change('etcd'))?.message).toContain('1 volume(s)');
    rmSync(join(home, 'cache'), { recursive: true });
    expect((await change('etcd'))?.message).toContain('volumes may be recorded');
  });

  it('is not guessed at when the note of it is damaged', async () => {
    writeFileSync(join(home, 'kept-in.json'), '{"cluster":');
    await expect(change('none')).rejects.toThrow(/kept-in\.json is damaged/);
  });
});

/** To none, from an etcd of which so much is known. */
async function cacheThen(volumes: number) {
  await cache(volumes);
  return change('none');
}
