/**
 * A backup of the cluster's state: one gzipped file, readable by people. The first line tells what it is, each other one
 * is an entry. What belongs to a lease is left out: whoever kept it alive writes it again.
 */
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import { z } from 'zod';
import { AppError } from '../../errors.js';
import { keys } from '../../state/keys.js';
import { records } from '../../state/records.js';
import type { Snapshot } from '../../state/state.js';

const head = z.object({
  schema: z.literal(1),
  cluster: z.string().min(1),
  incarnation: z.int().nonnegative(),
  /** RFC 3339. */
  createdAt: z.string(),
  revision: z.int(),
  keys: z.int().nonnegative(),
  /** SHA-256 of the lines that follow, hexadecimal. */
  sum: z.string(),
});
export type BackupHead = z.infer<typeof head>;
const line = z.tuple([z.string().min(1), z.string()]);

export interface Backup {
  readonly head: BackupHead;
  readonly entries: readonly (readonly [key: string, value: string])[];
}

/** @throws AppError `unavailable` for a state that has no record of a cluster: it is none, or has lost its data */
export async function encodeBackup({ entries, revision }: Snapshot, now = new Date()): Promise<Buffer> {
  const record = entries.find(({ key }) => key === keys.cluster);
  if (!record)
    throw new AppError('unavailable', 'what etcd has is no state of a cluster: there is no record of one');
  const { id, incarnation = 0 } = records.cluster.decode(record.key, record.value);
  const kept = entries.filter(({ leaseId }) => leaseId === undefined);
  const lines = kept.map(({ key, value }) => JSON.stringify([key, value])).join('\n');
  const first: BackupHead = {
    schema: 1,
    cluster: id,
    incarnation,
    createdAt: now.toISOString(),
    revision,
    keys: kept.length,
    sum: sumOf(lines),
  };
  return promisify(gzip)(`${JSON.stringify(first)}\n${lines}`);
}

/** @throws AppError `invalid_argument` for a file that is no backup, or not whole */
export async function decodeBackup(file: string, content: Buffer): Promise<Backup> {
  try {
    const text = (await promisify(gunzip)(content)).toString('utf8');
    const end = text.indexOf('\n');
    const first = head.parse(JSON.parse(text.slice(0, end)));
    const lines = text.slice(end + 1);
    if (sumOf(lines) !== first.sum) throw new AppError('invalid_argument', 'its checksum is wrong');
    const entries = lines === '' ? [] : lines.split('\n').map((one) => line.parse(JSON.parse(one)));
    if (entries.length !== first.keys) throw new AppError('invalid_argument', 'entries are missing');
    return { head: first, entries };
  } catch (cause) {
    const why = cause instanceof AppError ? cause.message : 'it cannot be read as one';
    throw new AppError('invalid_argument', `${file} is no whole backup of this plugin: ${why}`, { cause });
  }
}

function sumOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
