/** The admin socket: who answers what. */
import path from 'node:path';
import type { ClusterDuties } from './admin/cluster-routes.js';
import type { ClusterView } from './admin/cluster-view.js';
import { createAdminServer, type AdminServer } from './admin/server.js';
import type { Background } from './background.js';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import { pruneMounts } from './dataplane/prune-mounts.js';
import { readJournal } from './registrator/journal-reader.js';
import type { SharedState } from './shared-state.js';
import { keys } from './state/keys.js';
import type { VolumeService } from './volumes/volume-service.js';

export interface AdminParts {
  readonly background: Background;
  readonly volumes: Pick<VolumeService, 'list'>;
  readonly view: ClusterView;
  /** Null where there is nothing to form. */
  readonly duties: ClusterDuties | null;
  /** Of the plugin. */
  readonly version: string;
  readonly paths: HostPaths;
  /** As it is, believed or not: who looks here may want to see just that. */
  readonly shared: SharedState;
}

/** Volumes work without it: a socket that cannot be had does not hold up the start. */
export function openAdmin(ctx: Ctx, parts: AdminParts): AdminServer {
  const { background, volumes, view, version, paths, shared, duties } = parts;
  const admin = createAdminServer({
    health: () => ({ version, ...background.health() }),
    cluster: () => view.cluster(ctx),
    nodes: () => view.nodes(ctx),
    records: async (prefix) => (await shared.state.range(ctx, prefix === '' ? keys.root : prefix)).entries,
    volumes: () => volumes.list(),
    events: (query) => readJournal(ctx, shared.state, query),
    duties,
    registry: () => background.registry(),
    metrics: () => background.metrics(),
    log: ctx.log,
  });
  admin.serve(ctx, paths.view(path.join(paths.run, 'admin.sock')));
  void pruneMounts(ctx, paths.view('/var/lib'), paths.view(paths.state)).catch((err: unknown) => {
    ctx.log.warn({ err }, 'mounts of others could not be dropped');
  });
  return admin;
}
