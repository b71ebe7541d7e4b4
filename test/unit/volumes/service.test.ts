import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import { AppError } from '../../../src/errors.js';
import { sleep } from '../../../src/lib/sleep.js';
import { createLog } from '../../../src/log.js';
import { keys } from '../../../src/state/keys.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import { records as nodeRecords } from '../../../src/state/records.js';
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
const down = new AppError('unavailable', 'etcd at test cannot be reached');

let directory: string;
let memory: State;
let plane: FakeDataPlane;
let stateDown = false;
/** Who has volumes mounted, by the engine's word; an error when it does not answer. */
let users: string[] | AppError = [];
/** Why a container that waits cannot be started. */
let activity: string | null;
let refusal: string | null = null;
let engineUp = true;
let isEnding = false;
/** Volumes whose containers were started by the plugin. */
let started: string[] = [];
let replicas: Replica[] = [];
/** Nothing listens there: the data plane is a fake. It is no loopback, as nodes reach each other's targets. */
let targetAddress = '0.0.0.0';
/** For how long a node has been away. */
const awayMs = new Map<string, number>();

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'service-'));
  memory = createMemoryState();
  plane = createFakeDataPlane();
  stateDown = false;
  awayMs.clear();
  targetAddress = '0.0.0.0';
  users = [];
  engineUp = true;
  isEnding = false;
  activity = null;
  refusal = null;
  started = [];
  replicas = [];
});

afterEach(async () => {
  await Promise.all(replicas.map((replica) => replica.close()));
  await memory.close();
  rmSync(directory, { recursive: true });
});

/** Shared state that can be away. */
function faultyState(): State {
  const unlessDown = <T>(call: () => Promise<T>): Promise<T> => (stateDown ? Promise.reject(down) : call());
  return {
    ...memory,
    get: (caller, key) => unlessDown(() => memory.get(caller, key)),
    range: (caller, prefix) => unlessDown(() => memory.range(caller, prefix)),
    transact: (caller, transaction) => unlessDown(() => memory.transact(caller, transaction)),
    watch: (prefix, listener) => memory.watch(prefix, listener),
    lease: (caller, ttlMs) => memory.lease(caller, ttlMs),
    close: () => Promise.resolve(),
  };
}

/** A service as a start of the plugin makes it: all it knows comes from disk, state and the data plane. */
async function start(node = 'node-a', here = plane): Promise<LocalVolumeService & { upkeep: Upkeep }> {
  const state = faultyState();
  const replica = await openReplica({
    state,
    prefixes: [keys.volumes, keys.targets, keys.attachments, keys.allNodeSettings, keys.peers],
    file: join(directory, node, 'records.json'),
    log,
  });
  replicas.push(replica);
  if (!stateDown) await replica.synced;
  const records = new VolumeRecords(state, replica);
  const deps = {
    node,
    records,
    counts: await loadMountCounts(join(directory, node, 'mounts.json'), 'boot', log),
    targets: here.targets,
    initiator: here.initiator,
    fileSystems: here.fileSystems,
    paths: createHostPaths(directory, '/mnt'),
    ports: { first: 51_000, last: 51_099 },
    engineAnswers: () => Promise.resolve(engineUp),
    activityOf: () => Promise.resolve(activity),
    startUnmounted: (_ctx: Ctx, volumes: ReadonlySet<string>) => {
      if (!engineUp) return Promise.reject(new AppError('unavailable', 'the engine does not answer'));
      started.push(...volumes);
      const failed = refusal === null ? [] : [{ container: 'app', volumes: ['db'], reason: refusal }];
      return Promise.resolve({ started: ['web'], failed });
    },
    usersOf: () => (users instanceof AppError ? Promise.reject(users) : Promise.resolve(users)),
    defaults: { sizeBytes: 2 ** 30, fs: 'ext4' as const, pool: 'default' },
    targetAddress,
    mountTimeoutMs: 2000,
    isEnding: () => isEnding,
    failoverAfterMs: 300,
    liveness: { awayMs: (other: string) => awayMs.get(other) ?? 0 },
    background: ctx,
    repairs: { of: () => '' },
  };
  const shared = { ...deps, converger: new Converger(deps) };
  const work = new VolumeWork(shared);
  return Object.assign(new LocalVolumeService({ ...shared, work }), {
    upkeep: new Upkeep({ ...shared, work }),
  });
}

async function storedKeys(): Promise<string[]> {
  return (await memory.range(ctx, keys.root)).entries.map((entry) => entry.key);
}

function nothingIsLeft(): void {
  const { backing, targets, initiators, mounts } = plane.world;
  expect([backing.size, targets.size, initiators.size, mounts.size]).toEqual([0, 0, 0, 0]);
}

