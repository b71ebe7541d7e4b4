/**
 * What to do next about the members of the plugin's own etcd: one step, from what is wanted and what was just seen.
 *
 * INVARIANTS
 * - One change at a time, each made from a fresh list of a majority. Without a majority nothing is changed: what is
 *   lost for good takes a person (`docker openebs cluster recover`).
 * - A new member is a learner until it has caught up: until then nothing depends on it.
 * - A dead voter is removed before another takes its place: that needs no more votes than there are. Added first,
 *   four would need three votes with two alive. It is removed only when a spare stands by, as its place is of no
 *   use otherwise, and it may come back.
 * - A voter that is well and shall go is replaced first, and then removed; one that leads hands that on before.
 * - The count of voters is odd but for the moment between two steps; two are worse than one.
 * - A host that is away for less than the grace time is no reason for anything.
 * - A member whose data is lost is a dead member at once: its number is never used again.
 * - Nothing is changed while a member is made anew from another image: it does not answer for a moment.
 * Source: etcd's documentation of runtime reconfiguration, and mayAddMember/mayRemoveMember in its server.go.
 */
export interface HostView {
  readonly node: string;
  /** For sentences. */
  readonly name: string;
  readonly peerUrl: string;
  readonly clientUrl: string;
  /** Its plugin gives a sign of life. */
  readonly alive: boolean;
  /** 0 while it is alive. */
  readonly awayMs: number;
  /** The member whose data it has, lost or not. */
  readonly member: string | null;
  readonly lost: boolean;
  /** Drained, or about to leave. */
  readonly unwanted: boolean;
  /** Its last try to become a member has failed just now. */
  readonly resting: boolean;
  /** The member that it was told to run. */
  readonly duty: string | null;
}

export interface MemberView {
  readonly id: string;
  readonly peerUrl: string;
  readonly learner: boolean;
  readonly started: boolean;
  /** 0 while it answers and follows a leader. */
  readonly unreachableMs: number;
  /** Entries behind the leader; null when it did not tell. */
  readonly lag: number | null;
  readonly leader: boolean;
  /** Since it was first seen as a learner. */
  readonly learnerMs: number;
}

export interface Wanted {
  readonly voters: number;
  /** How long a voter must be unreachable before it counts as dead. */
  readonly graceMs: number;
  /** How long a learner may take to start and to catch up. */
  readonly stallMs: number;
}

export interface Situation {
  readonly wanted: Wanted;
  readonly hosts: readonly HostView[];
  readonly members: readonly MemberView[];
  readonly corrupt: boolean;
  /** Host that makes its member anew just now; null: none. */
  readonly renewing: string | null;
}

export type Step =
  | { readonly kind: 'none'; readonly why: string }
  | { readonly kind: 'add'; readonly host: HostView; readonly why: string }
  /** Tells a host of the member that was added for it. */
  | { readonly kind: 'assign'; readonly member: MemberView; readonly host: HostView; readonly why: string }
  | { readonly kind: 'promote'; readonly member: MemberView; readonly why: string }
  | {
      readonly kind: 'remove';
      readonly member: MemberView;
      readonly host: HostView | null;
      readonly why: string;
    }
  | { readonly kind: 'hand over'; readonly from: MemberView; readonly to: MemberView; readonly why: string };

/** An empty reason: all is as wanted. */
const content: Step = { kind: 'none', why: '' };

export function plan(situation: Situation): Step {
  if (situation.corrupt)
    return wait('etcd tells of corrupt data (alarm CORRUPT): nothing is changed until a person has looked');
  if (situation.renewing !== null) return wait(renewing(situation.renewing));
  const seen = look(situation);
  const learner = situation.members.find((member) => member.learner);
  if (learner) return planLearner(situation, seen, learner);
  return planDead(seen) ?? planSize(situation, seen);
}

interface Seen {
  readonly voters: readonly MemberView[];
  /** Dead for good, as far as anybody can tell. */
  readonly dead: readonly MemberView[];
  /** Do not answer just now, dead ones included. */
  readonly ailing: readonly MemberView[];
  /** Those whose host shall not have a member, or is not known at all. */
  readonly going: readonly MemberView[];
  readonly spares: readonly HostView[];
  /** Known hosts without a member that may be back soon. */
  readonly expected: readonly HostView[];
  readonly hostOf: (member: MemberView) => HostView | null;
  readonly nameOf: (member: MemberView) => string;
}

function look({ wanted, hosts, members }: Situation): Seen {
  // One whose address has changed tells etcd of it, and a moment later the others.
  const hostOf = (member: MemberView) =>
    hosts.find(({ peerUrl }) => peerUrl === member.peerUrl) ??
    hosts.find((host) => host.member === member.id) ??
    null;
  const voters = members.filter(({ learner }) => !learner);
  const taken = new Set(members.map(hostOf));
  const free = hosts.filter((host) => !taken.has(host) && !host.unwanted);
  return {
    voters,
    dead: voters.filter((member) => member.unreachableMs >= wanted.graceMs || isLost(hostOf(member), member)),
    ailing: voters.filter((member) => member.unreachableMs > 0 || isLost(hostOf(member), member)),
    going: voters.filter((member) => hostOf(member)?.unwanted ?? true),
    // What a former member left has to be put aside before another can be made there.
    spares: free.filter((host) => host.alive && host.member === null && !host.resting),
    expected: free.filter((host) => (host.alive ? host.resting : host.awayMs < wanted.graceMs)),
    hostOf,
    nameOf: (member) => hostOf(member)?.name ?? member.peerUrl,
  };
}

