/**
 * What to do next about the space of the members' databases: one step, from what was just seen.
 *
 * INVARIANTS
 * - One member at a time is defragmented, the leader last: it answers nothing meanwhile.
 * - Only while all voters are well. One that counts as dead does not stand in the way once etcd takes no writes: then nobody
 *   could remove it either.
 * - NOSPACE is disarmed only when each database is below the limit again; otherwise the next write would arm it anew.
 * - Nothing is done about an etcd with corrupt data.
 * etcd compares the size of the file with its quota, not what is in use of it. Source: its package etcdserver, quota.go.
 */
export interface CareMember {
  readonly id: string;
  /** For sentences. */
  readonly name: string;
  readonly clientUrl: string;
  readonly learner: boolean;
  readonly leader: boolean;
  /** 0 while it answers and follows a leader. */
  readonly unreachableMs: number;
  /** Null when it did not tell. */
  readonly size: DatabaseSize | null;
}

export interface DatabaseSize {
  readonly bytes: number;
  readonly inUse: number;
}

export interface CareSituation {
  readonly members: readonly CareMember[];
  readonly corrupt: boolean;
  readonly noSpace: boolean;
  readonly quotaBytes: number;
  /** How long a voter must be unreachable before it counts as dead. */
  readonly graceMs: number;
  readonly past: CarePast;
}

/** What who cares has done; Infinity: never. */
export interface CarePast {
  /** Since the last compaction. */
  readonly compactedMs: number;
  /** Since the last try to defragment it. */
  defragmentedMs(id: string): number;
  /** Since it began to care, without a break. */
  readonly caringMs: number;
}

export type CareStep =
  /** An empty reason: all is well. */
  | { readonly kind: 'none'; readonly why: string }
  | { readonly kind: 'disarm'; readonly why: string }
  | { readonly kind: 'compact' | 'defragment'; readonly member: CareMember; readonly why: string }
  | {
      readonly kind: 'hand over';
      readonly from: CareMember;
      readonly to: CareMember;
      readonly why: string;
    }
  /** No care makes room: the data itself is too much. */
  | { readonly kind: 'full'; readonly why: string };

/** Of the quota: with less free than that it would be full again within a moment. */
const ROOM = 0.9;
const COMPACT_AGAIN_MS = 60_000;
/** While it stays full; what is deleted meanwhile is room only after that. */
const FULL_AGAIN_MS = 60 * 60_000;
const ROOM_AGAIN_MS = 5 * 60_000;
const ROUTINE_AGAIN_MS = 60 * 60_000;
const ROUTINE_LEAST_BYTES = 100 * 2 ** 20;
/** Longer than a defragmentation may take which another has begun that cared before. */
const ROUTINE_AFTER_MS = 5 * 60_000;
const nothing: CareStep = { kind: 'none', why: '' };

export function planCare(situation: CareSituation): CareStep {
  if (situation.corrupt) return nothing;
  return situation.noSpace ? makeRoom(situation) : keepSmall(situation);
}

function makeRoom({ members, quotaBytes, graceMs, past }: CareSituation): CareStep {
  const why = 'etcd has used up its space';
  const voters = members.filter(({ learner }) => !learner);
  const asked = voters.find(({ leader }) => leader);
  if (!asked) return wait(`${why}: waits for a leader before room is made`);
  if (past.compactedMs >= COMPACT_AGAIN_MS)
    return { kind: 'compact', member: asked, why: `${why}: what was overwritten and deleted goes` };
  const expected = voters.filter(({ unreachableMs }) => unreachableMs > 0 && unreachableMs < graceMs);
  if (expected.length > 0)
    return wait(`${why}: waits for ${namesOf(expected)} to answer before room is made`);
  const limit = quotaBytes * ROOM;
  const swollen = leaderLast(voters).filter(({ size }) => size !== null && size.bytes > limit);
  const next = swollen.find(({ id, size }) => {
    const again = size !== null && size.inUse <= limit ? ROOM_AGAIN_MS : FULL_AGAIN_MS;
    return past.defragmentedMs(id) >= again;
  });
  if (next)
    return {
      kind: 'defragment',
      member: next,
      why: `${why}: the member on ${next.name} gives free what it can`,
    };
  const [worst] = swollen;
  if (!worst) return { kind: 'disarm', why: `${why}: there is room again, it takes writes again` };
  return {
    kind: 'full',
    why: `${why}, and ${mebibytes(worst.size?.inUse ?? 0)} of ${mebibytes(quotaBytes)} are data`,
  };
}

function keepSmall({ members, past }: CareSituation): CareStep {
  const isSteady = members.every(
    ({ learner, size, unreachableMs }) => !learner && size !== null && unreachableMs === 0,
  );
  if (!isSteady || past.caringMs < ROUTINE_AFTER_MS) return nothing;
  const next = leaderLast(members).find(
    ({ id, size }) => size !== null && isWasteful(size) && past.defragmentedMs(id) >= ROUTINE_AGAIN_MS,
  );
  if (!next) return nothing;
  const why = `the database of the member on ${next.name} has become larger than it need be`;
  const heir = members.find(({ id }) => id !== next.id);
  // Writes go on while a follower is away.
  return next.leader && heir
    ? { kind: 'hand over', from: next, to: heir, why }
    : { kind: 'defragment', member: next, why };
}

function isWasteful({ bytes, inUse }: DatabaseSize): boolean {
  return bytes > ROUTINE_LEAST_BYTES && bytes > 2 * inUse;
}

function leaderLast(members: readonly CareMember[]): CareMember[] {
  return members.toSorted((one, other) => Number(one.leader) - Number(other.leader));
}

function wait(why: string): CareStep {
  return { kind: 'none', why };
}

function namesOf(members: readonly CareMember[]): string {
  return members.map(({ name }) => name).join(', ');
}

function mebibytes(bytes: number): string {
  return `${String(Math.ceil(bytes / 2 ** 20))} MiB`;
}
