/** Which etcd: the one of the settings, or our own. */
import type { WhichEtcd } from './admin/messages.js';
import { openOwnCluster, type OwnCluster } from './cluster/own-cluster.js';
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { RoleContainers } from './dataplane/role-container.js';
import { readSettingFile } from './setting-files.js';
import { createEtcdState } from './state/etcd-state.js';
import type { State } from './state/state.js';

export interface SharedState {
  readonly state: State;
  readonly which: WhichEtcd;
  /** Makes our own etcd run; nothing to do for another's. */
  readonly ensureEtcd: (ctx: Ctx) => Promise<void>;
  /** Null for another's etcd: its members are its owner's business. */
  readonly cluster: OwnCluster | null;
}

export interface SharedStateParts {
  readonly paths: HostPaths;
  readonly roles: RoleContainers;
  readonly image: string;
  readonly cluster: string;
}

export function connectState(ctx: Ctx, config: Config, parts: SharedStateParts): Promise<SharedState> {
  return config.etcd.endpoints.length > 0
    ? connectExternal(ctx, config, parts.paths)
    : connectOwn(ctx, config, parts);
}

async function connectExternal(ctx: Ctx, { etcd }: Config, paths: HostPaths): Promise<SharedState> {
  const [ca, certificate, key, password] = await Promise.all(
    [etcd.caFile, etcd.certFile, etcd.keyFile, etcd.passwordFile].map((file) => readSettingFile(paths, file)),
  );
  const state = createEtcdState({
    endpoints: etcd.endpoints,
    log: ctx.log,
    ...(ca ? { tls: { ca, ...(certificate ? { certificate } : {}), ...(key ? { key } : {}) } } : {}),
    ...(etcd.user !== undefined && password
      ? { auth: { username: etcd.user, password: password.toString('utf8').trim() } }
      : {}),
  });
  const which = { own: false, endpoints: etcd.endpoints };
  return { state, which, ensureEtcd: () => Promise.resolve(), cluster: null };
}

async function connectOwn(ctx: Ctx, config: Config, parts: SharedStateParts): Promise<SharedState> {
  const { etcd, memberGraceMs, targetPorts } = config;
  const own = await openOwnCluster({
    ...parts,
    log: ctx.log,
    port: etcd.port,
    targetPorts,
    graceMs: memberGraceMs,
  });
  return {
    state: own.state,
    which: {
      own: true,
      get endpoints() {
        return own.membership().endpoints;
      },
    },
    ensureEtcd: (background) => own.ensure(background),
    cluster: own,
  };
}
