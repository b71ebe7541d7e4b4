/** What the records ask of the data plane. */
import type { RoleObservation } from '../dataplane/role-container.js';
import type { InitiatorSpec } from '../dataplane/initiator.js';
import type { TargetSpec } from '../dataplane/target.js';
import { AppError } from '../errors.js';
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../state/records.js';
import type { Wanted } from './plan.js';

export function targetSpec({ volume, target }: Wanted, attachment: AttachmentRecord | null): TargetSpec {
  const { iqn, address, port, pool } = known(target, 'target');
  const { id: volumeId, name, sizeBytes } = volume;
  return { volume: name, volumeId, pool, sizeBytes, iqn, address, port, admit: attachment };
}

export function initiatorSpec({ volume, target, attachment }: Wanted): InitiatorSpec {
  const { iqn, address, port } = known<TargetRecord>(target, 'target');
  return {
    volume: volume.name,
    volumeId: volume.id,
    iqn,
    portal: address.includes(':') ? `[${address}]:${String(port)}` : `${address}:${String(port)}`,
    sizeBytes: volume.sizeBytes,
    account: known(attachment, 'attachment'),
  };
}

/** Of the attachment with whose account an initiator logs in; null when nobody can tell. */
export function epochOf({ settings }: RoleObservation): number | null {
  const used = /-(\d+)$/.exec(settings.get('user') ?? '')?.[1];
  return used === undefined ? null : Number(used);
}

/** Whether what is here logs in with the account of an attachment that another one has followed. */
export function isOfFormerEpoch({ epoch }: VolumeRecord, observed: RoleObservation): boolean {
  const used = epochOf(observed);
  return used !== null && used < epoch;
}

export function known<T>(value: T | null, what: string): T {
  if (value !== null) return value;
  throw new AppError('internal', `a step was planned without its ${what}`);
}
