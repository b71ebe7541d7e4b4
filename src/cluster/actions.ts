/** What people ask for about the cluster. Each is decided here as a whole, or refused with what is in its way. */
import { randomUUID, X509Certificate } from 'node:crypto';
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';
import { keys } from '../state/keys.js';
import { type NodeSettingsRecord, records } from '../state/records.js';
import type { State } from '../state/state.js';
import { hostPort, isLoopback, joinPortOf, urlOf, writeMembership } from './formation/membership.js';
import { decideTransition } from './formation/transition.js';
import { askToJoin, type Candidate } from './join/client.js';
import { formatToken, type JoinToken, parseToken, sumOf } from './join/token.js';
import type { CreatedToken } from './join/tokens.js';
import { checkAdvertised, ownAddresses } from './advertised.js';
import type { Running } from './among-peers.js';
import type { OwnCluster } from './own-cluster.js';
import { forgetNode, type NodeWish, removeNode, setNode } from './node-actions.js';
import { decideRecovery, type RecoveryWish } from './recover-action.js';
import { refuseDuties } from './remaining-duties.js';

export interface ClusterActionsDeps {
  readonly own: OwnCluster;
  readonly running: () => Running | null;
  readonly paths: HostPaths;
  readonly node: string;
  readonly port: number;
  readonly hostname: (ctx: Ctx) => Promise<string>;
  /** As far as it is believed. */
  readonly state: State;
  /** Identity of the cluster that this host belongs to; null when its record was never seen. */
  readonly clusterId: () => string | null;
  /** Names of all volumes that are known here. */
  readonly volumes: () => readonly string[];
  /** Nothing is made or mounted here until the answer is called; resolves when what was under way has ended. */
  readonly pause: (ctx: Ctx, why: string) => Promise<() => void>;
  /** Hosts that may be of the cluster, as the specification of a discovery finds them. */
  readonly discover: (ctx: Ctx, specification: string, token: JoinToken) => Promise<readonly Candidate[]>;
  /** Ends this process a moment later; the engine starts the next. */
  readonly restart: (why: string) => void;
}

export interface Changing {
  readonly cluster: string | null;
  readonly advertise: string | null;
  /** Shows in the membership once it is carried out. */
  readonly change?: string;
}

export interface ClusterActions {
  init(ctx: Ctx, wish: { advertise: string; voters?: 1 | 3 | 5 | undefined }): Promise<Changing>;
  join(
    ctx: Ctx,
    wish: { token: string; advertise?: string | undefined; discovery?: string | undefined },
  ): Promise<Changing>;
  leave(ctx: Ctx, wish: { force: boolean }): Promise<Changing>;
  recover(ctx: Ctx, wish: RecoveryWish): Promise<Changing>;
  setVoters(ctx: Ctx, voters: 1 | 3 | 5): Promise<void>;
  createToken(ctx: Ctx, ttlMs?: number): Promise<CreatedToken & { readonly token: string }>;
  removeNode(ctx: Ctx, node: string, wish: { force: boolean }): Promise<void>;
  setNode(ctx: Ctx, node: string, wish: NodeWish): Promise<NodeSettingsRecord>;
}

const LOOK_MS = 5000;
const LEAVE_MS = 60_000;
/** A create or mount ends within the time that the engine gives it, mostly at once. */
const PAUSE_MS = 30_000;
const POLL_MS = 500;

export function createClusterActions(deps: ClusterActionsDeps): ClusterActions {
  return {
    init: (ctx, wish) => init(ctx, deps, wish),
    join: (ctx, wish) => join(ctx, deps, wish),
    leave: (ctx, wish) => leave(ctx, deps, wish),
    recover: (ctx, wish) => decideRecovery(ctx, deps, wish),
    setVoters: (ctx, voters) => setVoters(ctx, deps, voters),
    createToken: (ctx, ttlMs) => createToken(ctx, deps, ttlMs),
    removeNode: (ctx, node, wish) => removeNode(ctx, deps, node, wish),
    setNode: (ctx, node, wish) => setNode(ctx, deps, node, wish),
  };
}

