/** Which etcd: the one of the settings, or our own. */
import type { WhichEtcd } from './admin/messages.js';
import { ensureCertificates } from './cluster/certificates.js';
import { namingFullDisk } from './cluster/full-disk.js';
import { ensureOwnEtcd } from './cluster/own-etcd.js';
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
  return { state, which, ensureEtcd: () => Promise.resolve() };
}

async function connectOwn(ctx: Ctx, config: Config, parts: SharedStateParts): Promise<SharedState> {
  const certificates = await ensureCertificates(parts.paths.view(parts.paths.certificates), {
    addresses: [],
  });
  const { port } = config.etcd;
  const endpoints = [`https://127.0.0.1:${String(port)}`];
  const state = createEtcdState({
    endpoints,
    tls: {
      ca: certificates.ca,
      certificate: certificates.client.certificate,
      key: certificates.client.key,
      // Node warns when an IP address is asked for by name in TLS; the certificate is good for both.
      serverName: 'localhost',
    },
    log: ctx.log,
  });
  return {
    state: namingFullDisk(state, parts.paths),
    which: { own: true, endpoints },
    ensureEtcd: (background) =>
      ensureOwnEtcd(background, { ...parts, port, targetPorts: config.targetPorts }, certificates),
  };
}
