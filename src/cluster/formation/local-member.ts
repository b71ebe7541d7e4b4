/**
 * This host's part in the cluster's etcd: runs the member that it has, becomes one when it is told to, puts its data
 * aside when it is none any more, and says what it has.
 *
 * INVARIANTS
 * - A member of the list that a majority gave is never put aside, and what is not in that list is never run: a list that
 *   cannot be had decides nothing.
 * - A member is started for the first time only with the number that etcd gave it, kept on disk before the start.
 */
import type { Ctx } from '../../context.js';
import type { HostPaths } from '../../dataplane/host-paths.js';
import { AppError } from '../../errors.js';
import { failPoint } from '../../lib/fail-points.js';
import { keys } from '../../state/keys.js';
import type { Member, MemberList, Members } from '../../state/members.js';
import { type DutyRecord, type PeerRecord, records } from '../../state/records.js';
import type { Entry, State } from '../../state/state.js';
import { refuseTwin } from './copies.js';
import { hasLog, type Incarnation, readIncarnation, refuseData, writeIncarnation } from './incarnation.js';
import { urlOf, urlsOf } from './membership.js';

export interface LocalMemberDeps {
  readonly node: string;
  /** Address of this host for the others. */
  readonly advertise: string;
  readonly port: number;
  readonly paths: HostPaths;
  readonly state: Pick<State, 'get' | 'transact'>;
  readonly members: Members;
  readonly hostname: (ctx: Ctx) => Promise<string>;
  /** Makes the container of this member run. */
  readonly run: (ctx: Ctx, incarnation: Incarnation) => Promise<void>;
  /** Takes the container away and puts its data aside, with nobody making it run meanwhile. */
  readonly retire: (ctx: Ctx) => Promise<void>;
  /** Whether this host is to leave. */
  readonly isLeaving: () => boolean;
}

export interface LocalMember {
  /** What this host had before this process began, until the list of the members tells. Before anything else. */
  recall(): Promise<void>;
  /** Makes what this host has true to the list of the members. */
  follow(ctx: Ctx, list: MemberList): Promise<void>;
  /** The list is of the cluster's next etcd: a member of the former one ends. */
  yield(ctx: Ctx, list: MemberList): Promise<void>;
  /** Number of the member whose data is here. */
  readonly has: string | null;
  readonly lost: boolean;
}

export function createLocalMember(deps: LocalMemberDeps): LocalMember {
  return new FollowingMember(deps);
}

class FollowingMember implements LocalMember {
  readonly #deps: LocalMemberDeps;
  #has: string | null = null;
  #lost = false;

  constructor(deps: LocalMemberDeps) {
    this.#deps = deps;
  }

  get has(): string | null {
    return this.#has;
  }

  get lost(): boolean {
    return this.#lost;
  }

  async recall(): Promise<void> {
    this.#has = (await readIncarnation(this.#deps.paths))?.member ?? null;
  }

  async follow(ctx: Ctx, list: MemberList): Promise<void> {
    const { paths } = this.#deps;
    let mine = await readIncarnation(paths);
    mine = mine && (await this.#name(ctx, mine));
    if (mine && !isMember(list, mine)) {
      await this.#end(ctx, mine);
      mine = null;
    }
    if (mine) await this.#move(ctx, list, mine);
    else mine = await this.#takeDuty(ctx, list);
    this.#has = mine?.member ?? this.#has;
    if (mine) this.#lost = mine.formed && !(await hasLog(paths));
    await this.#tell(ctx);
  }

  async yield(ctx: Ctx, { clusterId }: MemberList): Promise<void> {
    const mine = await readIncarnation(this.#deps.paths);
    if (mine && mine.clusterId !== clusterId) await this.#end(ctx, mine);
  }

  /** One that was formed before it had to know its number asks the member itself. */
  async #name(ctx: Ctx, mine: Incarnation): Promise<Incarnation> {
    if (mine.member !== undefined || !mine.formed) return mine;
    const { members, paths, port } = this.#deps;
    const { id, clusterId } = await members.status(ctx, urlOf('127.0.0.1', port));
    const named = { ...mine, member: id, clusterId };
    await writeIncarnation(paths, named);
    return named;
  }

  /** Its number is gone from the list for ever: etcd never lets it in again. */
  async #end(ctx: Ctx, { member }: Incarnation): Promise<void> {
    ctx.log.warn({ member }, 'this host is no member of etcd any more: its data is put aside');
    await this.#deps.retire(ctx);
    this.#has = null;
    this.#lost = false;
  }

