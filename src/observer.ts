/** What this node tells of itself in shared state: that it is alive, what it has, which events it saw, and what runs. */
import type { ObservedMessage } from './admin/messages.js';
import type { Ctx } from './context.js';
import { readPools } from './dataplane/pools.js';
import type { Engine } from './docker/engine.js';
import { createEventStream } from './docker/events.js';
import type { NodeIdentity } from './node-identity.js';
import type { Evaluated } from './registrator/evaluation.js';
import { createJournal } from './registrator/journal.js';
import { createMetrics } from './registrator/metrics.js';
import { createNodeRecord, type NodeRecordKeeper } from './registrator/node-record.js';
import type { RegistratorStats } from './registrator/registrator-stats.js';
import { type NodeRegistratorDeps, startNodeRegistrator } from './node-registrator.js';
import { keys } from './state/keys.js';
import { settingsOf } from './state/node-settings.js';
import { records } from './state/records.js';
import type { Replica } from './state/replica.js';
import type { State } from './state/state.js';

export interface ObserverDeps extends Omit<NodeRegistratorDeps, 'stream' | 'evaluated'> {
  readonly engine: Engine;
  readonly replica: Pick<Replica, 'get' | 'onChange'>;
  /** Whether containers here use volumes. */
  readonly isInUse: () => boolean;
  readonly isHealthy: () => boolean;
  /** Of the plugin. */
  readonly version: string;
}

export interface Observer {
  stats(): ObservedMessage;
  /** Null before the engine has answered for the first time. */
  registry(): RegistratorStats | null;
  /** For Prometheus. */
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>;
  close(): Promise<void>;
}

const NODE_INTERVAL_MS = 30_000;

export function startObserver(ctx: Ctx, deps: ObserverDeps): Observer {
  const { config, identity, state, paths } = deps;
  const stream = createEventStream({ socketPath: paths.view(config.dockerSocket), log: ctx.log });
  const { maxCount, maxAgeMs, noise } = config.events;
  const journal = createJournal({
    state,
    stream,
    node: identity.node,
    log: ctx.log,
    limits: { maxRecords: maxCount, maxAgeMs, includeNoise: noise },
  });
  const node = keepNodeRecord(ctx, deps);
  const metrics = createMetrics(() => {
    const found = registrator.stats();
    const source = { stream: stream.stats(), journal: journal.stats(), healthy: deps.isHealthy() };
    return found ? { ...source, registrator: found } : source;
  });
  stream.subscribe((items) => {
    for (const item of items) metrics.event(item, Date.now());
  });
  const evaluated = ({ policy, kind, tookMs, failed }: Evaluated) => {
    metrics.evaluated(policy, kind, tookMs, failed);
  };
  const registrator = startNodeRegistrator(ctx, { ...deps, stream, evaluated });
  return {
    stats: () => ({ stream: stream.stats(), journal: journal.stats(), registrator: registrator.stats() }),
    registry: () => registrator.stats(),
    metrics: async () => ({ contentType: metrics.contentType, text: await metrics.text() }),
    async close() {
      stream.close();
      await Promise.all([journal.close(), node.close(), registrator.close()]);
    },
  };
}

function keepNodeRecord(ctx: Ctx, deps: ObserverDeps): NodeRecordKeeper {
  const { config, engine, identity, replica, state, paths } = deps;
  const keeper = createNodeRecord({
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
        pluginVersion: deps.version,
        pools: await readPools(paths),
        // What was set for the node, by whoever and from wherever, goes before what its host says.
        labels: { ...config.nodeLabels, ...settingsOf(replica, identity.node).labels },
      };
    },
  });
  replica.onChange((changed) => {
    if (changed.includes(keys.nodeSettings(identity.node))) void keeper.refresh();
  });
  return keeper;
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
