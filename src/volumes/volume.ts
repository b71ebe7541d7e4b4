/** Pure facts about volumes: ids, names on the wire, first records. */
import { createHash, randomBytes } from 'node:crypto';
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../state/records.js';
import type { VolumeSpec } from './options.js';

const IQN_PREFIX = 'iqn.2016-09.com.openebs';
const ID_CHARACTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';
const ID_LENGTH = 10;
export const VOLUME_ID = /^v[a-z0-9]{9}$/;
/** 24 bytes: far more than CHAP's 16-byte answer can use, and printable it stays below tgt's limit of 255. */
const SECRET_BYTES = 24;

/** Ids, not names, go into IQNs, files and containers: names may be long, upper case and odd. */
export function newVolumeId(): string {
  const characters = Array.from(
    randomBytes(ID_LENGTH),
    (byte) => ID_CHARACTERS[byte % ID_CHARACTERS.length] ?? '',
  );
  return `v${characters.join('').slice(1)}`;
}

export function targetIqn(volumeId: string): string {
  return `${IQN_PREFIX}:${volumeId}`;
}

/** One name per host, so that a target can tell hosts apart. */
export function initiatorIqn(node: string): string {
  return `${IQN_PREFIX}:node-${createHash('sha256').update(node).digest('hex').slice(0, 12)}`;
}

export function newVolumeRecord(name: string, spec: VolumeSpec): VolumeRecord {
  return {
    schema: 1,
    name,
    id: newVolumeId(),
    ...spec,
    status: 'creating',
    formatted: false,
    epoch: 0,
    createdAt: new Date().toISOString(),
  };
}

export interface Placement {
  readonly node: string;
  readonly address: string;
  readonly port: number;
}

export function newTargetRecord(volume: VolumeRecord, { node, address, port }: Placement): TargetRecord {
  return {
    schema: 1,
    volume: volume.name,
    volumeId: volume.id,
    copy: 0,
    node,
    iqn: targetIqn(volume.id),
    address,
    port,
    pool: volume.pool,
  };
}

/** Every attachment has an account of its own: who held an older one cannot log in again. */
export function newAttachmentRecord(volume: VolumeRecord, node: string): AttachmentRecord {
  const epoch = volume.epoch + 1;
  return {
    schema: 1,
    volume: volume.name,
    volumeId: volume.id,
    node,
    epoch,
    initiatorIqn: initiatorIqn(node),
    chapUser: `${volume.id}-${String(epoch)}`,
    chapSecret: randomBytes(SECRET_BYTES).toString('base64url'),
    attachedAt: new Date().toISOString(),
  };
}
