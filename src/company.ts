/** This host among those of its cluster: what goes on behind, what is told of it, and what people can ask for. */
import type { ClusterDuties } from './admin/cluster-routes.js';
import type { FormationMessage, NewTokenMessage, TokenMessage } from './admin/messages.js';
import { type ClusterActions, type ClusterActionsDeps, createClusterActions } from './cluster/actions.js';
import type { Running } from './cluster/among-peers.js';
import { hostPort, joinPortOf } from './cluster/formation/membership.js';
import { carryOutTransition, readTransition } from './cluster/formation/transition.js';
import type { FormationView } from './cluster/formation/view.js';
import type { CreatedToken } from './cluster/join/tokens.js';
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { RoleContainers } from './dataplane/role-container.js';
import type { Engine } from './docker/engine.js';
import { AppError } from './errors.js';
import { keepCluster, type NodeIdentity } from './node-identity.js';
import type { SharedState } from './shared-state.js';
import { keys } from './state/keys.js';
import { records } from './state/records.js';
import type { Replica } from './state/replica.js';
import type { State } from './state/state.js';
import type { Liveness } from './volumes/liveness.js';

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
  readonly restart: (why: string) => void;
}

export interface KeptCompany {
  readonly view: ((ctx: Ctx) => Promise<FormationMessage>) | null;
  readonly duties: ClusterDuties | null;
  close(): Promise<void>;
}

/** So long does who asked have to read the answer. */
const RESTART_MS = 300;

export function keepCompany(ctx: Ctx, parts: CompanyParts): KeptCompany {
  const { engine, identity, liveness, replica, shared } = parts;
  const own = shared.cluster;
  if (own === null) return { view: null, duties: null, close: () => Promise.resolve() };
  const hostname = async (caller: Ctx) => (await engine.info(caller)).hostname;
  const running = own.keepCompany(ctx, {
    node: identity.node,
    awayMs: (node) => liveness.awayMs(node),
    hostname,
    knownUrls: () => clientUrls(replica),
  });
  const alone = own.careAlone(ctx);
  const actions = createActions(parts, { own, running, hostname });
  const duties: ClusterDuties = {
    init: (wish) => actions.init(ctx, wish),
    join: (wish) => actions.join(ctx, wish),
    leave: (wish) => actions.leave(ctx, wish),
    setVoters: (voters) => actions.setVoters(ctx, voters),
    createToken: async (ttlMs) => newTokenOf(await actions.createToken(ctx, ttlMs)),
    tokens: async () => (await own.tokens.list(ctx)).map(tokenOf),
    revokeToken: (id) => own.tokens.revoke(ctx, id),
    removeNode: (node, wish) => actions.removeNode(ctx, node, wish),
    setNode: (node, wish) => actions.setNode(ctx, node, wish),
  };
  return {
    view: async (caller) => {
      const { advertise } = own.membership();
      const view = (await running?.formation.view(caller)) ?? { ...ALONE, ...alone?.view() };
      const joinAt = advertise === null ? null : hostPort(advertise, joinPortOf(own.port));
      return { ...view, advertise, joinAt, backup: null };
    },
    duties,
    close: async () => {
      await Promise.all([running?.stop(), alone?.stop()]);
    },
  };
}

function createActions(
  parts: CompanyParts,
  { own, running, hostname }: Pick<ClusterActionsDeps, 'own' | 'hostname'> & { running: Running | null },
): ClusterActions {
  const { config, identity, paths, replica, state } = parts;
  return createClusterActions({
    own,
    running: () => running,
    paths,
    node: identity.node,
    port: config.etcd.port,
    hostname,
    state,
    clusterId: () => clusterIdOf(replica),
    volumes: () => replica.list(keys.volumes).map(({ key }) => key.slice(keys.volumes.length)),
    discover: (_caller, specification, { addresses }) => {
      if (specification !== 'token')
        throw new AppError('invalid_argument', `there is no discovery ${specification}`);
      return Promise.resolve(addresses.map(addressOf));
    },
    restart: (why) => {
      setTimeout(() => {
        parts.restart(why);
      }, RESTART_MS);
    },
  });
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
  { paths, roles }: { readonly paths: HostPaths; readonly roles: RoleContainers },
): Promise<void> {
  const transition = await readTransition(paths);
  if (transition === null) return;
  await carryOutTransition(ctx, transition, {
    paths,
    roles,
    keepCluster: (cluster) => keepCluster(paths.view(paths.identity), cluster),
  });
}

/** Where volumes are served: for the others too, once there may be others. */
export function inCluster(config: Config, { cluster }: SharedState): Config {
  const { advertise = null } = cluster?.membership() ?? {};
  const isDefault = config.targetAddress === '127.0.0.1';
  return advertise !== null && isDefault ? { ...config, targetAddress: advertise } : config;
}

function clientUrls(replica: Replica): string[] {
  return replica.list(keys.peers).flatMap(({ key, value }) => {
    try {
      return [records.peer.decode(key, value).clientUrl];
    } catch {
      return [];
    }
  });
}

function clusterIdOf(replica: Replica): string | null {
  const entry = replica.get(keys.cluster);
  return entry && records.cluster.decode(entry.key, entry.value).id;
}

function addressOf(text: string): { host: string; port: number } {
  const url = new URL(`https://${text}`);
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port) };
}

function tokenOf({ id, createdAt, expiresAt, joined }: TokenMessage): TokenMessage {
  return { id, createdAt, expiresAt, joined };
}

function newTokenOf({ record, token }: CreatedToken & { readonly token: string }): NewTokenMessage {
  return { ...tokenOf(record), token };
}
