import { formatSize } from '../lib/size.js';
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../state/records.js';
import type { UnreadableVolume } from './volume-entries.js';
import type { VolumeView } from './volume-service.js';

export interface VolumeSituation {
  readonly volume: VolumeRecord;
  readonly target: TargetRecord | null;
  readonly attachment: AttachmentRecord | null;
  /** Mounts on this host. */
  readonly mounts: number;
  readonly mountpoint: string;
  /** This host. */
  readonly node: string;
  /** Why its last convergence failed. */
  readonly problem: string | null;
  /** What was brought back last; empty when nothing was. */
  readonly repaired: string;
}

/** Docker forgets what a driver does not show: a volume whose record cannot be read is shown, with the reason. */
export function viewUnreadable({ name, createdAt, reason }: UnreadableVolume): VolumeView {
  return { name, mountpoint: '', createdAt, status: { state: 'unreadable', error: reason } };
}

/** What `docker volume inspect` shows; no secrets. */
export function viewVolume({ volume, target, attachment, mounts, ...rest }: VolumeSituation): VolumeView {
  return {
    name: volume.name,
    mountpoint: mounts > 0 ? rest.mountpoint : '',
    createdAt: volume.createdAt,
    status: {
      id: volume.id,
      state: volume.status,
      size: formatSize(volume.sizeBytes),
      sizeBytes: volume.sizeBytes,
      fs: volume.fs,
      pool: volume.pool,
      node: target?.node ?? '',
      target: target ? `${target.address}:${String(target.port)}` : '',
      iqn: target?.iqn ?? '',
      attachedTo: attachment?.node ?? '',
      mountsHere: mounts,
      error: rest.problem ?? '',
      repaired: rest.repaired,
    },
  };
}
