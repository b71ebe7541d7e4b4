/** A whole cluster is taken down: the decision, each host's part with its process dying anywhere, and the way back. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { carryOutEnd } from '../../../../src/cluster/ending/carry-out.js';
import { decideEnding } from '../../../../src/cluster/ending/decide.js';
import { createHostEnding, type HostEnding } from '../../../../src/cluster/ending/ending.js';
import { readTransition } from '../../../../src/cluster/formation/transition.js';
import type { Ctx } from '../../../../src/context.js';
import { createHostPaths, type HostPaths } from '../../../../src/dataplane/host-paths.js';
import { hookFailPoints } from '../../../../src/lib/fail-points.js';
import { createLog } from '../../../../src/log.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import { records } from '../../../../src/state/records.js';
import type { State } from '../../../../src/state/state.js';

const stopping = new AbortController();
const ctx: Ctx = { log: createLog('silent'), signal: stopping.signal, requestId: 'test' };
const keep = { purge: false, force: false } as const;
const purge = { purge: true, force: false, confirm: 'c1' } as const;
const [idA, idB] = ['1', '2'].map((digit) => digit.repeat(8)) as [string, string];

let root: string;
let state: State;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'ending-'));
  state = createMemoryState();
  await put(keys.cluster, records.cluster.encode({ schema: 1, id: 'c1', createdAt: 'now' }));
  for (const node of ['a', 'b']) await addNode(node);
});

afterEach(async () => {
  hookFailPoints(null);
  await state.close();
  rmSync(root, { recursive: true });
});

async function put(key: string, value: string): Promise<void> {
  await state.transact(ctx, { if: [], then: [{ put: key, value }] });
}

async function addNode(id: string, isAlive = true): Promise<void> {
  const versions = { engineVersion: '', pluginVersion: '' };
  const node = {
    schema: 1,
    id,
    hostname: `host-${id}`,
    address: '',
    ...versions,
    pools: {},
    labels: {},
  } as const;
  await put(keys.node(id), records.node.encode(node));
  if (isAlive) await put(keys.alive(id), records.alive.encode({ schema: 1, node: id, since: '' }));
}

async function addVolume(name: string, id: string, node: string): Promise<void> {
  const none: string[] = [];
  const made = {
    sizeBytes: 1,
    fs: 'ext4',
    mkfsOptions: none,
    mountOptions: none,
    uid: 0,
    gid: 0,
    mode: 0o755,
  } as const;
  const now = { status: 'ready', formatted: true, epoch: 0, createdAt: '', pool: 'default' } as const;
  await put(keys.volume(name), records.volume.encode({ schema: 1, name, id, ...made, ...now }));
  const place = { node, iqn: 'iqn.x', address: '10.0.0.1', port: 1, pool: 'default' };
  const target = { schema: 1, volume: name, volumeId: id, copy: 0, ...place } as const;
  await put(keys.target(id, 0), records.target.encode(target));
}

async function addAttachment(volume: string, volumeId: string, node: string): Promise<void> {
  const secrets = { initiatorIqn: 'iqn.x', chapUser: 'u', chapSecret: 's' };
  const attachment = { schema: 1, volume, volumeId, node, epoch: 1, ...secrets, attachedAt: '' } as const;
  await put(keys.attachment(volumeId), records.attachment.encode(attachment));
}

const stored = async (prefix: string) =>
  (await state.range(ctx, prefix)).entries.map(({ key }) => key).toSorted();

describe('the decision', () => {
  it('is made once, and told again with what is missing', async () => {
    expect(await decideEnding(ctx, state, keep)).toEqual({
      cluster: 'c1',
      purge: false,
      waitingFor: ['a', 'b'],
    });
    const entry = await state.get(ctx, keys.ending);
    // It outlives the lease that it was asked with.
    expect(entry).not.toHaveProperty('leaseId');
    const { id } = records.ending.decode(keys.ending, entry!.value);
    await put(keys.ended('a'), records.ended.encode({ schema: 1, node: 'a', ending: id }));
    await put(keys.ended('b'), records.ended.encode({ schema: 1, node: 'b', ending: 'an earlier one' }));
    expect((await decideEnding(ctx, state, keep)).waitingFor).toEqual(['b']);
    await expect(decideEnding(ctx, state, purge)).rejects.toMatchObject({ code: 'conflict' });
    expect((await state.get(ctx, keys.ending))?.modRevision).toBe(entry!.modRevision);
  });

  it.each([
    ['nothing confirmed', { ...purge, confirm: undefined }, /confirm it with this ID/],
    ['another ID', { ...purge, confirm: 'c2' }, /c1/],
    ['another ID, without need', { ...keep, confirm: 'c2' }, /is not the cluster's ID/],
  ])('needs the ID to purge: %s', async (_, wish, words) => {
    await expect(decideEnding(ctx, state, wish)).rejects.toThrow(words);
    expect(await state.get(ctx, keys.ending)).toBeNull();
  });

  it('is refused while containers use volumes, forced or not', async () => {
    await addVolume('db', idA, 'a');
    await addAttachment('db', idA, 'b');
    for (const force of [false, true])
      await expect(decideEnding(ctx, state, { ...keep, force })).rejects.toThrow('db (on node b)');
    expect(await state.get(ctx, keys.ending)).toBeNull();
  });

  it('is taken back when a container was faster', async () => {
    await addVolume('db', idA, 'a');
    const lease = state.lease.bind(state);
    vi.spyOn(state, 'lease').mockImplementationOnce(async (caller, ttlMs) => {
      await addAttachment('db', idA, 'b');
      return lease(caller, ttlMs);
    });
    await expect(decideEnding(ctx, state, keep)).rejects.toMatchObject({ code: 'in_use' });
    expect(await state.get(ctx, keys.ending)).toBeNull();
  });

  it('waits for no host that is away, and only where that is asked for', async () => {
    await addNode('c', false);
    await expect(decideEnding(ctx, state, keep)).rejects.toThrow('node host-c (c) is away');
    expect((await decideEnding(ctx, state, { ...keep, force: true })).waitingFor).toEqual(['a', 'b']);
  });

  it('leaves what hosts that are away or were removed have in use, only where that is asked for', async () => {
    await addNode('c', false);
    await addVolume('db', idA, 'c');
    await addAttachment('db', idA, 'c');
    await addAttachment('web', idB, 'removed');
    await expect(decideEnding(ctx, state, keep)).rejects.toMatchObject({ code: 'unavailable' });
    expect((await decideEnding(ctx, state, { ...keep, force: true })).waitingFor).toEqual(['a', 'b']);
  });

  it('waits no more for a host that was removed', async () => {
    await decideEnding(ctx, state, keep);
    await state.transact(ctx, { if: [], then: [{ delete: keys.node('b') }] });
    expect((await decideEnding(ctx, state, keep)).waitingFor).toEqual(['a']);
  });
});

interface Host {
  readonly ending: HostEnding;
  readonly paths: HostPaths;
  readonly roles: string[];
  readonly done: Promise<void>;
  restarts: number;
}

const own = (node: string) => join(root, node, 'var/lib/openebs');

function makeHost(node: string): void {
  const folders = ['pools/default', 'etcd', 'certificates', 'cache', 'backups', 'containers', 'local'];
  for (const folder of folders) mkdirSync(join(own(node), folder), { recursive: true });
  for (const file of [
    'node.json',
    'kept-in.json',
    'membership.json',
    'etcd-incarnation.json',
    'cache/records.json',
  ])
    writeFileSync(join(own(node), file), '{}');
}

function makeData(node: string, id: string): string {
  const folder = join(own(node), 'pools/default', id);
  mkdirSync(folder);
  writeFileSync(join(folder, 'disk.img'), 'data');
  return folder;
}

const rolesOf = (node: string, names: string[]) => ({
  list: () => Promise.resolve([...names]),
  remove: (_ctx: Ctx, name: string) => {
    removed.push(`${node} ${name}`);
    names.splice(names.indexOf(name), 1);
    return Promise.resolve();
  },
});
let removed: string[] = [];

/** A process of the plugin, from its start on. */
function begin(node: string, names: string[]): Host {
  const paths = createHostPaths(join(root, node), '/mnt');
  const host = { paths, roles: names, restarts: 0 };
  const quick = { paceMs: 5, lingerMs: 10, silenceMs: 200 };
  const restart = () => {
    host.restarts++;
  };
  const ending = createHostEnding({ node, state, paths, roles: rolesOf(node, names), restart, ...quick });
  return Object.assign(host, { ending, done: ending.run(ctx) });
}

