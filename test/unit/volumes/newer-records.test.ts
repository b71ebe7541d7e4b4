import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import { createLog } from '../../../src/log.js';
import { recordCluster } from '../../../src/observer.js';
import { keys } from '../../../src/state/keys.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import { openReplica, type Replica } from '../../../src/state/replica.js';
import type { State } from '../../../src/state/state.js';
import { Converger } from '../../../src/volumes/converge.js';
import { loadMountCounts } from '../../../src/volumes/mount-counts.js';
import { LocalVolumeService } from '../../../src/volumes/service.js';
import { Upkeep } from '../../../src/volumes/upkeep.js';
import { VolumeRecords } from '../../../src/volumes/volume-records.js';
import { VolumeWork } from '../../../src/volumes/volume-work.js';
import { createFakeDataPlane, type FakeDataPlane } from '../../fakes/data-plane.js';

const log = createLog('silent');
const ctx: Ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const newer = 'written by a newer version of this plugin (schema 2, this one reads 1): upgrade the plugin';

let directory: string;
let state: State;
let replica: Replica;
let plane: FakeDataPlane;
let service: LocalVolumeService;
let upkeep: Upkeep;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'newer-'));
  state = createMemoryState();
  plane = createFakeDataPlane();
  replica = await openReplica({
    state,
    prefixes: [keys.volumes, keys.targets, keys.attachments, keys.cluster],
    file: join(directory, 'records.json'),
    log,
  });
  await replica.synced;
  const deps = {
    node: 'node-a',
    records: new VolumeRecords(state, replica),
    counts: await loadMountCounts(join(directory, 'mounts.json'), 'boot', log),
    targets: plane.targets,
    initiator: plane.initiator,
    fileSystems: plane.fileSystems,
    paths: createHostPaths(directory, '/mnt'),
    ports: { first: 51_000, last: 51_099 },
    engineAnswers: () => Promise.resolve(true),
    activityOf: () => Promise.resolve(null),
    usersOf: () => Promise.resolve([]),
    startUnmounted: () => Promise.resolve({ started: [], failed: [] }),
    defaults: { sizeBytes: 2 ** 30, fs: 'ext4' as const, pool: 'default' },
    targetAddress: '127.0.0.1',
    mountTimeoutMs: 2000,
    failoverAfterMs: 30_000,
    liveness: { awayMs: () => 0 },
    background: ctx,
    repairs: { of: () => '' },
  };
  const shared = { ...deps, converger: new Converger(deps) };
  const work = new VolumeWork(shared);
  service = new LocalVolumeService({ ...shared, work });
  upkeep = new Upkeep({ ...shared, work });
});

afterEach(async () => {
  await replica.close();
  await state.close();
  rmSync(directory, { recursive: true });
});

async function put(key: string, record: unknown): Promise<void> {
  const before = await state.get(ctx, key);
  const unchanged = before ? { key, modRevision: before.modRevision } : { key, absent: true as const };
  await state.transact(ctx, { if: [unchanged], then: [{ put: key, value: JSON.stringify(record) }] });
  await replica.refresh(ctx, key);
}

/** Rewrites a record as a later version would: another schema, and a shape that nobody here knows. */
async function renew(key: string): Promise<void> {
  const entry = await state.get(ctx, key);
  const { createdAt } = JSON.parse(entry?.value ?? '{}') as { createdAt?: string };
  await put(key, { schema: 2, createdAt, shape: 'of another time' });
}

async function everything(): Promise<unknown> {
  return (await state.range(ctx, keys.root)).entries;
}

it('a volume of a newer version is shown, and refused with the reason, and its record stays as it is', async () => {
  await service.create(ctx, 'old', {});
  await service.create(ctx, 'new', {});
  const { createdAt } = await service.get(ctx, 'new');
  await renew(keys.volume('new'));
  const before = await everything();
  const effects = [...plane.effects];

  expect(await service.get(ctx, 'new')).toEqual({
    name: 'new',
    mountpoint: '',
    createdAt,
    status: { state: 'unreadable', error: expect.stringContaining(newer) as string },
  });
  expect(service.list().map(({ name }) => name)).toEqual(['old', 'new']);
  await expect(service.mount(ctx, 'new', 'id')).rejects.toThrow(newer);
  await expect(service.remove(ctx, 'new')).rejects.toThrow(newer);
  await expect(service.create(ctx, 'new', {})).rejects.toThrow(newer);
  await upkeep.reconcile(ctx);
  expect(await everything()).toEqual(before);
  expect(plane.effects).toEqual(effects);
});

it('one that this host has not heard of yet is shown too', async () => {
  await service.create(ctx, 'here', {});
  const key = keys.volume('elsewhere');
  await state.transact(ctx, { if: [{ key, absent: true }], then: [{ put: key, value: '{"schema":3}' }] });
  expect(await service.get(ctx, 'elsewhere')).toMatchObject({
    name: 'elsewhere',
    createdAt: '1970-01-01T00:00:00.000Z',
    status: { state: 'unreadable' },
  });
});

it.each<['target' | 'attachment', (id: string) => string]>([
  ['target', (id) => keys.target(id, 0)],
  ['attachment', (id) => keys.attachment(id)],
])(
  'a newer %s of a volume is told in its Status, and the volume is neither mounted nor removed',
  async (_kind, keyOf) => {
    await service.create(ctx, 'db', {});
    const id = String((await service.get(ctx, 'db')).status.id);
    await renew(keyOf(id));
    const before = await everything();
    expect(await service.get(ctx, 'db')).toMatchObject({
      status: { id, error: expect.stringContaining(newer) as string },
    });
    await expect(service.mount(ctx, 'db', 'id')).rejects.toThrow(newer);
    await expect(service.remove(ctx, 'db')).rejects.toThrow(newer);
    await upkeep.reconcile(ctx);
    expect(await everything()).toEqual(before);
  },
);

it('in a cluster of a newer version nothing is made, and what is readable goes on', async () => {
  await service.create(ctx, 'db', {});
  await put(keys.cluster, { schema: 2 });
  const before = await everything();
  await expect(service.create(ctx, 'more', {})).rejects.toThrow(newer);
  await expect(recordCluster(ctx, state, { node: 'node-a', cluster: 'c' })).rejects.toThrow(newer);
  expect(await everything()).toEqual(before);
  expect(await service.mount(ctx, 'db', 'id')).toContain('/data');
});
