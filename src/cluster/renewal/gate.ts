/**
 * Whether the member on this host may end now, to be made anew from the image of this version of the plugin.
 *
 * INVARIANTS
 * - One member at a time, and never while the members are changed.
 * - Only while all other voters are well and up to date: then they are enough without this one. One that did not come up
 *   from the new image so keeps all others as they are.
 * - One that leads hands that on first.
 * - Where there is no other voter nobody has anything from waiting.
 */
import { hasCaughtUp, type MemberView } from '../formation/plan.js';

export interface GateMember extends MemberView {
  /** For sentences. */
  readonly name: string;
}

export interface GateSituation {
  /** Number of the member here; null: it is not known yet. */
  readonly me: string | null;
  readonly members: readonly GateMember[];
  /** `NOSPACE`, `CORRUPT`. */
  readonly alarms: readonly string[];
  /** What another host does that this would disturb; null: nothing. */
  readonly busy: string | null;
}

export type Gate =
  | { readonly kind: 'wait'; readonly why: string }
  | { readonly kind: 'hand over'; readonly from: GateMember; readonly to: GateMember }
  | { readonly kind: 'renew' };

export function gateOf({ me, members, alarms, busy }: GateSituation): Gate {
  if (alarms.length > 0) return wait(`etcd raises the alarm ${alarms.join(', ')}`);
  if (busy !== null) return wait(busy);
  const mine = members.find(({ id }) => id === me);
  if (!mine) return wait('it is not known yet which member is here');
  const learner = members.find((member) => member.learner);
  if (learner) return wait(`the new member on ${learner.name} has no vote yet`);
  const others = members.filter((member) => member !== mine);
  const ailing = others.filter(({ unreachableMs }) => unreachableMs > 0);
  if (ailing.length > 0) return wait(`all others have to answer, and ${namesOf(ailing)} does not`);
  const behind = others.filter((member) => !hasCaughtUp(member));
  if (behind.length > 0) return wait(`${namesOf(behind)} has to catch up first`);
  const [heir] = others.toSorted((one, other) => (one.lag ?? 0) - (other.lag ?? 0));
  return mine.leader && heir ? { kind: 'hand over', from: mine, to: heir } : { kind: 'renew' };
}

function wait(why: string): Gate {
  return { kind: 'wait', why };
}

function namesOf(members: readonly GateMember[]): string {
  return members.map(({ name }) => name).join(', ');
}
