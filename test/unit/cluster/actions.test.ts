/** A host that moves to another cluster, or out of one: what is made or mounted in the middle of it is not lost. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type ClusterActionsDeps, createClusterActions } from '../../../src/cluster/actions.js';
import { type Certificates, ensureCertificates } from '../../../src/cluster/certificates.js';
import { readTransition } from '../../../src/cluster/formation/transition.js';
import { formatToken } from '../../../src/cluster/join/token.js';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths, type HostPaths } from '../../../src/dataplane/host-paths.js';
import { createLog } from '../../../src/log.js';
import { keys } from '../../../src/state/keys.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import type { State } from '../../../src/state/state.js';
import { StartingService } from '../../../src/volumes/starting-service.js';
import type { VolumeService } from '../../../src/volumes/volume-service.js';

const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const id = '1'.repeat(8);
let root: string;
let paths: HostPaths;
let state: State;
let service: StartingService;
let certificates: Certificates;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'actions-'));
  paths = createHostPaths(root, join(root, 'mnt'));
  mkdirSync(paths.view(paths.state), { recursive: true });
  state = createMemoryState();
  service = new StartingService();
  service.ready(volumesOf(recordTarget));
  certificates = await ensureCertificates(join(root, 'certificates'), { addresses: [] });
  for (const node of ['a', 'b']) await put(keys.peer(node), '{}');
});

afterEach(async () => {
  await state.close();
  rmSync(root, { recursive: true });
});

function volumesOf(record: (name: string) => Promise<void>): VolumeService {
  // The cast: nothing else of it is called; anything more throws.
  return { create: (_ctx: Ctx, name: string) => record(name) } as unknown as VolumeService;
}

async function put(key: string, value: string): Promise<void> {
  await state.transact(ctx, { if: [], then: [{ put: key, value }] });
}

async function recordTarget(volume: string): Promise<void> {
  const target = {
    schema: 1,
    volume,
    volumeId: id,
    copy: 0,
    node: 'a',
    iqn: 'iqn.x',
    address: '10.0.0.1',
    port: 1,
    pool: 'p',
  };
  await put(keys.volume(volume), '{}');
  await put(keys.target(id, 0), JSON.stringify(target));
}

function actions(advertise: string | null, others: Partial<ClusterActionsDeps> = {}) {
  let leaving: boolean | null = null;
  let restarts = 0;
  const local = { has: 'm1' as string | null };
  const own = {
    certificates: () => certificates,
    membership: () => ({ advertise, endpoints: [], schema: 1, incarnation: 0 }),
    port: 23_790,
  };
  const running = {
    local,
    formation: { view: () => Promise.resolve({ doing: null, problem: null }) },
    leave: (now: boolean) => (leaving = now),
    stop: () => Promise.resolve(),
  };
  const deps = {
    ...{ own, paths, state, node: 'a', port: 23_790, clusterId: () => 'c1', volumes: () => [] },
    running: () => (advertise === null ? null : running),
    hostname: () => Promise.resolve('host-a'),
    pause: service.pause.bind(service),
    discover: () => Promise.resolve([]),
    restart: () => (restarts += 1),
    ...others,
    // The cast: to join or to leave calls nothing else; anything more throws.
  } as unknown as ClusterActionsDeps;
  return { of: createClusterActions(deps), local, seen: () => ({ leaving, restarts }) };
}

describe('leave', () => {
  it('lets nothing be made while the member of this host goes', async () => {
    const { of, local, seen } = actions('10.0.0.1');
    const left = of.leave(ctx, { force: false });
    await expect.poll(() => seen().leaving).toBe(true);
    await expect(service.create(ctx, 'late', {})).rejects.toThrow(
      'volume late cannot be had: this host leaves its cluster',
    );
    local.has = null;
    await left;
    expect(await readTransition(paths)).toMatchObject({ kind: 'leave' });
    await expect(service.create(ctx, 'late', {})).rejects.toMatchObject({ code: 'unavailable' });
    expect(seen().restarts).toBe(1);
  });

  it('is refused for a volume that was being made when it was asked for, and all goes on', async () => {
    const made = Promise.withResolvers<undefined>();
    service = new StartingService();
    service.ready(volumesOf((name) => made.promise.then(() => recordTarget(name))));
    const { of, seen } = actions('10.0.0.1');
    const making = service.create(ctx, 'db', {});
    await new Promise((resolve) => setImmediate(resolve));
    const left = of.leave(ctx, { force: false });
    made.resolve(undefined);
    await expect(left).rejects.toThrow('node a is still needed: the data of 1 volume(s) is there: db');
    await making;
    await service.create(ctx, 'web', {});
    expect([await readTransition(paths), seen()]).toEqual([null, { leaving: false, restarts: 0 }]);
  });
});

describe('join', () => {
  it('is refused for a volume that was made while hosts were looked for', async () => {
    const { of, seen } = actions(null, {
      discover: async () => {
        await service.create(ctx, 'db', {});
        return [];
      },
    });
    const token = formatToken({
      addresses: [],
      authority: 'f'.repeat(64),
      id: 'a'.repeat(8),
      secret: 's'.repeat(20),
    });
    await expect(of.join(ctx, { token })).rejects.toThrow(
      'this host knows 1 volume(s) of the cluster that it is in now (db)',
    );
    await service.create(ctx, 'web', {});
    expect([await readTransition(paths), seen().restarts]).toEqual([null, 0]);
  });
});
