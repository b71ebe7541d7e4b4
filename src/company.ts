/** This host among those of its cluster: what goes on behind, what is told of it, and what people can ask for. */
import { X509Certificate } from 'node:crypto';
import type { ClusterDuties } from './admin/cluster-routes.js';
import type { FormationMessage, NewTokenMessage, TokenMessage } from './admin/messages.js';
import { type ClusterActions, type ClusterActionsDeps, createClusterActions } from './cluster/actions.js';
import type { Running } from './cluster/among-peers.js';
import { createDiscovery } from './cluster/discovery/create.js';
import type { Announcement } from './cluster/discovery/discovery.js';
import { decideEnding } from './cluster/ending/decide.js';
import { carryOutEnd } from './cluster/ending/carry-out.js';
import { createHostEnding } from './cluster/ending/ending.js';
import type { OwnCluster } from './cluster/own-cluster.js';
import { parseDiscovery } from './cluster/discovery/spec.js';
import { hostPort, joinPortOf } from './cluster/formation/membership.js';
import { carryOutMove, endTransition, readTransition } from './cluster/formation/transition.js';
import type { FormationView } from './cluster/formation/view.js';
import { sumOf } from './cluster/join/token.js';
import type { CreatedToken } from './cluster/join/tokens.js';
import { knownPeers, lookAtNeighbours, type NeighbourReport } from './cluster/neighbours.js';
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import type { DataPlaneImage } from './dataplane/data-plane-image.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { RoleContainers } from './dataplane/role-container.js';
import type { Engine } from './docker/engine.js';
import { disablePlugin } from './docker/plugin-switch.js';
import { createEngineSwarm } from './docker/swarm.js';
import { sleep } from './lib/sleep.js';
import { readPluginId } from './plugin-id.js';
import { keepCluster, type NodeIdentity } from './node-identity.js';
import type { SharedState } from './shared-state.js';
import { keys } from './state/keys.js';
import { records } from './state/records.js';
import type { Replica } from './state/replica.js';
import type { State } from './state/state.js';
import type { Liveness } from './volumes/liveness.js';
import type { StartingService } from './volumes/starting-service.js';

export interface CompanyParts {
  readonly config: Config;
  readonly engine: Pick<Engine, 'info'>;
  readonly identity: NodeIdentity;
  readonly paths: HostPaths;
  readonly shared: SharedState;
  /** As far as it is believed. */
  readonly state: State;
  readonly replica: Replica;
  readonly liveness: Liveness;
  readonly roles: RoleContainers;
  readonly service: Pick<StartingService, 'pause'>;
  readonly restart: (why: string) => void;
}

export interface KeptCompany {
  readonly view: ((ctx: Ctx) => Promise<FormationMessage>) | null;
  readonly duties: ClusterDuties | null;
  /** The cluster is being taken down: nothing is brought back here. */
  isEnding(): boolean;
  close(): Promise<void>;
}

/** So long does who asked have to read the answer. */
const RESTART_MS = 300;

export function keepCompany(ctx: Ctx, parts: CompanyParts): KeptCompany {
  const { engine, identity, liveness, replica, shared } = parts;
  const own = shared.cluster;
  if (own === null)
    return { view: null, duties: null, isEnding: () => false, close: () => Promise.resolve() };
  const hostname = async (caller: Ctx) => (await engine.info(caller)).hostname;
  const running = own.keepCompany(ctx, {
    node: identity.node,
    awayMs: (node) => liveness.awayMs(node),
    hostname,
    knownUrls: () => clientUrls(replica),
  });
  const alone = own.careAlone(ctx);
  const actions = createActions(parts, { own, running, hostname });
  const ending = createHostEnding({ ...parts, node: identity.node });
  const watching = ending.run(ctx);
  const backingUp = own.backups.run(ctx);
  const { advertise } = own.membership();
  const authority = sumOf(new X509Certificate(own.certificates().ca).raw);
  const announcement = advertise === null ? null : announce(ctx, parts, { advertise, authority });
  return {
    view: async (caller) => {
      const view = (await running?.formation.view(caller)) ?? { ...ALONE, ...alone?.view() };
      const joinAt = advertise === null ? null : hostPort(advertise, joinPortOf(own.port));
      const { change = null } = own.membership();
      return { ...view, advertise, joinAt, change, backup: (await own.backups.list())[0] ?? null };
    },
    duties: dutiesOf(ctx, parts, own, actions),
    isEnding: () => ending.begun,
    async close() {
      await Promise.all([watching, running?.stop(), alone?.stop(), announcement?.close(), backingUp]);
    },
  };
}

function dutiesOf(ctx: Ctx, parts: CompanyParts, own: OwnCluster, actions: ClusterActions): ClusterDuties {
  return {
    init: (wish) => actions.init(ctx, wish),
    join: (wish) => actions.join(ctx, wish),
    leave: (wish) => actions.leave(ctx, wish),
    recover: (wish) => actions.recover(ctx, wish),
    end: (wish) => decideEnding(ctx, parts.state, wish),
    async makeBackup() {
      await own.backups.make(ctx);
    },
    backups: () => own.backups.list(),
    neighbours: () => neighboursOf(parts, own),
    setVoters: (voters) => actions.setVoters(ctx, voters),
    createToken: async (ttlMs) => newTokenOf(await actions.createToken(ctx, ttlMs)),
    tokens: async () => (await own.tokens.list(ctx)).map(tokenOf),
    revokeToken: (id) => own.tokens.revoke(ctx, id),
    removeNode: (node, wish) => actions.removeNode(ctx, node, wish),
    setNode: (node, wish) => actions.setNode(ctx, node, wish),
  };
}