const dataPlane = () => ['openebs-target-1', 'openebs-etcd', 'openebs-initiator-2'];

describe("a host's part", () => {
  beforeEach(() => {
    removed = [];
    makeHost('a');
    makeHost('b');
  });

  it('stops what serves volumes, leaves etcd to the others, and ends when all have told', async () => {
    const one = begin('a', dataPlane());
    const { cluster } = await decideEnding(ctx, state, keep);
    await expect.poll(() => stored(keys.allEnded)).toEqual([keys.ended('a')]);
    expect(removed).toEqual(['a openebs-initiator-2', 'a openebs-target-1']);
    expect(one.ending.begun).toBe(true);
    expect(await readTransition(one.paths)).toBeNull();
    const two = begin('b', dataPlane());
    await Promise.all([one.done, two.done]);
    for (const { paths, restarts } of [one, two]) {
      expect(restarts).toBe(1);
      expect(await readTransition(paths)).toMatchObject({ kind: 'end', cluster, purge: false });
    }
  });

  it('is done though etcd is gone with the others, once it has told', async () => {
    const one = begin('a', dataPlane());
    await decideEnding(ctx, state, keep);
    await expect.poll(() => stored(keys.allEnded)).toEqual([keys.ended('a')]);
    await state.close();
    await one.done;
    expect(one.restarts).toBe(1);
  });

  it('is nothing that is only asked yet', async () => {
    const asked = {
      schema: 1,
      id: 'e1',
      cluster: 'c1',
      purge: true,
      nodes: ['a'] as string[],
      decided: false,
    } as const;
    const one = begin('a', dataPlane());
    await put(keys.ending, records.ending.encode(asked));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([removed, one.ending.begun]).toEqual([[], false]);
    await put(keys.ending, records.ending.encode({ ...asked, decided: true }));
    await one.done;
  });

  it('purges the data of its own volumes, and of no other', async () => {
    await addVolume('db', idA, 'a');
    await addVolume('web', idB, 'b');
    const [mine, theirs, strange] = [idA, idB, '3'.repeat(8)].map((id) => makeData('a', id)) as [
      string,
      string,
      string,
    ];
    const hosts = [begin('a', dataPlane()), begin('b', dataPlane())];
    await decideEnding(ctx, state, purge);
    await Promise.all(hosts.map(({ done }) => done));
    expect([mine, theirs, strange].map((folder) => existsSync(folder))).toEqual([false, true, true]);
    const [{ paths }] = hosts as [Host];
    await finish(paths, 'a', ['openebs-etcd']);
    expect(readdirSync(own('a'))).toEqual(['pools']);
    expect(readdirSync(join(own('a'), 'pools/default'))).toEqual([idB, '3'.repeat(8)]);
  });

  it('takes no data from a host that was away when it was decided', async () => {
    makeHost('c');
    await addNode('c', false);
    await addVolume('db', idA, 'c');
    const mine = makeData('c', idA);
    await decideEnding(ctx, state, { ...purge, force: true });
    const late = begin('c', dataPlane());
    const hosts = [begin('a', dataPlane()), begin('b', dataPlane())];
    await Promise.all(hosts.map(({ done }) => done));
    expect(existsSync(mine)).toBe(true);
    expect([removed.filter((what) => what.startsWith('c')), late.ending.begun, late.restarts]).toEqual([
      [],
      false,
      0,
    ]);
  });

  it('is over for a host that could not carry it out before the others were back', async () => {
    const one = begin('a', dataPlane());
    hookFailPoints(() => Promise.reject(new Error('the engine is away')));
    await decideEnding(ctx, state, keep);
    await expect.poll(() => one.ending.begun).toBe(true);
    await state.transact(ctx, { if: [], then: [{ delete: keys.ending }] });
    await expect.poll(() => one.ending.begun).toBe(false);
  });

  it('is undone by the first host that is enabled again, and by none that has it before itself', async () => {
    const hosts = [begin('a', dataPlane()), begin('b', dataPlane())];
    await decideEnding(ctx, state, keep);
    await Promise.all(hosts.map(({ done }) => done));
    const [one, two] = hosts as [Host, Host];
    await finish(one.paths, 'a', ['openebs-etcd']);
    expect(await readTransition(one.paths)).toBeNull();
    expect(readdirSync(own('a'))).toEqual(expect.arrayContaining(['etcd', 'ended.json', 'node.json']));
    // Enabled again, while the other has not carried it out.
    const back = begin('a', ['openebs-etcd']);
    await expect.poll(() => state.get(ctx, keys.ending)).toBeNull();
    await expect.poll(() => existsSync(join(own('a'), 'ended.json'))).toBe(false);
    expect([await stored(keys.allEnded), back.ending.begun]).toEqual([[], false]);
    expect(await readTransition(two.paths)).toMatchObject({ kind: 'end' });
  });
});

