import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { startBackground, type Background, type BackgroundDeps } from '../../src/background.js';
import { parseConfig } from '../../src/config.js';
import type { Ctx } from '../../src/context.js';
import { createHostPaths } from '../../src/dataplane/host-paths.js';
import type { Engine } from '../../src/docker/engine.js';
import { AppError } from '../../src/errors.js';
import { createLog } from '../../src/log.js';
import { keys } from '../../src/state/keys.js';
import { createMemoryState } from '../../src/state/memory-state.js';
import type { Replica } from '../../src/state/replica.js';
import type { State } from '../../src/state/state.js';
import type { Stray } from '../../src/volumes/strays.js';
import type { Upkeep } from '../../src/volumes/upkeep.js';

let root: string;
let state: State;
let stopping: AbortController;
let background: Background | null = null;
let calls: string[];
let failing: Map<string, string>;
let strays: Stray[];
let looks: number;
let sync: () => void;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'background-'));
  state = createMemoryState();
  stopping = new AbortController();
  [calls, strays] = [[], []];
  looks = 0;
  failing = new Map();
});

afterEach(async () => {
  stopping.abort();
  await background?.close();
  background = null;
  rmSync(root, { recursive: true });
});

function done(what: string): Promise<void> {
  calls.push(what);
  const reason = failing.get(what);
  return reason === undefined ? Promise.resolve() : Promise.reject(new AppError('unavailable', reason));
}

function start(): Background {
  const ctx: Ctx = { log: createLog('silent'), signal: stopping.signal, requestId: 'test' };
  const refuse = () => Promise.reject(new AppError('unavailable', 'no engine'));
  const { promise: synced, resolve } = Promise.withResolvers<undefined>();
  sync = () => {
    resolve(undefined);
  };
  // The casts: fakes of what the background calls, and of nothing else; anything more throws.
  const deps: BackgroundDeps = {
    config: parseConfig({}),
    engine: {
      info: refuse,
      answers: () => Promise.resolve(true),
      removeEnded: () => done('leftovers').then(() => []),
      // The cast: nothing else of it is called; anything more throws.
    } as unknown as Engine,
    image: { reference: 'image', ensure: () => done('image'), removeOlder: () => done('old images') },
    identity: { node: 'node-a', cluster: 'cluster-a' },
    shared: {
      state,
      which: { own: true, endpoints: [] },
      ensureEtcd: () => done('etcd'),
      cluster: null,
    },
    company: { close: () => Promise.resolve() },
    replica: {
      synced,
      complete: false,
      get: () => null,
      onChange: () => undefined,
      cache: { state: 'missing', reason: '' },
      close: () => Promise.resolve(),
      // The cast: nothing else of it is called; anything more throws.
    } as unknown as Replica,
    liveness: { close: () => undefined } as never,
    upkeep: {
      reconcile: () => done('reconcile'),
      follow: () => calls.push('follow'),
      yieldDevices: () => done('yield'),
      hasMounts: () => false,
      // The cast: nothing else of it is called; anything more throws.
    } as unknown as Upkeep,
    paths: createHostPaths(root, '/mnt'),
    repairs: { all: () => [] },
    roles: {
      list: () => Promise.resolve(['openebs-target-new', 'openebs-target-old', 'openebs-target-away']),
      observe: (_ctx, name) => {
        const image = name.endsWith('new') ? 'image' : 'image:older';
        const status = { role: 'target', state: 'ready' as const, error: '', generation: 'g', image };
        const answers = !name.endsWith('away');
        return Promise.resolve({
          present: true,
          generation: 'g',
          settings: new Map(),
          status: answers ? status : null,
        });
      },
    },
    findStrays: () => done('strays').then(() => strays),
    seenMounts: {
      settled: () => looks >= 3,
      look: () => {
        looks += 1;
        return done('look');
      },
    },
    version: '1.2.3',
    pace: { healMs: 5, yieldMs: 5, settleMs: 200, seenMs: 5 },
  };
  background = startBackground(ctx, deps);
  return background;
}

const until = (what: string) =>
  vi.waitFor(() => {
    expect(calls).toContain(what);
  });

it('removes old images, and tells which containers are still made from one', async () => {
  const running = start();
  await until('old images');
  await vi.waitFor(() => {
    expect(running.health()).toMatchObject({
      image: { current: 'image', older: [{ container: 'openebs-target-old', image: 'image:older' }] },
    });
  });
});

it('heals, yields devices and records the cluster', async () => {
  const running = start();
  for (const what of ['image', 'etcd', 'follow', 'reconcile', 'leftovers', 'yield']) await until(what);
  await vi.waitFor(async () => {
    expect(
      await state.get({ log: createLog('silent'), signal: stopping.signal, requestId: 'x' }, keys.cluster),
    ).not.toBeNull();
  });
  expect(running.health()).toMatchObject({
    node: 'node-a',
    healthy: true,
    problems: {},
    cache: { state: 'missing' },
  });
});

it('leaves volumes alone until the engine has had time to mount them', async () => {
  start();
  await until('yield');
  expect(calls.slice(0, calls.indexOf('yield'))).not.toContain('reconcile');
  await until('reconcile');
  expect(calls.indexOf('follow')).toBeLessThan(calls.indexOf('reconcile'));
});

it('heals volumes although the image cannot be had, and says so', async () => {
  failing.set('image', 'no space for the image');
  const running = start();
  await until('reconcile');
  expect(calls).not.toContain('etcd');
  expect(running.health()).toMatchObject({ healthy: false, problems: { image: 'no space for the image' } });
});

it('tells what fails, with its reason, until it succeeds', async () => {
  const running = start();
  await until('reconcile');
  failing.set('etcd', 'etcd has lost its data');
  await vi.waitFor(() => {
    expect(running.health()).toMatchObject({ healthy: false, problems: { etcd: 'etcd has lost its data' } });
  });
  failing.clear();
  await vi.waitFor(() => {
    expect(running.health()).toMatchObject({ healthy: true, problems: {} });
  });
});

it('calls nothing a stray before shared state itself was read', async () => {
  const running = start();
  strays = [{ what: '/var/lib/openebs/pools/default/vstray0000', hint: 'look' }];
  await until('reconcile');
  calls = [];
  await until('reconcile');
  expect(running.health()).toMatchObject({ strays: [] });
  sync();
  await vi.waitFor(() => {
    expect(running.health()).toMatchObject({ strays });
  });
});

it('lets the engine look for its mounts until it has told, and tells what it cannot', async () => {
  failing.set('look', 'mounts are not seen');
  const running = start();
  await vi.waitFor(() => {
    expect(looks).toBe(3);
  });
  expect(running.health()).toMatchObject({ healthy: false, problems: { mounts: 'mounts are not seen' } });
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(looks).toBe(3);
});
