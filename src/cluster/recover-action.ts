/** Decides on a new etcd for the cluster: only a person may, and only where there is something to form it from. */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import { AppError } from '../errors.js';
import type { Changing } from './actions.js';
import { BACKUP_SUFFIX, readBackup } from './backup/backups.js';
import { hasLog } from './formation/incarnation.js';
import { decideTransition } from './formation/transition.js';
import type { OwnCluster } from './own-cluster.js';

export interface RecoverActionDeps {
  readonly own: OwnCluster;
  readonly paths: HostPaths;
  readonly clusterId: () => string | null;
  readonly restart: (why: string) => void;
}

export interface RecoveryWish {
  /** Path of a backup on this host; without it what this host's member has. */
  readonly backup?: string | undefined;
  /** The cluster's id. */
  readonly confirm: string;
}

const LOOK_MS = 5000;

export async function decideRecovery(
  ctx: Ctx,
  { own, paths, clusterId, restart }: RecoverActionDeps,
  { backup, confirm }: RecoveryWish,
): Promise<Changing> {
  const cluster = backup === undefined ? clusterId() : (await readBackup(paths, backup)).head.cluster;
  if (cluster === null)
    throw new AppError(
      'not_found',
      'this host has never seen the record of its cluster: recover on another, or from a backup',
    );
  if (confirm !== cluster)
    throw new AppError(
      'invalid_argument',
      `this would form etcd anew for cluster ${cluster}: confirm it with this ID`,
    );
  if (backup !== undefined) await refuseBeside(ctx, own, paths);
  else {
    if (!(await hasLog(paths)))
      throw new AppError(
        'not_found',
        `${paths.etcdData} has no data of a member: recover on a host that has, or from a backup`,
      );
    const answers = await own.members.list(withDeadline(ctx, LOOK_MS)).then(
      ({ members }) => members.length > 1,
      () => false,
    );
    if (answers)
      throw new AppError(
        'conflict',
        'etcd has its majority: there is nothing to recover. To go back in time, name a backup',
      );
  }
  const change = `${new Date().toISOString().replace(/[:.]/g, '-')}-rescue${BACKUP_SUFFIX}`;
  await decideTransition(paths, { kind: 'recover', cluster, backup: backup ?? null, rescue: change });
  restart('etcd is formed anew');
  return { cluster, advertise: own.membership().advertise, change };
}

/**
 * The members learn of the new etcd where one of them was. Formed beside them, on a host without a member, they would go on as
 * they are, and there were two of this cluster.
 */
async function refuseBeside(ctx: Ctx, own: OwnCluster, paths: HostPaths): Promise<void> {
  if (own.membership().advertise === null || (await hasLog(paths))) return;
  const list = await own.members.list(withDeadline(ctx, LOOK_MS)).catch(() => null);
  if (list === null) return;
  const where = list.members.flatMap(({ clientUrls }) => clientUrls).map((url) => new URL(url).hostname);
  throw new AppError(
    'conflict',
    `etcd has its majority, and this host has no member of it: restore on one that has (${where.join(', ')})`,
  );
}
