/** Which host cares for the space of the databases: one in the cluster, also when etcd takes no writes. */
import type { Ctx } from '../../context.js';
import { hasCode } from '../../errors.js';
import type { ManagerLock } from '../formation/manager-lock.js';
import type { Observed } from '../formation/observation.js';

export interface Caretaker {
  readonly observed: Observed;
  /** Number of the member on this host. */
  readonly has: string | null;
}

/** Who holds the lock; who has the leader where a full etcd lets nobody take it. */
export async function isCaretaker(
  ctx: Ctx,
  lock: Pick<ManagerLock, 'hold'>,
  { observed, has }: Caretaker,
): Promise<boolean> {
  try {
    return await lock.hold(ctx);
  } catch (reason) {
    if (!hasCode(reason, 'no_space')) throw reason;
    return has !== null && observed.members.some(({ id, leader }) => leader && id === has);
  }
}
