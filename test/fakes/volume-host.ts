/**
 * A host of the volume service in memory: what outlives its process (files, shared state, the data plane), and
 * processes that start on it and die. All that a process does belongs to it by its asynchronous context, so at its
 * death everything stops at once, wherever it waits: nothing of it is rolled back or cleaned up, as with SIGKILL.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Ctx } from '../../src/context.js';
import { createHostPaths } from '../../src/dataplane/host-paths.js';
import { type FailPoint, hookFailPoints } from '../../src/lib/fail-points.js';
import { removeUnfinished } from '../../src/lib/atomic-file.js';
import { sleep } from '../../src/lib/sleep.js';
import { AppError } from '../../src/errors.js';
import { createLog } from '../../src/log.js';
import { keys } from '../../src/state/keys.js';
import { records } from '../../src/state/records.js';
import { createMemoryState } from '../../src/state/memory-state.js';
import { openReplica } from '../../src/state/replica.js';
import type { State } from '../../src/state/state.js';
import { Converger } from '../../src/volumes/converge.js';
import { loadMountCounts } from '../../src/volumes/mount-counts.js';
import { LocalVolumeService } from '../../src/volumes/service.js';
import { Upkeep } from '../../src/volumes/upkeep.js';
import { VolumeRecords } from '../../src/volumes/volume-records.js';
import { VolumeWork } from '../../src/volumes/volume-work.js';
import { createFakeDataPlane, type FakeDataPlane } from './data-plane.js';

const log = createLog('silent');
export const ctx: Ctx = { log, signal: new AbortController().signal, requestId: 'test' };

export interface VolumeProcess {
  readonly service: LocalVolumeService;
  readonly upkeep: Upkeep;
  /** Runs a call in this process. Never settles when the process dies on the way. */
  call<T>(operation: () => Promise<T>): Promise<T>;
  die(): void;
  readonly died: Promise<void>;
}

export interface VolumeHost {
  readonly plane: FakeDataPlane;
  readonly directory: string;
  /** Containers that have a volume mounted, by the engine's word. */
  users: (volume: string) => string[];
  /** Called at each point that a living process reaches; the process dies there when it says so. */
  atPoint: ((point: FailPoint) => boolean) | null;
  /** Shared state cannot be asked. */
  stateAway: boolean;
  /** Waited for before each effect of the data plane and each transaction. */
  pause: (() => Promise<void>) | null;
  start(): Promise<VolumeProcess>;
  storedKeys(): Promise<string[]>;
  /**
   * All of them, as another host does that removes the volumes, perhaps after it has taken them over; resolves when the
   * processes here know.
   */
  removeRecords(how?: 'removed' | 'evicted' | 'evicted before'): Promise<void>;
  /** Files below the host's directories, but for the cache and the counts themselves. */
  leftFiles(): string[];
  close(): Promise<void>;
}

interface Life {
  dead: boolean;
  end: () => void;
}

const never = (): Promise<never> => new Promise<never>(() => undefined);