function createActions(
  parts: CompanyParts,
  { own, running, hostname }: Pick<ClusterActionsDeps, 'own' | 'hostname'> & { running: Running | null },
): ClusterActions {
  const { config, identity, paths, replica, service, state } = parts;
  return createClusterActions({
    own,
    running: () => running,
    paths,
    node: identity.node,
    port: config.etcd.port,
    hostname,
    state,
    clusterId: () => clusterIdOf(replica),
    pause: (caller, why) => service.pause(caller, why),
    volumes: () => replica.list(keys.volumes).map(({ key }) => key.slice(keys.volumes.length)),
    discover: (caller, specification, { addresses, authority }) =>
      createDiscovery(parseDiscovery(specification), {
        ...discoveryParts(parts),
        addresses,
        fingerprint: authority,
      }).find(caller),
    restart: (why) => {
      setTimeout(parts.restart, RESTART_MS, why);
    },
  });
}

function discoveryParts({ config, paths }: CompanyParts) {
  return {
    defaultPort: joinPortOf(config.etcd.port),
    view: (hostPath: string) => paths.view(hostPath),
    swarm: createEngineSwarm(paths.view(config.dockerSocket)),
  };
}

const ANNOUNCE_AGAIN_MS = 30_000;

/** Lets hosts that are to join find this one by themselves. Whoever has its address needs none of it. */
function announce(
  ctx: Ctx,
  parts: CompanyParts,
  { advertise, authority }: { advertise: string; authority: string },
) {
  const { defaultPort, ...rest } = discoveryParts(parts);
  const { discovery: kind } = parts.config;
  if (kind === 'none') return { close: () => Promise.resolve() };
  const discovery = createDiscovery(parseDiscovery(kind, 'DISCOVERY'), {
    ...rest,
    defaultPort,
    addresses: [],
    fingerprint: authority,
  });
  const closing = new AbortController();
  const signal = AbortSignal.any([ctx.signal, closing.signal]);
  let opened: Announcement | undefined;
  const done = (async () => {
    while (!signal.aborted && opened === undefined) {
      try {
        opened = await discovery.announce?.(ctx, { host: advertise, port: defaultPort });
        return;
      } catch (err) {
        ctx.log.warn({ err }, 'this host cannot be discovered');
        await sleep(ANNOUNCE_AGAIN_MS, signal);
      }
    }
  })();
  return {
    async close() {
      closing.abort();
      await done;
      await opened?.close();
    },
  };
}

const ALONE: FormationView = {
  role: 'alone',
  voters: 1,
  members: [],
  doing: null,
  manager: null,
  problem: null,
  alarms: [],
};

/** Carries out what was decided before this process began. */
export async function changeCluster(
  ctx: Ctx,
  { config, paths, roles }: Pick<CompanyParts, 'config' | 'paths' | 'roles'>,
): Promise<void> {
  const transition = await readTransition(paths);
  if (transition === null) return;
  const keep = (cluster: string) => keepCluster(paths.view(paths.identity), cluster);
  if (transition.kind === 'end') {
    const socketPath = paths.view(config.dockerSocket);
    const disable = async (caller: Ctx) => disablePlugin(caller, socketPath, await readPluginId());
    return carryOutEnd(ctx, transition, { paths, roles, disable });
  }
  if (transition.kind !== 'recover')
    return carryOutMove(ctx, transition, { paths, roles, keepCluster: keep });
  // The rest follows when there is a connection: recoverCluster.
  await keep(transition.cluster);
}

/** Carries out a recovery that was decided before this process began. */
export async function recoverCluster(
  ctx: Ctx,
  {
    paths,
    image,
    shared: { cluster },
  }: Pick<CompanyParts, 'paths' | 'shared'> & { readonly image: DataPlaneImage },
): Promise<void> {
  const transition = await readTransition(paths);
  if (transition?.kind !== 'recover' || cluster === null) return;
  // A start that has nothing to recover needs no engine.
  await image.ensure(ctx);
  await cluster.recover(ctx, transition);
  await endTransition(paths);
}

/** Where volumes are served: for the others too, once there may be others. */
export function inCluster(config: Config, { cluster }: SharedState): Config {
  const { advertise = null } = cluster?.membership() ?? {};
  const isDefault = config.targetAddress === '127.0.0.1';
  return advertise !== null && isDefault ? { ...config, targetAddress: advertise } : config;
}

function neighboursOf(
  { identity, liveness, replica }: CompanyParts,
  own: OwnCluster,
): Promise<NeighbourReport[]> {
  const isAlone = own.membership().advertise === null;
  return lookAtNeighbours({
    peers: isAlone ? [] : knownPeers(replica).filter(({ node }) => node !== identity.node),
    isAlive: (node) => liveness.awayMs(node) === 0,
    authority: own.certificates().ca,
  });
}

function clientUrls(replica: Replica): string[] {
  return knownPeers(replica).map(({ clientUrl }) => clientUrl);
}

function clusterIdOf(replica: Replica): string | null {
  const entry = replica.get(keys.cluster);
  return entry && records.cluster.decode(entry.key, entry.value).id;
}

function tokenOf({ id, createdAt, expiresAt, joined }: TokenMessage): TokenMessage {
  return { id, createdAt, expiresAt, joined };
}

function newTokenOf({ record, token }: CreatedToken & { readonly token: string }): NewTokenMessage {
  return { ...tokenOf(record), token };
}
