/** What this node tells of itself in shared state: that it is alive, what it has, and which events it saw. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import { readPools } from './dataplane/pools.js';
import type { Engine } from './docker/engine.js';
import { createEventStream } from './docker/events.js';
import type { NodeIdentity } from './node-identity.js';
import { createJournal } from './registrator/journal.js';
import { createNodeRecord } from './registrator/node-record.js';
import { keys } from './state/keys.js';
import { records } from './state/records.js';
import type { State } from './state/state.js';

export interface ObserverDeps {
  readonly config: Config;
  readonly engine: Engine;
  readonly identity: NodeIdentity;
  readonly state: State;
  readonly paths: HostPaths;
  /** Whether containers here use volumes. */
  readonly isInUse: () => boolean;
  /** Of the plugin: holds its package.json. */
  readonly appDirectory: string;
}

export interface Observer {
  stats(): unknown;
  close(): Promise<void>;
}

const NODE_INTERVAL_MS = 30_000;

export function startObserver(ctx: Ctx, deps: ObserverDeps): Observer {
  const { config, engine, identity, state, paths } = deps;
  const stream = createEventStream({ socketPath: paths.view(config.dockerSocket), log: ctx.log });
  const { maxCount, maxAgeMs, noise } = config.events;
  const journal = createJournal({
    state,
    stream,
    node: identity.node,
    log: ctx.log,
    limits: { maxRecords: maxCount, maxAgeMs, includeNoise: noise },
  });
  const node = createNodeRecord({
    state,
    log: ctx.log,
    intervalMs: NODE_INTERVAL_MS,
    isInUse: deps.isInUse,
    describe: async () => {
      const info = await engine.info(ctx);
      return {
        id: identity.node,
        hostname: info.hostname,
        address: config.targetAddress,
        engineVersion: info.version,
        pluginVersion: await pluginVersion(deps.appDirectory),
        pools: await readPools(paths),
        labels: config.nodeLabels,
      };
    },
  });
  return {
    stats: () => ({ stream: stream.stats(), journal: journal.stats() }),
    async close() {
      stream.close();
      await Promise.all([journal.close(), node.close()]);
    },
  };
}

/**
 * The cluster's identity is written once, by whoever comes first.
 * @throws `conflict` for a newer version's, and for shared state that is another than it was (same-cluster.ts).
 */
export async function recordCluster(ctx: Ctx, state: State, { cluster }: NodeIdentity): Promise<void> {
  const [existing] = (await state.range(ctx, keys.cluster)).entries;
  if (existing) {
    records.cluster.decode(existing.key, existing.value);
    return;
  }
  const value = records.cluster.encode({ schema: 1, id: cluster, createdAt: new Date().toISOString() });
  await state.transact(ctx, {
    if: [{ key: keys.cluster, absent: true }],
    then: [{ put: keys.cluster, value }],
  });
}

async function pluginVersion(directory: string): Promise<string> {
  const text = await readFile(path.join(directory, 'package.json'), 'utf8');
  const { version } = JSON.parse(text) as { version?: string };
  return version ?? 'unknown';
}
