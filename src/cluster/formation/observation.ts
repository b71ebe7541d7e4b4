/** What is seen of the members and the hosts, with the times since when: the plan's input. Times are of this process' clock. */
import type { Ctx } from '../../context.js';
import { keys } from '../../state/keys.js';
import type { Member, MemberCare, MemberList, Members, MemberStatus } from '../../state/members.js';
import { records, type Codec, type NodeSettingsRecord, type PeerRecord } from '../../state/records.js';
import type { Entry, State } from '../../state/state.js';
import { isLoopback } from './membership.js';
import type { HostView, MemberView } from './plan.js';

export interface Observed {
  readonly list: MemberList;
  readonly members: readonly MemberView[];
  readonly hosts: readonly HostView[];
  readonly statuses: ReadonlyMap<string, MemberStatus>;
  /** Members that this process has never seen well. */
  readonly unseen: ReadonlySet<string>;
  /** Where another etcd answers than the one of the list. */
  readonly strangers: readonly string[];
  readonly corrupt: boolean;
  readonly alarms: readonly string[];
  readonly voters: number;
  /** Host that makes its member anew just now; null: none. */
  readonly renewing: string | null;
}

export interface ObservationDeps {
  readonly state: Pick<State, 'get' | 'range'>;
  readonly members: Members & MemberCare;
  /** 0 while the node is alive. */
  readonly awayMs: (node: string) => number;
  readonly now?: () => number;
}

/** How many voters there shall be where nobody has said it. */
export const DEFAULT_VOTERS = 3;
/** A host whose member did not come up is left alone for so long. */
const REST_MS = 60_000;

export class Observation {
  readonly #deps: ObservationDeps;
  readonly #now: () => number;
  readonly #unreachableSince = new Map<string, number>();
  readonly #seen = new Set<string>();
  readonly #learnerSince = new Map<string, number>();
  readonly #restingUntil = new Map<string, number>();

  constructor(deps: ObservationDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
  }

  /** Its member was given up. */
  rest(node: string): void {
    this.#restingUntil.set(node, this.#now() + REST_MS);
  }

  async look(ctx: Ctx, list: MemberList): Promise<Observed> {
    const { state } = this.#deps;
    const [{ statuses, strangers }, peers, duties, settings, formation, renewal, alarms] = await Promise.all([
      this.#ask(ctx, list),
      state.range(ctx, keys.peers),
      state.range(ctx, keys.duties),
      state.range(ctx, keys.allNodeSettings),
      state.get(ctx, keys.formation),
      state.get(ctx, keys.renewal),
      this.#deps.members.alarms(ctx),
    ]);
    const wanted = formation && read(records.formation, formation);
    const members = this.#judge(list, statuses);
    return {
      list,
      statuses,
      strangers,
      members,
      unseen: new Set(members.map(({ id }) => id).filter((id) => !this.#seen.has(id))),
      hosts: this.#hosts(peers.entries, duties.entries, settings.entries),
      corrupt: alarms.some(({ kind }) => kind === 'CORRUPT'),
      alarms: [...new Set(alarms.map(({ kind }) => kind))],
      voters: wanted?.voters ?? DEFAULT_VOTERS,
      renewing: (renewal && read(records.renewal, renewal)?.hostname) ?? null,
    };
  }

  async #ask(
    ctx: Ctx,
    { clusterId, members }: MemberList,
  ): Promise<Pick<Observed, 'statuses' | 'strangers'>> {
    const statuses = new Map<string, MemberStatus>();
    const strangers: string[] = [];
    await Promise.all(
      members.map(async ({ id, clientUrls: [url] }) => {
        if (url === undefined) return;
        const status = await this.#deps.members.status(ctx, url).catch(() => null);
        // Another may answer at an address that was given anew.
        if (status?.id === id) statuses.set(id, status);
        else if (status && status.clusterId !== clusterId) strangers.push(url);
      }),
    );
    return { statuses, strangers };
  }

  #judge({ members }: MemberList, statuses: ReadonlyMap<string, MemberStatus>): MemberView[] {
    const now = this.#now();
    const leader = [...statuses.values()].find(({ id, leader: followed }) => id === followed);
    for (const known of [this.#unreachableSince, this.#learnerSince, this.#seen])
      for (const id of known.keys()) if (!members.some((member) => member.id === id)) known.delete(id);
    return members.map((member) => {
      const status = statuses.get(member.id);
      const isWell = status !== undefined && status.leader !== null;
      if (isWell) this.#seen.add(member.id);
      const since = note(this.#unreachableSince, member.id, !isWell && now);
      const learner = note(this.#learnerSince, member.id, member.learner && now);
      return {
        ...viewOf(member, status, leader),
        // At least one, as it counts from the first look that failed.
        unreachableMs: since === null ? 0 : Math.max(1, now - since),
        learnerMs: learner === null ? 0 : now - learner,
      };
    });
  }

  #hosts(peers: readonly Entry[], duties: readonly Entry[], settings: readonly Entry[]): HostView[] {
    const now = this.#now();
    const dutyOf = byNode(duties, keys.duties, records.duty);
    const settingsOf = byNode(settings, keys.allNodeSettings, records.nodeSettings);
    return [...byNode(peers, keys.peers, records.peer)].map(([node, peer]) => {
      const awayMs = this.#deps.awayMs(node);
      return {
        ...hostOf(node, peer, settingsOf.get(node)),
        alive: awayMs === 0,
        awayMs,
        resting: (this.#restingUntil.get(node) ?? 0) > now,
        duty: dutyOf.get(node)?.member ?? null,
      };
    });
  }
}

function viewOf(member: Member, status: MemberStatus | undefined, leader: MemberStatus | undefined) {
  return {
    id: member.id,
    peerUrl: member.peerUrls[0] ?? '',
    learner: member.learner,
    started: member.name !== '',
    lag: status && leader ? Math.max(0, leader.appliedIndex - status.appliedIndex) : null,
    leader: status !== undefined && status.id === leader?.id,
  };
}

function hostOf(node: string, peer: PeerRecord, settings: NodeSettingsRecord | undefined) {
  return {
    node,
    name: peer.hostname === '' ? node : peer.hostname,
    peerUrl: peer.peerUrl,
    clientUrl: peer.clientUrl,
    member: peer.member,
    lost: peer.lost,
    unwanted: peer.leaving || settings?.drained === true,
  };
}

/** Since when it is so; null: it is not. */
function note(map: Map<string, number>, id: string, now: number | false): number | null {
  if (now === false) {
    map.delete(id);
    return null;
  }
  const since = map.get(id) ?? now;
  map.set(id, since);
  return since;
}

/** What cannot be read is as if it were not there: one damaged record hides no other. */
function byNode<T>(entries: readonly Entry[], prefix: string, codec: Codec<T>): Map<string, T> {
  const found = new Map<string, T>();
  for (const entry of entries) {
    const record = read(codec, entry);
    if (record !== null) found.set(entry.key.slice(prefix.length), record);
  }
  return found;
}

function read<T>(codec: Codec<T>, { key, value }: Entry): T | null {
  try {
    return codec.decode(key, value);
  } catch {
    return null;
  }
}

/**
 * Where clients go: the members that have a vote and were started. Null: the list names none that other hosts reach, as
 * right after the first start on an address of the network.
 */
export function endpointsOf({ members }: MemberList): readonly string[] | null {
  const urls = members
    .filter((member: Member) => !member.learner && member.name !== '')
    .flatMap(({ clientUrls }) => clientUrls)
    .filter((url) => !isLoopback(url));
  return urls.length === 0 ? null : urls.toSorted();
}
