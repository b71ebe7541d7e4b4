/** What a host is in its cluster, when a command has changed that. */
import type { ClusterMessage, MemberRole } from '../../admin/messages.js';
import type { Call, Surroundings } from '../command.js';
import { exitCodes, type ExitCode } from '../failure.js';
import { json, plain } from '../table.js';

export const roles: Readonly<Record<MemberRole, string>> = {
  alone: 'alone: others cannot join it before docker openebs cluster init',
  voter: 'voter: it runs a member of etcd',
  learner: 'learner: it runs a member of etcd that takes over the data, and votes when it has them',
  spare: 'spare: it runs no member of etcd, and gets one when another host fails',
  lost: 'lost: the data of its member of etcd are gone',
};

export function showMembership(
  call: Call,
  around: Surroundings,
  { id, node, formation }: ClusterMessage,
): ExitCode {
  const { role = null, advertise = null } = formation ?? {};
  if (call.json) around.print(json({ cluster: id, node, advertise, role }));
  else around.print(`${plain(`node ${node} is in cluster ${id ?? 'of its own'}`)}; ${roleText(role)}\n`);
  return exitCodes.ok;
}

/** A plugin may be newer than this program. */
function roleText(role: MemberRole | null): string {
  if (role === null) return 'its role is not known';
  return Object.hasOwn(roles, role) ? roles[role] : plain(role);
}