describe('create', () => {
  it('is refused on a drained node with the way out, and what is there goes on', async () => {
    const service = await start();
    await service.create(ctx, 'db', { size: '1G' });
    const drain = async (drained: boolean) => {
      const value = nodeRecords.nodeSettings.encode({ schema: 1, labels: {}, drained });
      await memory.transact(ctx, { if: [], then: [{ put: keys.nodeSettings('node-a'), value }] });
      await sleep(20);
    };
    await drain(true);
    await expect(service.create(ctx, 'more', { size: '1G' })).rejects.toMatchObject({
      code: 'conflict',
      message:
        'volume more is not made here, as node node-a is drained: create it on another host, or let this one make ' +
        'volumes again with "docker openebs node drain node-a --undo"',
    });
    expect(await storedKeys()).not.toContain(keys.volume('more'));
    await service.create(ctx, 'db', { size: '1G' });
    await service.mount(ctx, 'db', 'm1');
    await service.unmount(ctx, 'db', 'm1');
    const other = await start('node-b');
    await other.create(ctx, 'elsewhere', { size: '1G' });
    await drain(false);
    await service.create(ctx, 'more', { size: '1G' });
    await service.remove(ctx, 'db');
  });

  it('makes a volume that is ready, and the same again changes nothing', async () => {
    const service = await start();
    await service.create(ctx, 'db', { size: '1G' });
    const effects = [...plane.effects];
    await service.create(ctx, 'db', { size: '1G' });
    expect(plane.effects).toEqual(effects);
    expect(service.list()).toMatchObject([
      { name: 'db', mountpoint: '', status: { state: 'ready', size: '1 GiB' } },
    ]);
  });

  it('with other options is refused and names the first difference', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await expect(service.create(ctx, 'db', { fs: 'xfs' })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('fs is ext4, asked for xfs') as string,
    });
  });

  it('ten times at once makes one volume', async () => {
    const service = await start();
    await Promise.all(Array.from({ length: 10 }, () => service.create(ctx, 'db', {})));
    expect(plane.world.targets.size).toBe(1);
    expect(await storedKeys()).toHaveLength(2);
  });

  it('on two nodes at once makes one volume and both succeed', async () => {
    const [one, two] = [await start('node-a'), await start('node-b')];
    await Promise.all([one.create(ctx, 'db', {}), two.create(ctx, 'db', {})]);
    expect(plane.world.targets.size).toBe(1);
    expect((await storedKeys()).filter((key) => key.startsWith(keys.volumes))).toEqual([keys.volume('db')]);
  });

  it('that fails leaves nothing behind and keeps the reason', async () => {
    const service = await start();
    plane.failAt(1, 'before', new AppError('no_space', 'pool default is full'));
    await expect(service.create(ctx, 'db', {})).rejects.toThrow('pool default is full');
    nothingIsLeft();
    expect(await storedKeys()).toEqual([]);
  });

  it('passes over a port that another process takes in between', async () => {
    const service = await start();
    plane.world.takenPorts.add(51_000);
    await service.create(ctx, 'db', {});
    expect([...plane.world.targets.values()].map((target) => target.port)).toEqual([51_001]);
  });

  it('whose write was carried out, but whose answer was lost, goes on with it', async () => {
    const service = await start();
    const transact = memory.transact.bind(memory);
    vi.spyOn(memory, 'transact').mockImplementationOnce(async (caller, transaction) => {
      await transact(caller, transaction);
      throw down;
    });
    await service.create(ctx, 'db', {});
    expect(service.list()).toMatchObject([{ name: 'db', status: { state: 'ready' } }]);
  });

  it('while etcd is away fails with its reason and makes nothing', async () => {
    const service = await start();
    stateDown = true;
    await expect(service.create(ctx, 'db', {})).rejects.toThrow('etcd at test cannot be reached');
    nothingIsLeft();
  });
});

it('twenty volumes at once have ports of their own', async () => {
  const service = await start();
  const names = Array.from({ length: 20 }, (_, number) => `many${String(number)}`);
  await Promise.all(names.map((name) => service.create(ctx, name, {})));
  expect(new Set([...plane.world.targets.values()].map((target) => target.port)).size).toBe(20);
});

it('a create that was killed while it made the data file is finished', async () => {
  const dying = await start();
  plane.dieAt(1, 'before', () => {
    stateDown = true;
  });
  await dying.create(ctx, 'db', {}).catch(() => undefined);
  for (const id of plane.world.backing.keys()) plane.world.backing.set(id, 0);
  plane.revive();
  stateDown = false;
  const next = await start();
  await next.create(ctx, 'db', {});
  expect([...plane.world.backing.values()]).toEqual([2 ** 30]);
});

describe('a damaged record', () => {
  beforeEach(async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.create(ctx, 'other', {});
    const id = String((await service.get(ctx, 'db')).status.id);
    await memory.transact(ctx, { if: [], then: [{ put: keys.target(id, 0), value: '{' }] });
  });

  it('is told in the Status of its volume and hides no other', async () => {
    const service = await start();
    const views = service.list().map(({ name, status }) => `${name}: ${String(status.error)}`);
    expect(views).toEqual([expect.stringMatching(/^db: the target record at .* is damaged/), 'other: ']);
  });

  it('does not keep the timer from the other volumes', async () => {
    const service = await start();
    plane.world.targets.clear();
    await service.upkeep.reconcile(ctx);
    expect([...plane.world.targets.values()].map((target) => target.volume)).toEqual(['other']);
  });
});