/** The next start; answers what the engine was asked. Its process ends there. */
async function finish(paths: HostPaths, node: string, names: string[]): Promise<void> {
  const transition = await readTransition(paths);
  if (transition?.kind !== 'end') throw new Error('there is nothing to carry out');
  const ends = new AbortController();
  let refusals = 1;
  const disable = () => {
    if (refusals-- > 0) return Promise.reject(new Error('the engine does not answer'));
    ends.abort(new Error('SIGTERM'));
    return Promise.resolve();
  };
  const mortal: Ctx = { ...ctx, signal: ends.signal };
  const end = carryOutEnd(mortal, transition, { paths, roles: rolesOf(node, names), disable });
  await expect(end).rejects.toThrow('SIGTERM');
  expect(names).toEqual([]);
}

it.each([[true], [false]])('whatever dies in the middle, with the data gone: %s', async (isPurge) => {
  class Death extends Error {}
  makeHost('a');
  await addVolume('db', idA, 'a');
  await state.transact(ctx, { if: [], then: [{ delete: keys.node('b') }] });
  for (let at = 0; ; at++) {
    rmSync(join(root, 'a'), { recursive: true });
    makeHost('a');
    const data = makeData('a', idA);
    const names = dataPlane();
    await state.transact(ctx, {
      if: [],
      then: [{ delete: keys.ending }, { delete: keys.ended('a') }],
    });
    await decideEnding(ctx, state, isPurge ? purge : keep);
    let left = at;
    hookFailPoints(() => {
      if (left-- !== 0) return undefined;
      return Promise.reject(new Death());
    });
    const { paths, done } = begin('a', names);
    await done;
    await finish(paths, 'a', names).catch(async () => {
      await finish(paths, 'a', names);
    });
    expect(existsSync(data)).toBe(!isPurge);
    expect(existsSync(join(own('a'), 'ended.json'))).toBe(!isPurge);
    if (left >= 0) return;
  }
});
