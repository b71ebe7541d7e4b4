/** Where state is: in the etcd of the settings, in our own, or in a file of this host. */
import type { WhichEtcd } from './admin/messages.js';
import { openOwnCluster, type OwnCluster } from './cluster/own-cluster.js';
import { ETCD_CONTAINER } from './cluster/own-etcd.js';
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { RoleContainers } from './dataplane/role-container.js';
import { readSettingFile } from './setting-files.js';
import { createEtcdState } from './state/etcd-state.js';
import { keys } from './state/keys.js';
import { openLocalState } from './state/local-state.js';
import { createRefusingState } from './state/refusing-state.js';
import type { State } from './state/state.js';
import { refuseToHide } from './moved-state.js';

export interface SharedState {
  readonly state: State;
  readonly which: WhichEtcd;
  /** Makes our own etcd run, or the file usable; nothing to do for another's etcd. */
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

export async function connectState(ctx: Ctx, config: Config, parts: SharedStateParts): Promise<SharedState> {
  const isLocal = config.cluster === 'none';
  const refusal = await refuseToHide(parts.paths, config.cluster, ctx.log);
  if (refusal !== null) {
    ctx.log.error({ err: refusal }, 'CLUSTER was changed below existing volumes');
    const { endpoints } = config.etcd;
    const which = { none: isLocal, own: !isLocal && endpoints.length === 0, endpoints };
    return {
      state: createRefusingState(refusal),
      which,
      ensureEtcd: () => Promise.reject(refusal),
      cluster: null,
    };
  }
  if (isLocal) return connectLocal(ctx, parts);
  return config.etcd.endpoints.length > 0
    ? connectExternal(ctx, config, parts.paths)
    : connectOwn(ctx, config, parts);
}

async function connectLocal(ctx: Ctx, { paths, roles }: SharedStateParts): Promise<SharedState> {
  const shown = paths.localState;
  const state = await openLocalState({ directory: paths.view(shown), shown, log: ctx.log });
  return {
    state,
    which: { none: true, own: false, endpoints: [] },
    async ensureEtcd(background) {
      await state.get(background, keys.cluster);
      // Of a time before: what it has is of no volume any more, and stays on the disk.
      const { present } = await roles.observe(background, ETCD_CONTAINER);
      if (present) await roles.remove(background, ETCD_CONTAINER, 0);
    },
    cluster: null,
  };
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
  const { backup, etcd, memberGraceMs, targetPorts } = config;
  const own = await openOwnCluster({
    ...parts,
    log: ctx.log,
    port: etcd.port,
    targetPorts,
    graceMs: memberGraceMs,
    backup,
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