describe('mount', () => {
  it('of a volume whose removal was cut off is refused, counts nothing and goes nowhere', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    plane.failAt(0, 'before');
    await service.remove(ctx, 'db').catch(() => undefined);
    await expect(service.mount(ctx, 'db', 'a')).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringContaining('is being removed') as string,
    });
    expect(service.list()).toMatchObject([{ status: { state: 'removing', mountsHere: 0 } }]);
  });

  it('of a volume that another node is still making fails and counts nothing', async () => {
    const [one, two] = [await start('node-a'), await start('node-b')];
    plane.dieAt(0, 'before', () => {
      stateDown = true;
    });
    await one.create(ctx, 'db', {}).catch(() => undefined);
    plane.revive();
    stateDown = false;
    await expect(two.mount(ctx, 'db', 'a')).rejects.toThrow('node-a is still at it');
    expect(two.list()).toMatchObject([{ status: { mountsHere: 0 } }]);
  });

  it('attaches once for many ids and gives all back with the last', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    const paths = await Promise.all(['a', 'b', 'c'].map((id) => service.mount(ctx, 'db', id)));
    expect(new Set(paths).size).toBe(1);
    expect(plane.effects.filter((effect) => effect.startsWith('attach'))).toHaveLength(1);
    await service.unmount(ctx, 'db', 'a');
    await service.unmount(ctx, 'db', 'b');
    expect(plane.world.mounts.size).toBe(1);
    await service.unmount(ctx, 'db', 'c');
    expect([plane.world.mounts.size, plane.world.initiators.size]).toEqual([0, 0]);
    expect([...plane.world.targets.values()][0]?.admit).toBeNull();
    expect(await storedKeys()).not.toContainEqual(expect.stringContaining('/attachments/'));
  });

  it('of the same id twice needs two unmounts, as docker cp sends them', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    await service.mount(ctx, 'db', 'a');
    await service.unmount(ctx, 'db', 'a');
    expect(plane.world.mounts.size).toBe(1);
    await service.unmount(ctx, 'db', 'a');
    expect(plane.world.mounts.size).toBe(0);
  });

  it('makes the file system once, whatever comes between', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    for (const id of ['a', 'b']) {
      await service.mount(ctx, 'db', id);
      await service.unmount(ctx, 'db', id);
    }
    expect(plane.effects.filter((effect) => effect.startsWith('mkfs'))).toHaveLength(1);
  });

  it('never formats a disk that holds another file system', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    const id = [...plane.world.backing.keys()][0] ?? '';
    plane.world.formatted.set(id, 'xfs');
    await expect(service.mount(ctx, 'db', 'a')).rejects.toThrow('holds xfs: not formatted');
    expect(plane.world.formatted.get(id)).toBe('xfs');
  });

  it('of a ready volume whose data is missing fails and makes no empty one', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    plane.world.backing.clear();
    plane.world.targets.clear();
    await expect(service.mount(ctx, 'db', 'a')).rejects.toThrow('is missing from its pool');
    expect(plane.world.backing.size).toBe(0);
  });

  it('with a new epoch has a new account, and the target admits no other', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    const accounts: (string | undefined)[] = [];
    for (const id of ['a', 'b']) {
      await service.mount(ctx, 'db', id);
      const target = [...plane.world.targets.values()][0];
      accounts.push(`${target?.admit?.chapUser ?? ''} ${target?.admit?.chapSecret ?? ''}`);
      await service.unmount(ctx, 'db', id);
    }
    expect(new Set(accounts).size).toBe(2);
  });

  it('on a second node is refused while the first has it, and names that node', async () => {
    const [one, two] = [await start('node-a'), await start('node-b')];
    await one.create(ctx, 'db', {});
    await one.mount(ctx, 'db', 'a');
    await expect(two.mount(ctx, 'db', 'b')).rejects.toMatchObject({
      code: 'in_use',
      message: expect.stringContaining('node-a') as string,
    });
  });

  it('whose caller goes away leaves nothing counted', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    const leaving = new AbortController();
    const mounting = service.mount({ ...ctx, signal: leaving.signal }, 'db', 'a');
    leaving.abort();
    await expect(mounting).rejects.toMatchObject({ code: 'canceled' });
    await service.remove(ctx, 'db');
    nothingIsLeft();
  });

  it('that was cut off before its directory was made is made anew', async () => {
    const dying = await start();
    await dying.create(ctx, 'db', {});
    await dying.mount(ctx, 'db', 'a');
    const mountpoint = [...plane.world.mounts.keys()][0] ?? '';
    plane.world.unprepared.add(mountpoint);
    await (await start()).mount(ctx, 'db', 'b');
    expect(plane.effects.filter((effect) => effect === `mount ${mountpoint}`)).toHaveLength(2);
    expect(plane.world.unprepared.size).toBe(0);
  });

  it('works without etcd on a volume that this node has attached', async () => {
    const before = await start();
    await before.create(ctx, 'db', {});
    await before.mount(ctx, 'db', 'a');
    stateDown = true;
    // The power fails: mounts are gone, containers come back by themselves.
    plane.world.mounts.clear();
    rmSync(join(directory, 'node-a', 'mounts.json'));
    const after = await start();
    await expect(after.mount(ctx, 'db', 'a')).resolves.toMatch(/^\/mnt\/.*\/data$/);
  });
});

