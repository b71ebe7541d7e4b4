/** How etcd is spread over the hosts, for people. */
import type { FormationMessage, MemberMessage } from '../admin/messages.js';
import { size, span, table } from './table.js';

export type NameOf = (id: string) => string;

/** None for a host that is alone: there is nothing to tell yet. */
export function formationRows(
  formation: FormationMessage | undefined,
  nameOf: NameOf,
  now: number,
): [string, string][] {
  if (formation === undefined || formation.role === 'alone') return [];
  const { role, advertise, joinAt, manager, doing, backup } = formation;
  return [
    ['etcd here', `${role}, at ${advertise ?? 'no address'}`],
    ['voters', votersLine(formation)],
    ['managed by', manager === null ? 'nobody now' : nameOf(manager)],
    ['being done', doing ?? 'nothing'],
    ['join at', joinAt ?? 'nowhere'],
    ['backup here', backup === null ? 'none yet' : `${ageOf(backup.createdAt, now)}: ${backup.file}`],
  ];
}

function votersLine({ members, voters }: FormationMessage): string {
  const all = members.filter(({ role }) => role === 'voter');
  if (members.length === 0) return `${String(voters)} wanted; which there are is not known`;
  const healthy = all.filter((member) => member.healthy).length;
  const coming = all.filter((member) => isComing(member)).length;
  const down = all.length - healthy - coming;
  const rest = [
    ...(down === 0 ? [] : [`${String(down)} down`]),
    ...(coming === 0 ? [] : [`${String(coming)} not seen yet`]),
  ];
  return [`${String(healthy)} of ${String(voters)}`, ...rest].join('; ');
}

/** The clock of another day, or a time that is none, is told as it is. */
function ageOf(createdAt: string, now: number): string {
  const seconds = (now - Date.parse(createdAt)) / 1000;
  return seconds >= 0 ? `${span(seconds)} old` : createdAt;
}

/** Empty where there are none to show. */
export function membersTable(formation: FormationMessage | undefined, nameOf: NameOf): string {
  if (formation === undefined || formation.role === 'alone' || formation.members.length === 0) return '';
  const rows = formation.members.map((member) => row(member, nameOf));
  return table(['MEMBER', 'NODE', 'ROLE', 'STATE', 'BEHIND', 'SIZE', 'ETCD'], rows);
}

function row(member: MemberMessage, nameOf: NameOf): readonly string[] {
  const { id, node, role, leader, lag, dbBytes, version } = member;
  return [
    id,
    node === null ? '?' : nameOf(node),
    leader ? `${role}, leader` : role,
    stateOf(member),
    lag === null ? '' : String(lag),
    dbBytes === null ? '' : size(dbBytes),
    version,
  ];
}

/** Neither healthy nor down. */
export function isComing({ coming = null }: MemberMessage): boolean {
  return coming !== null;
}

function stateOf({ healthy, coming, unreachableSeconds }: MemberMessage): string {
  if (healthy) return 'healthy';
  if (coming === 'not started') return 'starting';
  if (coming === 'unseen') return 'not seen yet';
  return unreachableSeconds === null ? 'not healthy' : `down ${span(unreachableSeconds)}`;
}