export function createVolumeHost(): VolumeHost {
  const directory = mkdtempSync(join(tmpdir(), 'host-'));
  const memory = createMemoryState();
  const plane = createFakeDataPlane();
  const lives = new AsyncLocalStorage<Life>();
  const closing: (() => Promise<void>)[] = [];
  const host: VolumeHost = {
    plane,
    directory,
    users: () => [],
    atPoint: null,
    pause: null,
    stateAway: false,
    start,
    storedKeys: async () => (await memory.range(ctx, keys.root)).entries.map((entry) => entry.key),
    async removeRecords(how = 'removed') {
      const { entries } = await memory.range(ctx, keys.root);
      const gone = entries.map(({ key }) => ({ delete: key }));
      const taken = entries.filter(({ key }) => key.startsWith(keys.attachments) && how !== 'removed');
      const evictions = taken.map(({ key, value }) => {
        const { node, volume, volumeId, epoch } = records.attachment.decode(key, value);
        const lost = how === 'evicted' ? epoch : epoch - 1;
        const eviction = { schema: 1 as const, volume, volumeId, epoch: lost };
        return { put: keys.eviction(node, volumeId), value: records.eviction.encode(eviction) };
      });
      await memory.transact(ctx, { if: [], then: [...gone, ...evictions] });
      await sleep(20);
    },
    leftFiles: () =>
      readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter(
        (name) => statSync(join(directory, name)).isFile() && !/(records|mounts)\.json$/.test(name),
      ),
    async close() {
      hookFailPoints(null);
      await Promise.all(closing.map((close) => close()));
      await memory.close();
      rmSync(directory, { recursive: true });
    },
  };

  /** Each effect is one of the process that asked for it: none of a dead one. */
  async function alive(): Promise<void> {
    if (lives.getStore()?.dead === true) return never();
    await host.pause?.();
    if (lives.getStore()?.dead === true) return never();
  }

  hookFailPoints((point) => {
    const life = lives.getStore();
    if (!life) return undefined;
    if (life.dead) return never();
    if (host.atPoint?.(point) !== true) return undefined;
    life.dead = true;
    life.end();
    return never();
  });

  /** What is asked of the adapter waits for `alive` first, and a dead process gets no answer. */
  function guarded<T extends object>(adapter: T): T {
    return new Proxy(adapter, {
      get(target, property, receiver): unknown {
        const member: unknown = Reflect.get(target, property, receiver);
        if (typeof member !== 'function' || /^(matches|isRenewable|watch|close)$/.test(String(property)))
          return member;
        return async (...args: unknown[]): Promise<unknown> => {
          await alive();
          const answer: unknown = await (member as (...args: unknown[]) => unknown).apply(target, args);
          return lives.getStore()?.dead === true ? never() : answer;
        };
      },
    });
  }

  async function start(): Promise<VolumeProcess> {
    const { promise: died, resolve: end } = Promise.withResolvers<undefined>();
    const life: Life = {
      dead: false,
      end: () => {
        end(undefined);
      },
    };
    return lives.run(life, async () => {
      // As app.ts does at each start.
      for (const name of ['cache', 'run']) await removeUnfinished(join(directory, name));
      const asked = guarded(memory);
      const reached = <T>(ask: () => Promise<T>): Promise<T> =>
        host.stateAway ? Promise.reject(new AppError('unavailable', 'etcd is away')) : ask();
      const state: State = {
        get: (caller, key) => reached(() => asked.get(caller, key)),
        range: (caller, prefix) => reached(() => asked.range(caller, prefix)),
        transact: (caller, transaction) => asked.transact(caller, transaction),
        lease: (caller, ttlMs) => asked.lease(caller, ttlMs),
        watch: (prefix, listener) =>
          memory.watch(prefix, (event) => {
            if (!life.dead) listener(event);
          }),
        close: () => Promise.resolve(),
      };
      const replica = await openReplica({
        state,
        prefixes: [keys.volumes, keys.targets, keys.attachments],
        file: join(directory, 'cache/records.json'),
        log,
      });
      closing.push(() => replica.close());
      await replica.synced;
      const volumeRecords = new VolumeRecords(state, replica);
      const deps = {
        node: 'node-a',
        records: volumeRecords,
        counts: await loadMountCounts(join(directory, 'run/mounts.json'), 'boot', log),
        targets: guarded(plane.targets),
        initiator: guarded(plane.initiator),
        fileSystems: guarded(plane.fileSystems),
        paths: createHostPaths(directory, join(directory, 'mnt')),
        ports: { first: 51_100, last: 51_199 },
        engineAnswers: () => Promise.resolve(true),
        activityOf: () => Promise.resolve(null),
        usersOf: (_ctx: Ctx, volume: string) => Promise.resolve(host.users(volume)),
        defaults: { sizeBytes: 2 ** 30, fs: 'ext4' as const, pool: 'default' },
        targetAddress: '127.0.0.1',
        startUnmounted: () => Promise.resolve({ started: [], failed: [] }),
        mountTimeoutMs: 20_000,
        failoverAfterMs: 30_000,
        liveness: { awayMs: () => 0 },
        background: ctx,
        repairs: { of: () => '' },
      };
      const shared = { ...deps, converger: new Converger(deps) };
      const work = new VolumeWork(shared);
      return {
        service: new LocalVolumeService({ ...shared, work }),
        upkeep: new Upkeep({ ...shared, work }),
        call: (operation) => lives.run(life, operation),
        die() {
          life.dead = true;
          life.end();
        },
        died,
      };
    });
  }

  return host;
}