async function init(
  ctx: Ctx,
  deps: ClusterActionsDeps,
  { advertise, voters }: Parameters<ClusterActions['init']>[1],
): Promise<Changing> {
  const { own, paths, restart } = deps;
  checkAdvertised(advertise, ownAddresses());
  const membership = own.membership();
  const { advertise: from } = membership;
  // Asked now: a host whose etcd does not serve would begin something that nobody can join. Where the address has changed,
  // that of a host that is alone cannot be reached before it is told.
  if (from === null || from === advertise) await own.members.list(withDeadline(ctx, LOOK_MS));
  else ctx.log.warn({ from, to: advertise }, 'the address of this host changes');
  if (voters !== undefined) await setVoters(ctx, deps, voters);
  const changing = { cluster: deps.clusterId(), advertise };
  if (membership.advertise === advertise) return changing;
  const former = urlOf(membership.advertise ?? '127.0.0.1', own.port);
  const others = membership.endpoints.filter((url) => !isLoopback(url) && url !== former);
  const endpoints = others.length > 0 ? others : [urlOf(advertise, own.port)];
  await writeMembership(paths, { ...membership, advertise, endpoints });
  restart(`hosts can join at ${advertise} from now on`);
  return changing;
}

async function join(
  ctx: Ctx,
  deps: ClusterActionsDeps,
  wish: Parameters<ClusterActions['join']>[1],
): Promise<Changing> {
  const { own, paths, restart } = deps;
  const token = parseToken(wish.token);
  if (wish.advertise !== undefined) checkAdvertised(wish.advertise, ownAddresses());
  const { ca } = own.certificates();
  const membership = own.membership();
  if (sumOf(new X509Certificate(ca).raw) === token.authority)
    return { cluster: deps.clusterId(), advertise: membership.advertise };
  refuseToMove(deps, deps.volumes());
  const candidates = await deps.discover(ctx, wish.discovery ?? 'token', token);
  const pause = () => deps.pause(withDeadline(ctx, PAUSE_MS), 'this host joins another cluster');
  return whilePaused(pause, async () => {
    refuseToMove(deps, await volumesNow(ctx, deps));
    const joined = await askToJoin(ctx, candidates, {
      token,
      node: deps.node,
      hostname: await deps.hostname(ctx).catch(() => ''),
      advertise: wish.advertise ?? null,
      port: deps.port,
    });
    await decideTransition(paths, { kind: 'join', ...joined });
    restart(`this host joins cluster ${joined.cluster}`);
    return { cluster: joined.cluster, advertise: joined.advertise };
  });
}

/** What would be made or mounted after the last look would be out of reach afterwards; so it is paused, until this process ends. */
async function whilePaused<T>(pause: () => Promise<() => void>, operation: () => Promise<T>): Promise<T> {
  const resume = await pause();
  try {
    return await operation();
  } catch (reason) {
    resume();
    throw reason;
  }
}

/** The replica may be behind. Where etcd does not answer nothing can have been made. */
async function volumesNow(ctx: Ctx, { state, volumes }: ClusterActionsDeps): Promise<readonly string[]> {
  const found = await state.range(withDeadline(ctx, LOOK_MS), keys.volumes).catch(() => null);
  return found ? found.entries.map(({ key }) => key.slice(keys.volumes.length)) : volumes();
}

/** What this host has would be out of reach afterwards. */
function refuseToMove({ own }: ClusterActionsDeps, names: readonly string[]): void {
  if (names.length > 0)
    throw new AppError(
      'conflict',
      `this host knows ${String(names.length)} volume(s) of the cluster that it is in now (${few(names)}), which would be ` +
        'lost to it: remove them, or let the other hosts join this one instead ("docker openebs cluster init" here)',
    );
  if (own.membership().advertise !== null)
    throw new AppError(
      'conflict',
      'this host belongs to a cluster that others can join: "docker openebs cluster leave" first',
    );
}

