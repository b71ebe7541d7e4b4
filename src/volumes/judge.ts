/** What is observed of a volume on this host, in the terms of its plan. */
import type { MountObservation } from '../dataplane/file-system.js';
import type { TargetObservation } from '../dataplane/target.js';
import type { VolumeRecord } from '../state/records.js';
import type { Observed } from './plan.js';

/** A file that was begun and not brought to its size (the plugin was killed in between) is made anew. */
export function isThere(volume: VolumeRecord, { backingBytes }: TargetObservation): boolean {
  return volume.status === 'creating' ? backingBytes === volume.sizeBytes : backingBytes !== null;
}

/**
 * A mount that was cut off before its directory was made is made anew; nobody can have been given it. A device
 * that is not known now may come back: what is mounted on it stays until it is known to be another. That a dead
 * device's file system went read-only says nothing of the next device.
 */
export function judgeMount(
  mount: MountObservation,
  device: string | null,
  volume: VolumeRecord,
): Observed['mount'] {
  return {
    current: mount.prepared && (device === null || mount.device === device),
    readOnly: mount.readOnly && mount.device === device && !volume.mountOptions.includes('ro'),
  };
}
