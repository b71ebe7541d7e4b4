/** A changed NODE_ID: taken over when nothing here depends on the former name, else refused (renamed-service.ts). */
import type { Background } from './background.js';
import type { RoleContainers } from './dataplane/role-container.js';
import type { AppError } from './errors.js';
import { keepNodeIdentity, type LoadedIdentity, type NodeIdentity } from './node-identity.js';
import { refuseRename } from './volumes/renamed-service.js';
import type { VolumeRecords } from './volumes/volume-records.js';

export interface Renaming {
  readonly identity: LoadedIdentity;
  /** Where the identity is kept. */
  readonly file: string;
  readonly records: VolumeRecords;
  readonly roles: Pick<RoleContainers, 'list'>;
}

/** Answers why the new name is refused; keeps it otherwise. */
export async function settleRename({ identity, file, records, roles }: Renaming): Promise<AppError | null> {
  const { former, node } = identity;
  if (former === null) return null;
  const hasDataPlane = async () => (await roles.list()).some((name) => /-(?:target|initiator)-/.test(name));
  const refusal = await refuseRename(records, { former, node, hasDataPlane });
  if (!refusal) await keepNodeIdentity(file, identity);
  return refusal;
}

/** Nothing is healed under a wrong name; health says why. */
export function idleBackground(
  { node, cluster }: NodeIdentity,
  refusal: AppError,
  close: () => Promise<void>,
): Background {
  const health = { node, cluster, healthy: false, problems: { node: refusal.message } };
  const nothing = { contentType: 'text/plain', text: 'openebs_healthy 0\n' };
  return { health: () => health, registry: () => null, metrics: () => Promise.resolve(nothing), close };
}