async function createToken(ctx: Ctx, { own }: ClusterActionsDeps, ttlMs?: number) {
  const { advertise } = own.membership();
  if (advertise === null)
    throw new AppError(
      'conflict',
      'nobody can join this host yet: "docker openebs cluster init --advertise ADDRESS" with the address that the others reach',
    );
  const created = await own.tokens.create(ctx, ttlMs);
  const peers = await addressesOf(ctx, own);
  const token = formatToken({
    addresses: [...new Set([hostPort(advertise, joinPortOf(own.port)), ...peers])].slice(0, 5),
    authority: sumOf(new X509Certificate(own.certificates().ca).raw),
    id: created.record.id,
    secret: created.secret,
  });
  return { ...created, token };
}

/** All hosts let others join, so that a token outlives the host that made it. */
async function addressesOf(ctx: Ctx, own: OwnCluster): Promise<string[]> {
  const { entries } = await own.state.range(ctx, keys.peers);
  return entries.map(({ key, value }) => {
    const url = new URL(records.peer.decode(key, value).clientUrl);
    return `${url.hostname}:${String(joinPortOf(Number(url.port)))}`;
  });
}

async function setVoters(ctx: Ctx, { state }: ClusterActionsDeps, voters: 1 | 3 | 5): Promise<void> {
  const entry = await state.get(ctx, keys.formation);
  const same = entry
    ? { key: entry.key, modRevision: entry.modRevision }
    : ({ key: keys.formation, absent: true } as const);
  const { ok } = await state.transact(ctx, {
    if: [same],
    then: [{ put: keys.formation, value: records.formation.encode({ schema: 1, voters }) }],
  });
  if (!ok)
    throw new AppError('conflict', 'somebody else has just set the number of voters: look, and try again');
}

async function leave(ctx: Ctx, deps: ClusterActionsDeps, wish: { force: boolean }): Promise<Changing> {
  if (deps.own.membership().advertise === null)
    throw new AppError('conflict', 'this host is alone: there is nothing to leave');
  const pause = () =>
    deps.pause(withDeadline(ctx, PAUSE_MS), 'this host leaves its cluster').catch((reason: unknown) => {
      if (!wish.force) throw reason;
      ctx.log.warn({ err: reason }, 'this host leaves below what is being made or mounted');
      return () => undefined;
    });
  return whilePaused(pause, () => leaveNow(ctx, deps, wish));
}

async function leaveNow(
  ctx: Ctx,
  deps: ClusterActionsDeps,
  { force }: { force: boolean },
): Promise<Changing> {
  const { node, paths, restart, running, state } = deps;
  try {
    if (!force) await refuseDuties(ctx, state, node);
    await giveUpMember(ctx, deps);
    await running()?.stop();
    await forgetNode(ctx, state, node);
  } catch (reason) {
    running()?.leave(false);
    if (!force) throw reason;
    ctx.log.warn({ err: reason }, 'this host leaves though the cluster could not be told');
  }
  await decideTransition(paths, { kind: 'leave', cluster: randomUUID() });
  restart('this host leaves its cluster');
  return { cluster: null, advertise: null };
}

/** Its member is removed by the manager, which sees to it that the others are enough. */
async function giveUpMember(ctx: Ctx, { own, running, state }: ClusterActionsDeps): Promise<void> {
  const { entries } = await state.range(withDeadline(ctx, LOOK_MS), keys.peers);
  if (entries.length <= 1)
    throw new AppError(
      'conflict',
      'this is the last host of the cluster: what is recorded would be lost. --force leaves all the same',
    );
  const company = running();
  if (!company || own.membership().advertise === null) return;
  company.leave(true);
  const limited = withDeadline(ctx, LEAVE_MS);
  while (company.local.has !== null) {
    if (limited.signal.aborted) {
      const { doing, problem } = await company.formation.view(ctx);
      throw new AppError(
        'unavailable',
        `the member of etcd on this host could not be given up within ${String(LEAVE_MS / 1000)} s: ` +
          (doing ?? problem ?? 'nobody manages the members'),
      );
    }
    await sleep(POLL_MS, limited.signal);
  }
}

function few(names: readonly string[]): string {
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ', ...' : '');
}