function isLost(host: HostView | null, member: MemberView): boolean {
  return host?.lost === true && host.member === member.id;
}

function planLearner({ wanted }: Situation, seen: Seen, learner: MemberView): Step {
  const host = seen.hostOf(learner);
  const name = seen.nameOf(learner);
  const drop = (why: string): Step => ({ kind: 'remove', member: learner, host, why });
  if (!host || host.unwanted) return drop(`the new member on ${name} is not wanted there any more`);
  if (isLost(host, learner)) return drop(`the new member on ${name} has lost its data`);
  if (host.duty !== learner.id && !learner.started)
    return { kind: 'assign', member: learner, host, why: `${name} is told to run a member` };
  if (hasCaughtUp(learner))
    return { kind: 'promote', member: learner, why: `the member on ${name} gets its vote` };
  if (learner.learnerMs >= wanted.stallMs)
    return drop(`the new member on ${name} has not caught up within ${seconds(wanted.stallMs)}`);
  return wait(`the new member on ${name} ${learner.started ? 'catches up' : 'starts'}`);
}

export function hasCaughtUp({ started, unreachableMs, lag }: MemberView): boolean {
  return started && unreachableMs === 0 && lag !== null && lag <= NEAR;
}

/** etcd itself promotes a learner that has 90 % of the leader's log; this one is to be nearer. */
const NEAR = 500;

function planDead(seen: Seen): Step | null {
  const { ailing, dead, voters } = seen;
  const [worst] = dead;
  if (!worst) {
    if (ailing.length === 0) return null;
    return wait(
      `${list(ailing.map(seen.nameOf))} ${ailing.length === 1 ? 'does' : 'do'} not answer; given time to come back`,
    );
  }
  const name = seen.nameOf(worst);
  // Its own host may be the spare: with its data lost it gets a new member.
  const stands = seen.spares.length > 0 || seen.hostOf(worst)?.lost === true;
  if (!stands && !seen.going.includes(worst))
    return wait(`the member on ${name} is dead, and no other host can take its place`);
  const alive = voters.length - ailing.length;
  if (alive < Math.floor(voters.length / 2) + 1)
    return wait(`the member on ${name} is dead; too few others answer to remove it`);
  return { kind: 'remove', member: worst, host: seen.hostOf(worst), why: `the member on ${name} is dead` };
}

function planSize({ wanted }: Situation, seen: Seen): Step {
  const { going, spares, voters } = seen;
  const staying = voters.length - going.length;
  const target = oddUpTo(Math.min(wanted.voters, staying + spares.length));
  if (voters.length < target || (going.length > 0 && spares.length > 0 && voters.length === target))
    return addTo(seen, target);
  if (voters.length > target) return shrink(seen, target);
  return content;
}

function addTo({ spares, voters }: Seen, target: number): Step {
  const [host] = spares.toSorted((one, other) => one.node.localeCompare(other.node));
  if (!host) return content;
  return {
    kind: 'add',
    host,
    why: `${host.name} gets a member (${String(voters.length)} of ${String(target)} voters)`,
  };
}

function shrink(seen: Seen, target: number): Step {
  const { expected, going, voters } = seen;
  if (going.length === 0 && expected.length > 0)
    return wait(
      `${String(voters.length)} voters, one too many or too few: ${list(expected.map(({ name }) => name))} may be back soon`,
    );
  const candidates = going.length > 0 ? going : voters;
  const victim = candidates.find(({ leader }) => !leader) ?? candidates[0];
  if (!victim || voters.length <= 1) return content;
  const why = going.includes(victim)
    ? `the member on ${seen.nameOf(victim)} is not wanted there any more`
    : `${String(voters.length)} voters are more than ${String(target)}: the one on ${seen.nameOf(victim)} goes`;
  const heir = victim.leader && voters.find((member) => member !== victim && !going.includes(member));
  if (heir) return { kind: 'hand over', from: victim, to: heir, why };
  return { kind: 'remove', member: victim, host: seen.hostOf(victim), why };
}

function oddUpTo(count: number): number {
  return Math.max(1, count % 2 === 1 ? count : count - 1);
}

export function renewing(name: string): string {
  return `the member on ${name} is made anew from the image of its plugin`;
}

function wait(why: string): Step {
  return { kind: 'none', why };
}

function list(names: readonly string[]): string {
  return names.join(', ');
}

function seconds(ms: number): string {
  return `${String(Math.round(ms / 1000))} s`;
}