  /** The address of this host has changed. */
  async #move(ctx: Ctx, { members }: MemberList, mine: Incarnation): Promise<void> {
    const { clientUrl, peerUrl } = urlsOf(this.#deps.advertise, this.#deps.port);
    const found = members.find(({ id }) => id === mine.member);
    if (!found || found.peerUrls.includes(peerUrl)) return;
    // The member that runs here has told its own client URL already.
    await refuseTwin(ctx, this.#deps, { member: found.id, own: clientUrl, known: found.clientUrls });
    await this.#deps.members.move(ctx, found.id, peerUrl);
    ctx.log.info({ from: found.peerUrls, to: peerUrl }, 'the other members are told of the new address');
  }

  async #takeDuty(ctx: Ctx, list: MemberList): Promise<Incarnation | null> {
    const { node, paths, run, state } = this.#deps;
    this.#has = null;
    this.#lost = false;
    const duty = dutyOf(await state.get(ctx, keys.duty(node)));
    if (duty?.clusterId !== list.clusterId) return null;
    const found = list.members.find(({ id }) => id === duty.member);
    if (found === undefined) return null;
    if (wasStarted(found)) {
      // It was here, and nothing is left of it: another of the same number would have another past.
      this.#has = duty.member;
      this.#lost = true;
      return null;
    }
    await refuseData(paths);
    const { member, name, initialCluster, clusterId } = duty;
    const mine: Incarnation = {
      token: `openebs-${clusterId}`,
      formed: false,
      name,
      initialCluster,
      member,
      clusterId,
    };
    await failPoint('before member join');
    await writeIncarnation(paths, mine);
    await failPoint('after member join');
    ctx.log.info({ member, initialCluster }, 'this host becomes a member of etcd');
    await run(ctx, mine);
    return mine;
  }

  async #tell(ctx: Ctx): Promise<void> {
    const { advertise, hostname, isLeaving, node, port, state } = this.#deps;
    const key = keys.peer(node);
    const entry = await state.get(ctx, key);
    const before = entry && decoded(() => records.peer.decode(entry.key, entry.value));
    const now: PeerRecord = {
      ...before,
      schema: 1,
      node,
      hostname: await hostname(ctx),
      ...urlsOf(advertise, port),
      member: this.#has,
      lost: this.#lost,
      leaving: isLeaving(),
    };
    if (before && isSame(before, now)) return;
    const same = entry ? { key, modRevision: entry.modRevision } : ({ key, absent: true } as const);
    await state.transact(ctx, { if: [same], then: [{ put: key, value: records.peer.encode(now) }] });
  }
}

function isMember({ clusterId, members }: MemberList, mine: Incarnation): boolean {
  // Whose number is not known yet, or who was asked of another etcd, is not judged.
  if (mine.member === undefined || (mine.clusterId !== undefined && mine.clusterId !== clusterId))
    return true;
  return members.some(({ id }) => id === mine.member);
}

function wasStarted({ name }: Member): boolean {
  return name !== '';
}

function dutyOf(entry: Entry | null): DutyRecord | null {
  return entry && records.duty.decode(entry.key, entry.value);
}

/** A damaged one is written anew. */
function decoded<T>(read: () => T): T | null {
  try {
    return read();
  } catch (reason) {
    if (AppError.from(reason).code === 'conflict') throw reason;
    return null;
  }
}

const told = ['hostname', 'peerUrl', 'clientUrl', 'member', 'lost', 'leaving'] as const;

function isSame(one: PeerRecord, other: PeerRecord): boolean {
  return told.every((field) => one[field] === other[field]);
}