describe('the attachment of a node that is away', () => {
  /** A volume of node-a that node-b has mounted. */
  async function abandoned() {
    const away = createFakeDataPlane(plane.world);
    const [one, two] = [await start('node-a'), await start('node-b', away)];
    await one.create(ctx, 'db', {});
    one.upkeep.follow(ctx);
    await vi.waitFor(() => two.mount(ctx, 'db', 'b'));
    return { one, two, away };
  }

  const admitted = () => [...plane.world.targets.values()][0]?.admit;

  it('is taken over once that lasts long enough, with a new account that the target then admits', async () => {
    const { one } = await abandoned();
    const before = admitted();
    awayMs.set('node-b', 300);
    await one.mount(ctx, 'db', 'a');
    expect(admitted()?.epoch).toBe((before?.epoch ?? 0) + 1);
    expect(admitted()?.chapSecret).not.toBe(before?.chapSecret);
    expect(await one.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-a', mountsHere: 1 } });
  });

  it('is waited for, and taken over in the same call when its time comes', async () => {
    const { one } = await abandoned();
    awayMs.set('node-b', 1);
    setTimeout(() => awayMs.set('node-b', 300), 50);
    await one.mount(ctx, 'db', 'a');
    expect(await one.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-a' } });
  });

  it('is refused within the time of a mount before that, with when to try again', async () => {
    const { one } = await abandoned();
    awayMs.set('node-b', 200);
    await expect(one.mount(ctx, 'db', 'a')).rejects.toMatchObject({
      code: 'in_use',
      message: expect.stringMatching(
        /attached to node node-b, which has been away for .*: it is taken over/,
      ) as string,
    });
    expect(await one.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-b', mountsHere: 0 } });
  });

  it('is not taken over when it is alive after all, whatever this node believes', async () => {
    const { one } = await abandoned();
    const lease = await memory.lease(ctx, 60_000);
    await memory.transact(ctx, { if: [], then: [{ put: keys.alive('node-b'), value: '{}', lease }] });
    awayMs.set('node-b', 300);
    await expect(one.mount(ctx, 'db', 'a')).rejects.toMatchObject({ code: 'in_use' });
    expect(admitted()?.chapUser).toMatch(/-1$/);
  });

  it('is not taken over while etcd is away', async () => {
    const { one } = await abandoned();
    awayMs.set('node-b', 300);
    stateDown = true;
    await expect(one.mount(ctx, 'db', 'a')).rejects.toThrow('etcd at test cannot be reached');
    stateDown = false;
    expect(await one.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-b' } });
  });

  it('is left where it is when the node with the data is away too', async () => {
    const { one } = await abandoned();
    const three = await start('node-c', createFakeDataPlane(plane.world));
    awayMs.set('node-a', 300).set('node-b', 300);
    await expect(three.mount(ctx, 'db', 'c')).rejects.toThrow(
      'its data is on node node-a, which has been away',
    );
    expect(await one.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-b' } });
  });

  it('is given up there when it is back: device first, then file system and counts; unmounts succeed', async () => {
    const { one, two, away } = await abandoned();
    awayMs.set('node-b', 300);
    await one.mount(ctx, 'db', 'a');
    away.effects.length = 0;
    away.world.heldDevices.add('/dev/loop0');
    await two.upkeep.reconcile(ctx);
    expect(away.effects).toEqual([expect.stringContaining('forfeit'), expect.stringContaining('unmount')]);
    expect(await two.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-a', mountsHere: 0 } });
    await two.unmount(ctx, 'db', 'b');
    expect(admitted()?.chapUser).toMatch(/-2$/);
  });

  it('is not claimed again there when who took it over is done, unless somebody mounts it', async () => {
    const { one, two, away } = await abandoned();
    awayMs.set('node-b', 300);
    await one.mount(ctx, 'db', 'a');
    await one.unmount(ctx, 'db', 'a');
    await two.upkeep.reconcile(ctx);
    expect([away.world.initiators.size, away.world.mounts.size]).toEqual([0, 0]);
    expect(await one.get(ctx, 'db')).toMatchObject({ status: { attachedTo: '' } });
    awayMs.clear();
    await two.mount(ctx, 'db', 'again');
    expect(await one.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-b' } });
  });

  it.each(['heldDevices', 'readOnlyDevices'] as const)(
    'leaves nothing behind there, also when a container mounts anew before that was noticed (%s)',
    async (what) => {
      const { one, two, away } = await abandoned();
      awayMs.set('node-b', 300);
      await one.mount(ctx, 'db', 'a');
      await one.unmount(ctx, 'db', 'a');
      awayMs.clear();
      away.world[what].add('/dev/loop0');
      await two.mount(ctx, 'db', 'again');
      expect(away.effects.filter((effect) => effect.startsWith('forfeit'))).toHaveLength(1);
      expect(await two.get(ctx, 'db')).toMatchObject({ status: { attachedTo: 'node-b', mountsHere: 1 } });
    },
  );

  it('leaves no initiator there of a volume which was removed meanwhile, whoever uses its device', async () => {
    const { one, two, away } = await abandoned();
    awayMs.set('node-b', 300);
    for (const { device } of away.world.initiators.values()) away.world.heldDevices.add(device);
    await one.remove(ctx, 'db');
    await two.upkeep.reconcile(ctx);
    expect(away.world.initiators.size).toBe(0);
  });

  it('does not keep the volume from being removed', async () => {
    const { one } = await abandoned();
    await expect(one.remove(ctx, 'db')).rejects.toMatchObject({ code: 'in_use' });
    awayMs.set('node-b', 300);
    await one.remove(ctx, 'db');
    expect(await storedKeys()).not.toContainEqual(expect.stringMatching(/attachments|volumes|targets/));
  });
});

describe('a cluster that is being taken down', () => {
  const ending = { schema: 1, id: 'e', cluster: 'c', purge: false, nodes: [], decided: false } as const;

  it('gets no volume and no attachment any more', async () => {
    const one = await start();
    await one.create(ctx, 'db', {});
    const value = nodeRecords.ending.encode({ ...ending, nodes: [] });
    await memory.transact(ctx, { if: [], then: [{ put: keys.ending, value }] });
    await expect(one.create(ctx, 'web', {})).rejects.toThrow(
      'volume web cannot be had: the cluster is being',
    );
    await expect(one.mount(ctx, 'db', 'm')).rejects.toThrow('volume db cannot be had: the cluster is being');
    expect(await storedKeys()).not.toContainEqual(expect.stringMatching(/attachments|web/));
    await memory.transact(ctx, { if: [], then: [{ delete: keys.ending }] });
    await one.mount(ctx, 'db', 'm');
  });

  it('has nothing brought back', async () => {
    const one = await start();
    await one.create(ctx, 'db', {});
    plane.world.targets.clear();
    await one.upkeep.reconcile(ctx);
    expect(plane.world.targets.size).toBe(1);
    plane.world.targets.clear();
    isEnding = true;
    await one.upkeep.reconcile(ctx);
    expect(plane.world.targets.size).toBe(0);
  });
});

describe('several nodes', () => {
  it('refuse what is served on loopback of another one, and claim nothing', async () => {
    targetAddress = '127.0.0.1';
    const [one, two] = [await start('node-a'), await start('node-b')];
    await one.create(ctx, 'db', {});
    await expect(two.mount(ctx, 'db', 'b')).rejects.toThrow(
      'served on loopback (127.0.0.1) of node node-a: set TARGET_ADDRESS there',
    );
    expect(await storedKeys()).not.toContainEqual(expect.stringContaining('/attachments/'));
  });

  /** As `cluster init` leaves it: the others know an address, and the volumes are not served there yet. */
  async function madeFirst() {
    targetAddress = '127.0.0.1';
    const before = await start('node-a');
    await before.create(ctx, 'db', {});
    const url = 'https://10.0.0.1:23790';
    const peer = { schema: 1, node: 'node-a', hostname: 'a', peerUrl: url, clientUrl: url } as const;
    const value = nodeRecords.peer.encode({ ...peer, member: null, lost: false, leaving: false });
    await memory.transact(ctx, { if: [], then: [{ put: keys.peer('node-a'), value }] });
    targetAddress = '0.0.0.0';
    return { one: await start('node-a'), two: await start('node-b') };
  }

  it('wait for a target that leaves loopback as its host has become the first of a cluster', async () => {
    const { one, two } = await madeFirst();
    one.upkeep.follow(ctx);
    const mounted = two.mount(ctx, 'db', 'b');
    await sleep(300, ctx.signal);
    expect(await storedKeys()).not.toContainEqual(expect.stringContaining('/attachments/'));
    // That does not wait until the engine has settled.
    await one.upkeep.reconcile(ctx, 'urgent');
    await mounted;
  });

  it('wait for it no longer than a mount takes, and not when its host is away', async () => {
    const { two } = await madeFirst();
    await expect(two.mount(ctx, 'db', 'b')).rejects.toThrow('served on loopback');
    awayMs.set('node-a', 1000);
    await expect(two.mount(ctx, 'db', 'b')).rejects.toThrow('served on loopback');
    expect(await storedKeys()).not.toContainEqual(expect.stringContaining('/attachments/'));
  });

  it('see a target move to the address that is set now, once nobody has it attached', async () => {
    targetAddress = '127.0.0.1';
    const one = await start('node-a');
    await one.create(ctx, 'db', {});
    await one.mount(ctx, 'db', 'a');
    targetAddress = '0.0.0.0';
    users = ['container'];
    const next = await start('node-a');
    await next.upkeep.reconcile(ctx);
    expect([...plane.world.targets.values()][0]?.address).toBe('127.0.0.1');
    users = [];
    await next.unmount(ctx, 'db', 'a');
    await next.upkeep.reconcile(ctx);
    expect([...plane.world.targets.values()][0]?.address).toBe('0.0.0.0');
    expect((await next.get(ctx, 'db')).status.target).toMatch(/^0\.0\.0\.0:/);
  });

  it('take a volume as removed while the node with its data is away; its name is kept until that is back', async () => {
    const [one, two] = [await start('node-a'), await start('node-b', createFakeDataPlane())];
    await one.create(ctx, 'db', {});
    await two.get(ctx, 'db');
    awayMs.set('node-a', 1);
    await two.remove(ctx, 'db');
    expect(two.list()).toEqual([]);
    await expect(two.get(ctx, 'db')).rejects.toMatchObject({ code: 'not_found' });
    await expect(two.create(ctx, 'db', {})).rejects.toThrow('node node-a, which has its data, is away');
    expect(plane.world.backing.size).toBe(1);
    awayMs.clear();
    await one.upkeep.reconcile(ctx);
    nothingIsLeft();
    await two.create(ctx, 'db', {});
  });
});

describe('unmount', () => {
  it('succeeds while etcd is away, and the attachment is given back later', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    stateDown = true;
    await service.unmount(ctx, 'db', 'a');
    expect(plane.world.mounts.size).toBe(0);
    stateDown = false;
    await service.upkeep.reconcile(ctx);
    expect(await storedKeys()).not.toContainEqual(expect.stringContaining('/attachments/'));
  });

  it('never takes the device from a container that still has it mounted', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    const device = [...plane.world.initiators.values()][0]?.device ?? '';
    plane.world.heldDevices.add(device);
    await service.unmount(ctx, 'db', 'a');
    expect(plane.world.initiators.size).toBe(1);
    plane.world.heldDevices.clear();
    await service.upkeep.reconcile(ctx);
    expect(plane.world.initiators.size).toBe(0);
  });

  it('leaves the device while its initiator stops, however long ago it stopped before', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    const id = [...plane.world.initiators.keys()][0] ?? '';
    plane.world.draining.add(id);
    await service.unmount(ctx, 'db', 'a');
    plane.world.draining.clear();
    await service.mount(ctx, 'db', 'b');

    const later = performance.now() + 3_600_000;
    vi.spyOn(performance, 'now').mockImplementation(() => later);
    try {
      plane.world.draining.add(id);
      await service.unmount(ctx, 'db', 'b');
    } finally {
      vi.restoreAllMocks();
    }
    expect(plane.world.mounts.size).toBe(0);
    expect(plane.world.initiators.size).toBe(1);
  });

  it.each([
    ['removedByHand', 'given back, as no engine stops it', 0],
    ['silent', 'left, as its engine may be stopping', 1],
  ] as const)('of a device whose initiator is gone (%s): it is %s', async (how, _what, left) => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    plane.world[how].add([...plane.world.initiators.keys()][0] ?? '');
    await service.unmount(ctx, 'db', 'a');
    expect(plane.world.mounts.size).toBe(0);
    expect(plane.world.initiators.size).toBe(left);
    expect((await storedKeys()).filter((key) => key.includes('/attachments/'))).toHaveLength(left);
  });

  it('of what is not known or not held succeeds', async () => {
    const service = await start();
    await service.unmount(ctx, 'never', 'a');
    await service.create(ctx, 'db', {});
    await service.unmount(ctx, 'db', 'a');
    expect(service.list()).toMatchObject([{ status: { state: 'ready', mountsHere: 0 } }]);
  });
});

describe('containers that could not be mounted for', () => {
  it('while the engine started are started when their volume works again, once', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    const id = [...plane.world.backing.keys()][0] ?? '';
    plane.world.targets.clear();
    plane.world.backing.set(id, 1);
    engineUp = false;
    await expect(service.mount(ctx, 'db', 'a')).rejects.toThrow('disk.img has 1 bytes');
    await service.upkeep.reconcile(ctx);
    expect(started).toEqual([]);
    engineUp = true;
    plane.world.backing.set(id, 2 ** 30);
    await service.upkeep.reconcile(ctx);
    await service.upkeep.reconcile(ctx);
    expect(started).toEqual(['db']);
  });

  it('when the engine restarted them are started too, and others are not looked for', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.create(ctx, 'other', {});
    await service.upkeep.reconcile(ctx);
    started = [];
    plane.failAt(0, 'before');
    await expect(service.mount(ctx, 'db', 'a')).rejects.toThrow('injected failure');
    await service.mount(ctx, 'other', 'b');
    await service.upkeep.reconcile(ctx);
    expect(started).toEqual(['db']);
  });

  it('by a process that died over it are started after the next start, once the engine answers', async () => {
    const earlier = await start();
    await earlier.create(ctx, 'db', {});
    await earlier.create(ctx, 'broken', {});
    const service = await start();
    plane.world.backing.set([...plane.world.backing.keys()][1] ?? '', 1);
    plane.world.targets.clear();
    engineUp = false;
    await service.upkeep.reconcile(ctx);
    expect(started).toEqual([]);
    engineUp = true;
    await service.upkeep.reconcile(ctx);
    await service.upkeep.reconcile(ctx);
    expect(started).toEqual(['db']);
  });
});

it('containers that the engine could not start, though their volume works, are tried three times', async () => {
  const service = await start();
  await service.create(ctx, 'db', {});
  refusal = 'id already in use';
  for (let pass = 0; pass < 5; pass++) await service.upkeep.reconcile(ctx);
  expect(started).toEqual(['db', 'db', 'db']);
});

it('containers whose volume another host uses are left alone: their service may have moved there', async () => {
  const service = await start();
  await service.create(ctx, 'db', {});
  refusal = 'error while mounting volume: VolumeDriver.Mount: volume db is in use on node b';
  for (let pass = 0; pass < 3; pass++) await service.upkeep.reconcile(ctx);
  expect(started).toEqual(['db']);
});

describe('the timer, comparing counts with containers', () => {
  /** By a process of before. */
  const mountByEarlier = async () => {
    const earlier = await start();
    await earlier.create(ctx, 'db', {});
    await earlier.mount(ctx, 'db', 'a');
  };

  it('forgets at once what an earlier process counted and no container holds', async () => {
    await mountByEarlier();
    const service = await start();
    await service.upkeep.reconcile(ctx);
    expect(service.list()).toMatchObject([{ status: { mountsHere: 0, attachedTo: '' } }]);
    expect(plane.world.mounts.size).toBe(0);
  });

  it('forgets nothing whose device is being read or written: the engine fills a new volume for a container to be', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      await mountByEarlier();
      const service = await start();
      for (activity of ['1 0', '1 7', '1 9']) {
        await service.upkeep.reconcile(ctx);
        vi.advanceTimersByTime(15_000);
      }
      expect(service.list()).toMatchObject([{ status: { mountsHere: 1 } }]);
      await service.upkeep.reconcile(ctx);
      expect(service.list()).toMatchObject([{ status: { mountsHere: 0, attachedTo: '' } }]);
    } finally {
      vi.useRealTimers();
    }
  });

  it('leaves what it counted itself alone for a while: its container is not in the list yet', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    await service.upkeep.reconcile(ctx);
    expect(service.list()).toMatchObject([{ status: { mountsHere: 1 } }]);
    expect(plane.world.mounts.size).toBe(1);
  });

  it('counts once what an engine that was killed has mounted again, when no container may be starting', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      await mountByEarlier();
      const service = await start();
      await service.mount(ctx, 'db', 'a');
      users = ['web'];
      await service.upkeep.reconcile(ctx);
      expect(service.list()).toMatchObject([{ status: { mountsHere: 2 } }]);
      vi.advanceTimersByTime(61_000);
      await service.upkeep.reconcile(ctx);
      expect(service.list()).toMatchObject([{ status: { mountsHere: 1 } }]);
      await service.unmount(ctx, 'db', 'a');
      expect(service.list()).toMatchObject([{ status: { mountsHere: 0, attachedTo: '' } }]);
    } finally {
      vi.useRealTimers();
    }
  });

  it('counts once what such an engine could not start, and then mounted by another id', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      const earlier = await start();
      await earlier.create(ctx, 'db', {});
      for (const id of ['a', 'of one that stays down']) await earlier.mount(ctx, 'db', id);
      const service = await start();
      await service.mount(ctx, 'db', 'a');
      await service.unmount(ctx, 'db', 'a');
      await service.mount(ctx, 'db', 'b');
      users = ['web'];
      vi.advanceTimersByTime(61_000);
      await service.upkeep.reconcile(ctx);
      expect(service.list()).toMatchObject([{ status: { mountsHere: 1 } }]);
      await service.unmount(ctx, 'db', 'b');
      expect(service.list()).toMatchObject([{ status: { mountsHere: 0, attachedTo: '' } }]);
    } finally {
      vi.useRealTimers();
    }
  });

  it('counts again the containers whose counts were lost, and unmounts with the last', async () => {
    const earlier = await start();
    await earlier.create(ctx, 'db', {});
    await earlier.mount(ctx, 'db', 'a');
    await earlier.mount(ctx, 'db', 'b');
    rmSync(join(directory, 'node-a', 'mounts.json'));
    const service = await start();
    users = ['web', 'worker'];
    await service.upkeep.reconcile(ctx);
    expect(service.list()).toMatchObject([{ status: { mountsHere: 2 } }]);
    await service.unmount(ctx, 'db', 'a');
    expect(plane.world.mounts.size).toBe(1);
    await service.unmount(ctx, 'db', 'b');
    expect([plane.world.mounts.size, plane.world.initiators.size]).toEqual([0, 0]);
  });

  it('leaves what nobody counts on alone while nobody can say who has it', async () => {
    const earlier = await start();
    await earlier.create(ctx, 'db', {});
    await earlier.mount(ctx, 'db', 'a');
    rmSync(join(directory, 'node-a', 'mounts.json'));
    const service = await start();
    users = down;
    await service.upkeep.reconcile(ctx);
    expect([plane.world.mounts.size, plane.world.initiators.size]).toEqual([1, 1]);
    users = [];
    await service.upkeep.reconcile(ctx);
    expect([plane.world.mounts.size, plane.world.initiators.size]).toEqual([0, 0]);
  });
});

