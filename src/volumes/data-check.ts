/** Whether the data of volumes that this host keeps is where its records say. */
import type { Ctx } from '../context.js';
import type { Targets } from '../dataplane/target.js';
import { AppError, hasCode } from '../errors.js';
import type { VolumeRecord } from '../state/records.js';
import type { VolumeRecords } from './volume-records.js';

interface Deps {
  readonly node: string;
  readonly records: VolumeRecords;
  readonly targets: Targets;
}

/** A record that is removed while the disk with its data is not mounted would leave data that nobody knows. */
export async function checkRemovable(deps: Deps, volume: VolumeRecord): Promise<void> {
  if (volume.status === 'ready' && isKeptHere(deps, volume)) await deps.targets.checkPoolHolds(volume.pool);
}

/**
 * Whoever asked for the removal may be another host, and the disk of the pool not mounted here yet: data that is not found
 * is gone only where other data is. Noted before it goes: a crash after it leaves an empty pool as well.
 */
export async function deleteData(ctx: Ctx, { records, targets }: Deps, volume: VolumeRecord): Promise<void> {
  if (volume.neverReady !== true) {
    await targets.checkPoolHolds(volume.pool);
    await records.change(ctx, volume, (now) => ({ ...now, neverReady: true }));
  }
  await targets.deleteBacking(volume.pool, volume.id);
}

/**
 * A thin volume in a full pool works until it wants a new block, and one whose file was taken away for as long as
 * its target runs: that is told before, and while it lasts.
 */
export async function findDataProblem(deps: Deps, volume: VolumeRecord): Promise<string | null> {
  if (!isKeptHere(deps, volume)) return null;
  const { id, pool, sizeBytes, status } = volume;
  try {
    if (status === 'ready') await deps.targets.checkBacking({ pool, volumeId: id, sizeBytes });
    await deps.targets.checkPool(pool);
    return null;
  } catch (reason) {
    return `${AppError.from(reason).message}; until then writes to this volume may fail`;
  }
}

/** Why no file system could be made: in a full pool mkfs knows of an I/O error alone. */
export async function namingPool(deps: Deps, volume: VolumeRecord, reason: unknown): Promise<never> {
  const { name, pool } = volume;
  if (!hasCode(reason, 'internal') || !isKeptHere(deps, volume)) throw reason;
  await deps.targets.checkPool(pool).catch((problem: unknown) => {
    const { code, message } = AppError.from(problem);
    const text = `no file system could be made on volume ${name}: ${message} (${AppError.from(reason).message})`;
    throw new AppError(code, text, { cause: reason });
  });
  throw reason;
}

function isKeptHere({ records, node }: Deps, { id }: VolumeRecord): boolean {
  return records.target(id)?.node === node;
}
