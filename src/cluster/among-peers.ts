/** What a host does that others can reach: it looks after the members of etcd with them, and lets hosts join. */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import { AppError } from '../errors.js';
import type { EtcdState } from '../state/etcd-state.js';
import { keys } from '../state/keys.js';
import { records } from '../state/records.js';
import type { State } from '../state/state.js';
import { type Care, createCare } from './care/care.js';
import { isCaretaker } from './care/caretaker.js';
import type { Certificates } from './certificates.js';
import { createFormation, type Formation } from './formation/formation.js';
import type { Incarnation } from './formation/incarnation.js';
import { createLocalMember, type LocalMember } from './formation/local-member.js';
import { createManagerLock, type ManagerLock } from './formation/manager-lock.js';
import { joinPortOf, type Membership } from './formation/membership.js';
import { Observation } from './formation/observation.js';
import type { JoinAnswer } from './join/messages.js';
import { type JoinServer, startJoinServer } from './join/server.js';
import type { Tokens } from './join/tokens.js';
import { createRenewal, type Renewal } from './renewal/renewal.js';
import { createRenewalLock } from './renewal/renewal-lock.js';
import { QUOTA_BYTES } from './own-etcd.js';

/** What a host knows of itself and the others. */
export interface Company {
  readonly node: string;
  /** 0 while the node is alive. */
  readonly awayMs: (node: string) => number;
  readonly hostname: (ctx: Ctx) => Promise<string>;
  /** Client URLs of all hosts that were ever known here. */
  readonly knownUrls: () => readonly string[];
}

export interface CompanyParts extends Company {
  readonly paths: HostPaths;
  readonly advertise: string;
  readonly port: number;
  readonly state: State;
  readonly etcd: Pick<EtcdState, 'members' | 'moveTo'>;
  readonly tokens: Tokens;
  readonly graceMs: number;
  readonly certificates: () => Certificates;
  readonly membership: () => Membership;
  readonly follow: (endpoints: readonly string[], incarnation: number) => Promise<void>;
  /** Shared state at one member alone. */
  readonly at: (clientUrl: string) => State;
  readonly run: (ctx: Ctx, incarnation: Incarnation) => Promise<void>;
  readonly retire: (ctx: Ctx) => Promise<void>;
  /** Whether the container of the member is of another version of the plugin, and waits for its turn. */
  readonly isDue: () => boolean;
  /** Makes it anew. */
  readonly renew: (ctx: Ctx) => Promise<void>;
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
/** Without a majority for so many looks, all hosts that were ever known are asked. */
const SEARCH_AFTER = 3;

export function keepCompany(ctx: Ctx, parts: CompanyParts): Running {
  const { etcd, state } = parts;
  let leaving = false;
  let failures = 0;
  const local = createLocalMember({ ...parts, members: etcd.members, isLeaving: () => leaving });
  const lock = createManagerLock(parts.node, state);
  const formation = createFormation({
    ...parts,
    members: etcd.members,
    care: careOf(parts, lock, local),
    lock,
    renewal: renewalOf(parts, local),
    observation: new Observation({ ...parts, members: etcd.members }),
    stallMs: STALL_MS,
    local,
    incarnation: () => parts.membership().incarnation,
    readIncarnation: (caller) => incarnationIn(caller, state),
    async follow(endpoints, incarnation) {
      failures = 0;
      await parts.follow(endpoints, incarnation);
    },
    prefer: (endpoints) => {
      etcd.moveTo(endpoints);
    },
    goTo: (caller, incarnation) => goTo(caller, parts, incarnation),
    search() {
      failures += 1;
      const { endpoints } = parts.membership();
      const known = failures < SEARCH_AFTER ? endpoints : [...endpoints, ...parts.knownUrls()];
      etcd.moveTo([...new Set(known)].toSorted());
    },
  });
  const server = serveJoins(ctx, parts);
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
}

function careOf({ etcd: { members }, graceMs }: CompanyParts, lock: ManagerLock, local: LocalMember): Care {
  return createCare({
    members,
    quotaBytes: QUOTA_BYTES,
    graceMs,
    isMine: (ctx, observed) => isCaretaker(ctx, lock, { observed, has: local.has }),
    begin: (ctx, doing) => lock.begin(ctx, doing),
  });
}

function renewalOf(parts: CompanyParts, local: LocalMember): Renewal {
  const { members } = parts.etcd;
  return createRenewal({
    ...parts,
    members,
    observation: new Observation({ ...parts, members }),
    lock: createRenewalLock(parts.node, parts.state),
    me: () => local.has,
  });
}

async function goTo(
  ctx: Ctx,
  { at, etcd, knownUrls, membership }: CompanyParts,
  incarnation: number,
): Promise<void> {
  const urls = [...new Set([...membership().endpoints, ...knownUrls()])];
  const found = await Promise.all(
    urls.map(async (url) => {
      const one = at(url);
      const told = await incarnationIn(ctx, one).catch(() => -1);
      await one.close();
      return told >= incarnation ? [url] : [];
    }),
  );
  const endpoints = found.flat().toSorted();
  if (endpoints.length === 0)
    throw new AppError('unavailable', `no etcd of the cluster's incarnation ${String(incarnation)} answers`);
  etcd.moveTo(endpoints);
}

const RECORD_MS = 5000;

async function incarnationIn(ctx: Ctx, state: Pick<State, 'get'>): Promise<number> {
  const entry = await state.get(withDeadline(ctx, RECORD_MS), keys.cluster);
  return entry === null ? 0 : (records.cluster.decode(entry.key, entry.value).incarnation ?? 0);
}

function serveJoins(
  ctx: Ctx,
  { advertise, port, state, tokens, certificates, membership }: CompanyParts,
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
      const entry = await state.get(withDeadline(ctx, RECORD_MS), keys.cluster);
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