describe('remove', () => {
  it('of what a container uses is refused although its count was lost', async () => {
    const earlier = await start();
    await earlier.create(ctx, 'db', {});
    await earlier.mount(ctx, 'db', 'a');
    rmSync(join(directory, 'node-a', 'mounts.json'));
    const service = await start();
    users = ['web'];
    await expect(service.remove(ctx, 'db')).rejects.toThrow('volume db is in use by web');
    expect(plane.world.mounts.size).toBe(1);
  });

  it('takes everything, and again succeeds', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.remove(ctx, 'db');
    await service.remove(ctx, 'db');
    nothingIsLeft();
    expect(await storedKeys()).toEqual([]);
  });

  it('in use is refused with who uses it, and the volume still works', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    users = ['web'];
    await expect(service.remove(ctx, 'db')).rejects.toMatchObject({
      code: 'in_use',
      message: expect.stringContaining('web') as string,
    });
    await service.mount(ctx, 'db', 'b');
    expect(plane.world.mounts.size).toBe(1);
  });

  it('in use on another node is refused', async () => {
    const [one, two] = [await start('node-a'), await start('node-b')];
    await one.create(ctx, 'db', {});
    await one.mount(ctx, 'db', 'a');
    await expect(two.remove(ctx, 'db')).rejects.toMatchObject({ code: 'in_use' });
    expect(plane.world.mounts.size).toBe(1);
  });

  it('on a node that does not host the volume is finished by the one that does, at once', async () => {
    const [one, two] = [await start('node-a'), await start('node-b')];
    one.upkeep.follow(ctx);
    await one.create(ctx, 'db', {});
    await two.remove(ctx, 'db');
    await vi.waitFor(async () => {
      expect(await storedKeys()).toEqual([]);
    });
    nothingIsLeft();
  });

  it('forgets a mount that no container holds, as one whose answer was lost', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'lost');
    const again = await start();
    await again.remove(ctx, 'db');
    nothingIsLeft();
  });

  it('just mounted is refused, as its container may still be starting', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    await service.mount(ctx, 'db', 'a');
    await expect(service.remove(ctx, 'db')).rejects.toMatchObject({
      code: 'in_use',
      message: expect.stringMatching(/mounted \d+ s ago.*try again in \d+ s/) as string,
    });
    expect(plane.world.mounts.size).toBe(1);
    await service.unmount(ctx, 'db', 'a');
    await service.remove(ctx, 'db');
    nothingIsLeft();
  });
});

