import path from 'node:path';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { SharedState } from './shared-state.js';
import { keys } from './state/keys.js';
import { openReplica, type Replica } from './state/replica.js';
import { type KnownCluster, sameCluster } from './state/same-cluster.js';
import type { State } from './state/state.js';

export interface RecordsParts {
  readonly paths: HostPaths;
  readonly shared: SharedState;
}

/** Shared state as long as it is that of the cluster which the replica knows. */
export async function openRecords(
  ctx: Ctx,
  { paths, shared }: RecordsParts,
): Promise<{ state: State; replica: Replica }> {
  let opened: Replica | null = null;
  const known: KnownCluster = {
    record: () => opened?.get(keys.cluster) ?? null,
    volumes: () => opened?.list(keys.volumes) ?? [],
    forget: () => opened?.forget(keys.cluster),
  };
  const called = shared.which.none ? { called: `the file in ${paths.localState}` } : {};
  const state = sameCluster(shared.state, { known, log: ctx.log, ...called });
  opened = await openReplica({
    state,
    prefixes: [
      ...[keys.volumes, keys.targets, keys.attachments],
      ...[keys.cluster, keys.nodes, keys.peers, keys.allNodeSettings],
    ],
    file: paths.view(path.join(paths.cache, 'records.json')),
    log: ctx.log,
  });
  return { state, replica: opened };
}
