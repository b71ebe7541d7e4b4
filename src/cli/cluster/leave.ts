import type { ClusterMessage, LeaveRequest, VolumesMessage } from '../../admin/messages.js';
import type { Run, Surroundings } from '../command.js';
import { count, few, plain } from '../table.js';
import { changeCluster, tellEtcd } from './change.js';
import { showMembership } from './membership.js';

export const leaveCluster: Run = async (call, around) => {
  const before = await around.admin.get<ClusterMessage>('/v1/cluster');
  const isForced = call.has('force');
  await tellWhat(around, before, isForced);
  const body: LeaveRequest = isForced ? { force: true } : {};
  const cluster = await changeCluster(call, around, {
    path: '/v1/cluster/leave',
    body,
    missing: ({ id, formation }) => {
      const isOut =
        id !== null && id !== before.id && (formation === undefined || formation.role === 'alone');
      return isOut ? null : `this host has not left ${before.id ?? 'its cluster'} yet`;
    },
  });
  tellEtcd(around, cluster);
  return showMembership(call, around, cluster);
};

async function tellWhat(
  around: Surroundings,
  { id, node }: ClusterMessage,
  isForced: boolean,
): Promise<void> {
  const shape = { volumes: 'array' } as const;
  const { volumes } = await around.admin.get<VolumesMessage>('/v1/volumes', {}, { shape });
  const here = volumes.filter(({ status }) => status.node === node).map(({ name }) => name);
  around.complain(
    plain(
      `this host leaves the cluster ${id ?? 'that it does not know'} for one of its own; ` +
        `another host takes the place of its member of etcd; ${fateOf(here, isForced)}`,
    ) + '\n',
  );
}

function fateOf(here: readonly string[], isForced: boolean): string {
  if (here.length === 0) return 'no volume has its data here';
  const volumes = `${count(here.length, 'volume')} with data here: ${few(here)}`;
  return isForced ? `the cluster loses ${volumes}` : `${volumes}, which it refuses to lose without --force`;
}
