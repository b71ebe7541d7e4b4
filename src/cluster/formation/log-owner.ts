/**
 * Whose an etcd log is. The files of etcd's log (server/wal, the same from 3.0 to 3.6) begin with two records: a checksum, then
 * the numbers of member and cluster. A record is the length of its protobuf in eight bytes, the lowest first, of which the
 * highest byte has the count of padding bytes; then the protobuf itself, and the padding.
 */
import { open, readdir } from 'node:fs/promises';
import path from 'node:path';

export interface LogOwner {
  /** As etcd prints them, decimal. */
  readonly member: string;
  readonly clusterId: string;
}

const METADATA = 1n;
const HEAD_BYTES = 4096;

/** Null: there is no log, or none that this reads. etcd itself refuses one that is damaged. */
export async function readLogOwner(dataDirectory: string): Promise<LogOwner | null> {
  const folder = path.join(dataDirectory, 'member', 'wal');
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.wal')).toSorted();
  const [oldest] = names;
  if (oldest === undefined) return null;
  const file = await open(path.join(folder, oldest), 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
    return ownerIn(buffer.subarray(0, bytesRead));
  } finally {
    await file.close();
  }
}

function ownerIn(head: Buffer): LogOwner | null {
  let at = 0;
  while (at + 8 <= head.length) {
    const word = head.readBigUInt64LE(at);
    const length = Number(word & 0xff_ffff_ffff_ffffn);
    const padding = word >> 63n === 1n ? Number((word >> 56n) & 7n) : 0;
    if (length === 0 || at + 8 + length > head.length) return null;
    const record = fieldsOf(head.subarray(at + 8, at + 8 + length));
    const data = record.get(3);
    if (record.get(1) === METADATA && Buffer.isBuffer(data)) {
      const numbers = fieldsOf(data);
      const [member, clusterId] = [numbers.get(1), numbers.get(2)];
      if (typeof member !== 'bigint' || typeof clusterId !== 'bigint') return null;
      return { member: String(member), clusterId: String(clusterId) };
    }
    at += 8 + length + padding;
  }
  return null;
}

/** Of a protobuf of numbers and bytes: its fields by their numbers. */
function fieldsOf(message: Buffer): Map<number, bigint | Buffer> {
  const fields = new Map<number, bigint | Buffer>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; at < message.length; shift += 7n) {
      const byte = BigInt(message[at++] ?? 0);
      value |= (byte & 127n) << shift;
      if (byte < 128n) break;
    }
    return BigInt.asUintN(64, value);
  };
  while (at < message.length) {
    const tag = varint();
    const value = varint();
    const isBytes = (tag & 7n) === 2n;
    if (!isBytes) fields.set(Number(tag >> 3n), value);
    else fields.set(Number(tag >> 3n), message.subarray(at, (at += Number(value))));
  }
  return fields;
}
