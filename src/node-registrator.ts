/** The registrator of this plugin: what runs on this host, by policies, in shared state and in Consul. */
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { RoleContainers } from './dataplane/role-container.js';
import type { Engine } from './docker/engine.js';
import type { EventStream } from './docker/event-stream.js';
import { createEngineObjects } from './docker/objects.js';
import { untilDone } from './lib/until-done.js';
import type { NodeIdentity } from './node-identity.js';
import type { Backends, RegistryBackend } from './registrator/backends/backend.js';
import { createBackends } from './registrator/backends/by-key.js';
import { createConsulBackend } from './registrator/backends/consul/consul-backend.js';
import { createClaimKeeper } from './registrator/claims/keeper.js';
import type { Evaluated } from './registrator/evaluation.js';
import type { RegistratorStats } from './registrator/registrator-stats.js';
import { createRegistrator, type Registrator } from './registrator/registrator.js';
import { readSettingFile } from './setting-files.js';
import type { State } from './state/state.js';
import { withVsms } from './vsms.js';

export interface NodeRegistratorDeps {
  readonly config: Config;
  readonly engine: Pick<Engine, 'info'>;
  readonly identity: NodeIdentity;
  readonly state: State;
  readonly stream: Pick<EventStream, 'subscribe'>;
  readonly paths: HostPaths;
  readonly roles: Pick<RoleContainers, 'observe'>;
  readonly evaluated: (evaluation: Evaluated) => void;
}

export interface NodeRegistrator {
  /** Null before the engine has told who it is, and where it is off. */
  stats(): RegistratorStats | null;
  close(): Promise<void>;
}

export function startNodeRegistrator(ctx: Ctx, deps: NodeRegistratorDeps): NodeRegistrator {
  if (deps.config.policies.defaults.length === 0)
    return { stats: () => null, close: () => Promise.resolve() };
  let running: Registrator | null = null;
  const starting = untilDone(ctx, 'start the registrator', async () => {
    running = await start(ctx, deps);
  }).catch(() => undefined);
  return {
    stats: () => running?.stats() ?? null,
    async close() {
      await starting;
      await running?.close(deps.config.registry.farewell);
    },
  };
}

async function start(ctx: Ctx, deps: NodeRegistratorDeps): Promise<Registrator> {
  const { config, engine, identity, state, stream, paths, roles, evaluated } = deps;
  const { hostname } = await engine.info(ctx);
  const consul = await connectConsul(deps, ctx);
  const vsms = withVsms(createEngineObjects(paths.view(config.dockerSocket)), roles);
  const { directory, defaults } = config.policies;
  const registrator = createRegistrator({
    state,
    stream,
    objects: vsms.objects,
    node: { id: identity.node, hostname, address: config.targetAddress },
    backends: createAll(ctx, deps, consul),
    policies: { defaults, directory: { path: paths.view(directory), shown: directory } },
    log: ctx.log,
    evaluated,
  });
  vsms.follow(ctx, (id) => {
    registrator.lookAt('container', id);
  });
  return registrator;
}

function createAll(
  ctx: Ctx,
  { identity, state }: NodeRegistratorDeps,
  consul: RegistryBackend | null,
): Backends {
  const etcd = createClaimKeeper({ state, owner: identity.node, log: ctx.log });
  return createBackends({ etcd, ...(consul ? { consul } : {}) }, ctx.log);
}

async function connectConsul(
  { config: { consul }, identity, paths }: NodeRegistratorDeps,
  { log }: Ctx,
): Promise<RegistryBackend | null> {
  if (consul.address === undefined) return null;
  const [ca, certificate, key, token] = await Promise.all(
    [consul.caFile, consul.certFile, consul.keyFile, consul.tokenFile].map((file) =>
      readSettingFile(paths, file),
    ),
  );
  return createConsulBackend({
    address: consul.address,
    owner: identity.node,
    log,
    ...(token ? { token: token.toString('utf8').trim() } : {}),
    tls: { ...(ca ? { ca } : {}), ...(certificate ? { certificate } : {}), ...(key ? { key } : {}) },
  });
}