describe('get', () => {
  it('answers a known volume while etcd is away, also after a start', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    stateDown = true;
    await expect(service.get(ctx, 'db')).resolves.toMatchObject({ name: 'db' });
    const again = await start();
    await expect(again.get(ctx, 'db')).resolves.toMatchObject({ name: 'db' });
    await expect(again.get(ctx, 'other')).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('etcd cannot be asked') as string,
    });
  });

  it('cannot tell about an unknown name without etcd and without a whole replica', async () => {
    stateDown = true;
    memory.watch = () => ({ close: () => undefined });
    const service = await start();
    await expect(service.get(ctx, 'db')).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('a plugin that dies', () => {
  /** What a user did, step by step; each returns what must be true once all is settled. */
  const stories: Record<string, (service: LocalVolumeService) => Promise<void>> = {
    create: (service) => service.create(ctx, 'db', {}),
    mount: async (service) => {
      await service.create(ctx, 'db', {});
      await service.mount(ctx, 'db', 'a');
    },
    unmount: async (service) => {
      await service.create(ctx, 'db', {});
      await service.mount(ctx, 'db', 'a');
      await service.unmount(ctx, 'db', 'a');
    },
    remove: async (service) => {
      await service.create(ctx, 'db', {});
      await service.mount(ctx, 'db', 'a');
      await service.unmount(ctx, 'db', 'a');
      await service.remove(ctx, 'db');
    },
  };
  const cases = Object.keys(stories).flatMap((story) =>
    (['before', 'after'] as const).flatMap((when) =>
      Array.from({ length: 14 }, (_, effect) => [story, when, effect] as const),
    ),
  );

  it.each(cases)(
    'in %s, %s effect %i, leaves what the next start finishes or undoes',
    async (story, when, effect) => {
      const dying = await start();
      // A dead process does nothing more, neither here nor in shared state.
      plane.dieAt(effect, when, () => {
        stateDown = true;
      });
      await stories[story]?.(dying).catch(() => undefined);
      plane.revive();
      stateDown = false;

      const next = await start();
      await next.upkeep.reconcile(ctx);
      await next.upkeep.reconcile(ctx);
      await next.create(ctx, 'db', {});
      await next.mount(ctx, 'db', 'z');
      expect(plane.world.mounts.size).toBe(1);
      expect(plane.effects.filter((name) => name.startsWith('mkfs')).length).toBeLessThanOrEqual(
        plane.effects.filter((name) => name.startsWith('createBacking')).length,
      );
      await next.unmount(ctx, 'db', 'z');
      await next.remove(ctx, 'db');
      nothingIsLeft();
      expect(await storedKeys()).toEqual([]);
    },
  );
});

describe('a pool whose disk is not mounted', () => {
  it('keeps its volumes from being removed: their data would stay behind unknown', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    plane.world.emptyPool = true;
    await expect(service.remove(ctx, 'db')).rejects.toThrow('pool default is empty');
    expect(service.list()).toMatchObject([{ name: 'db', status: { state: 'ready' } }]);
    plane.world.emptyPool = false;
    await service.remove(ctx, 'db');
    nothingIsLeft();
  });

  it('keeps the record of one that was removed on another host meanwhile, until its data is found', async () => {
    const service = await start();
    await service.create(ctx, 'db', {});
    const key = keys.volume('db');
    const { value = '', modRevision = 0 } = (await memory.get(ctx, key)) ?? {};
    const removing = JSON.stringify({
      ...(JSON.parse(value) as object),
      status: 'removing',
      neverReady: false,
    });
    await memory.transact(ctx, { if: [{ key, modRevision }], then: [{ put: key, value: removing }] });
    plane.world.emptyPool = true;
    await vi.waitFor(async () => {
      await service.upkeep.reconcile(ctx);
      expect((await service.get(ctx, 'db')).status).toMatchObject({
        state: 'removing',
        error: expect.stringContaining('pool default is empty') as string,
      });
    });
    plane.world.emptyPool = false;
    plane.dieAt(0, 'after', () => undefined);
    await service.upkeep.reconcile(ctx);
    expect(plane.effects.at(-1)).toMatch(/^deleteBacking/);
    plane.revive();
    // A crash after the data was deleted leaves an empty pool as well.
    plane.world.emptyPool = true;
    await (await start()).upkeep.reconcile(ctx);
    nothingIsLeft();
    expect(await storedKeys()).toEqual([]);
  });

  it('is no question for a volume beside one whose record is damaged', async () => {
    const service = await start();
    await service.create(ctx, 'hurt', {});
    const key = keys.volume('hurt');
    const entry = await memory.get(ctx, key);
    await memory.transact(ctx, {
      if: [{ key, modRevision: entry?.modRevision ?? 0 }],
      then: [{ put: key, value: '{"schema":1,' }],
    });
    await vi.waitFor(async () => {
      await expect(service.mount(ctx, 'hurt', 'one')).rejects.toThrow('damaged');
    });
    await service.create(ctx, 'well', {});
    expect((await service.get(ctx, 'well')).status).toMatchObject({ state: 'ready' });
  });

  it('takes no new volume', async () => {
    const service = await start();
    plane.world.emptyPool = true;
    await service.create(ctx, 'first', {});
    await expect(service.create(ctx, 'db', {})).rejects.toThrow('pool default is empty');
    expect(service.list()).toMatchObject([{ name: 'first' }]);
  });
});

it('a target whose port is taken when it closes moves, and the attachment is given back', async () => {
  const service = await start();
  await service.create(ctx, 'db', {});
  await service.mount(ctx, 'db', 'one');
  const [before] = [...plane.world.targets.values()];
  plane.world.takenPorts.add(before?.port ?? 0);
  await service.unmount(ctx, 'db', 'one');
  const [after] = [...plane.world.targets.values()];
  expect(after?.admit).toBeNull();
  expect(after?.port).not.toBe(before?.port);
  expect((await service.get(ctx, 'db')).status).toMatchObject({ attachedTo: '', error: '' });
});
