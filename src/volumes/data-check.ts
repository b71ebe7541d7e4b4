/** Whether the data of volumes that this host keeps is where its records say. */
import type { Targets } from '../dataplane/target.js';
import { AppError } from '../errors.js';
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

function isKeptHere({ records, node }: Deps, { id }: VolumeRecord): boolean {
  return records.target(id)?.node === node;
}
