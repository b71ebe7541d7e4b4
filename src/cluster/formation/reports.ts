/** What is told of each member, from what was seen of it last. */
import type { Observed } from './observation.js';
import type { MemberView } from './plan.js';
import type { Coming, MemberReport } from './view.js';

export function reportsOf({ members, hosts, statuses, unseen }: Observed): MemberReport[] {
  return members.map((member) => {
    const { id, peerUrl, learner, unreachableMs, leader, lag } = member;
    const status = statuses.get(id);
    return {
      id,
      node: hosts.find((host) => host.peerUrl === peerUrl)?.node ?? null,
      peerUrl,
      role: learner ? ('learner' as const) : ('voter' as const),
      healthy: unreachableMs === 0,
      coming: comingOf(member, unseen.has(id)),
      leader,
      unreachableSeconds: unreachableMs === 0 ? null : Math.floor(unreachableMs / 1000),
      lag,
      dbBytes: status?.dbBytes ?? null,
      version: status?.version ?? '',
    };
  });
}

/** Longer than from one look to the next. */
const SURE_MS = 2500;

/** The first look at a member may come before its start; one look in vain tells nothing. */
function comingOf({ started, unreachableMs }: MemberView, isUnseen: boolean): Coming | null {
  if (unreachableMs === 0 || !isUnseen) return null;
  if (!started) return 'not started';
  return unreachableMs < SURE_MS ? 'unseen' : null;
}
