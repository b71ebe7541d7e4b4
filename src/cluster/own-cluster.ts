/**
 * The plugin's own etcd as one thing: the connection to it, the member on this host, and, once others can join, its
 * spreading over the hosts.
 */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { RoleContainers } from '../dataplane/role-container.js';
import { AppError } from '../errors.js';
import type { Log } from '../log.js';
import { createEtcdState, type EtcdState } from '../state/etcd-state.js';
import { keys } from '../state/keys.js';
import { records } from '../state/records.js';
import type { State } from '../state/state.js';
import { type Certificates, ensureCertificates } from './certificates.js';
import { createFormation, type Formation } from './formation/formation.js';
import { readIncarnation } from './formation/incarnation.js';
import { createLocalMember, type LocalMember } from './formation/local-member.js';
import { createManagerLock } from './formation/manager-lock.js';
import {
  alone,
  joinPortOf,
  type Membership,
  readMembership,
  writeMembership,
} from './formation/membership.js';
import { Observation } from './formation/observation.js';
import { namingFullDisk } from './full-disk.js';
import { type JoinServer, startJoinServer } from './join/server.js';
import type { JoinAnswer } from './join/messages.js';
import { createTokens, type Tokens } from './join/tokens.js';
import { ensureOwnEtcd, ETCD_CONTAINER, type OwnEtcdOptions, runMember } from './own-etcd.js';

export interface OwnClusterParts extends Omit<OwnEtcdOptions, 'advertise'> {
  readonly paths: HostPaths;
  readonly roles: RoleContainers;
  readonly log: Log;
  /** How long a member must be unreachable before another host takes its place. */
  readonly graceMs: number;
}

export interface Company {
  readonly node: string;
  /** 0 while the node is alive. */
  readonly awayMs: (node: string) => number;
  readonly hostname: (ctx: Ctx) => Promise<string>;
  /** Client URLs of all hosts that were ever known here. */
  readonly knownUrls: () => readonly string[];
}

export interface OwnCluster {
  /** Client port of etcd here. */
  readonly port: number;
  readonly state: State;
  readonly members: EtcdState['members'];
  readonly membership: () => Membership;
  readonly certificates: () => Certificates;
  readonly tokens: Tokens;
  /** Makes the member on this host run, where there is one. */
  ensure(ctx: Ctx): Promise<void>;
  /** Nothing to do for a host that is alone. Goes on until the signal aborts. */
  keepCompany(ctx: Ctx, company: Company): Running | null;
}

export interface Running {
  readonly formation: Formation;
  readonly local: LocalMember;
  /** The member of this host is to go, or may stay. */
  leave(leaving: boolean): void;
  /** Nothing more is done or told about this host as a place for a member. Resolves when all has ended. */
  stop(): Promise<void>;
}

/** A learner that is not up to date by then makes room for another. */
const STALL_MS = 5 * 60_000;
/** Without a majority for so long, all hosts that were ever known are asked. */
const SEARCH_AFTER = 3;

export async function openOwnCluster(parts: OwnClusterParts): Promise<OwnCluster> {
  const { paths, port, log } = parts;
  let membership = (await readMembership(paths)) ?? alone(port);
  const { advertise } = membership;
  const makeCertificates = () =>
    ensureCertificates(paths.view(paths.certificates), { addresses: advertise === null ? [] : [advertise] });
  let certificates = await makeCertificates();
  const state = createEtcdState({ endpoints: membership.endpoints, tls: tlsOf(certificates), log });
  const named = namingFullDisk(state, paths);
  const options = { ...parts, advertise };
  const tokens = createTokens(named);

  async function follow(endpoints: readonly string[]): Promise<void> {
    state.moveTo(endpoints);
    if (endpoints.join() === membership.endpoints.join()) return;
    membership = { ...membership, endpoints };
    await writeMembership(paths, membership);
  }

  return {
    port,
    state: named,
    members: state.members,
    membership: () => membership,
    certificates: () => certificates,
    tokens,
    async ensure(ctx) {
      certificates = await makeCertificates();
      if (certificates.renewed.length > 0) state.renew(tlsOf(certificates));
      if (advertise === null) return ensureOwnEtcd(ctx, options, certificates);
      const incarnation = await readIncarnation(paths);
      if (incarnation) await runMember(ctx, options, certificates, incarnation);
    },
    keepCompany(ctx, company) {
      if (advertise === null) return null;
      let leaving = false;
      let failures = 0;
      const local = createLocalMember({
        ...company,
        advertise,
        port,
        paths,
        state: named,
        members: state.members,
        run: (limited, incarnation) => runMember(limited, options, certificates, incarnation),
        stop: (limited) => parts.roles.remove(limited, ETCD_CONTAINER, 0),
        isLeaving: () => leaving,
      });
      const formation = createFormation({
        state: named,
        members: state.members,
        lock: createManagerLock(company.node, named),
        observation: new Observation({ state: named, members: state.members, awayMs: company.awayMs }),
        graceMs: parts.graceMs,
        stallMs: STALL_MS,
        local,
        follow: async (endpoints) => {
          failures = 0;
          await follow(endpoints);
        },
        search: () => {
          failures += 1;
          if (failures >= SEARCH_AFTER)
            state.moveTo([...new Set([...membership.endpoints, ...company.knownUrls()])].toSorted());
          return Promise.resolve();
        },
      });
      const server = serveJoins(ctx, {
        advertise,
        port,
        state: named,
        tokens,
        certificates: () => certificates,
        membership: () => membership,
      });
      const stopping = new AbortController();
      const signal = AbortSignal.any([ctx.signal, stopping.signal]);
      const ended = formation.run({ ...ctx, signal }).then(() => {
        server.close();
      });
      return {
        formation,
        local,
        leave(wish) {
          leaving = wish;
        },
        async stop() {
          stopping.abort();
          await ended;
        },
      };
    },
  };
}

interface JoinParts {
  readonly advertise: string;
  readonly port: number;
  readonly state: State;
  readonly tokens: Tokens;
  readonly certificates: () => Certificates;
  readonly membership: () => Membership;
}

function serveJoins(
  ctx: Ctx,
  { advertise, port, state, tokens, certificates, membership }: JoinParts,
): JoinServer {
  return startJoinServer(ctx, {
    advertise,
    port: joinPortOf(port),
    state,
    tokens,
    tls: () => {
      const { server, ca } = certificates();
      return { cert: `${server.certificate.toString()}${ca.toString()}`, key: server.key.toString() };
    },
    answer: async (): Promise<JoinAnswer> => {
      const entry = await state.get(withDeadline(ctx, 5000), keys.cluster);
      if (!entry)
        throw new AppError('unavailable', 'this cluster has no record of itself yet: try again in a moment');
      const record = records.cluster.decode(entry.key, entry.value);
      const { ca, caKey } = certificates();
      return {
        cluster: record.id,
        incarnation: record.incarnation ?? 0,
        authority: ca.toString(),
        authorityKey: caKey.toString(),
        endpoints: membership().endpoints,
      };
    },
  });
}

function tlsOf({ ca, client }: Certificates) {
  return {
    ca,
    certificate: client.certificate,
    key: client.key,
    // Node warns when an IP address is asked for by name in TLS; the certificates are good for both.
    serverName: 'localhost',
  };
}
