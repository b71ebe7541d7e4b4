/**
 * The file that state is kept in: frames, one behind the other, each flushed before the next is begun.
 *
 *   magic (4) | length of the payload (4) | chain (4) | checksum of these twelve bytes (4) | payload
 *
 * The chain is the checksum of the payload, begun with the chain before it. So a frame that is followed by another one was
 * flushed, and may have been acknowledged: it is whole, or the file is damaged. The last one may be torn, as what was
 * being written when the power went, and is then cut off: nobody has been told of it. Torn is what ends too early, and what
 * has a whole sector of zeros, where the length of the file was on disk before the content; anything else is damage.
 */
import { crc32 } from 'node:zlib';

const MAGIC = 0x4f42_5331;
const HEADER_BYTES = 16;
const SECTOR_BYTES = 512;

export function frameOf(
  payload: Buffer,
  chainBefore: number,
): { readonly frame: Buffer; readonly chain: number } {
  const chain = crc32(payload, chainBefore);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(MAGIC, 0);
  header.writeUInt32BE(payload.length, 4);
  header.writeUInt32BE(chain, 8);
  header.writeUInt32BE(crc32(header.subarray(0, 12)), 12);
  return { frame: Buffer.concat([header, payload]), chain };
}

export interface Frames {
  readonly payloads: readonly Buffer[];
  /** Where the next frame belongs; what is behind it is torn. */
  readonly end: number;
  readonly chain: number;
  /** Where the file is damaged; null: nowhere. */
  readonly damagedAt: number | null;
}

export function readFrames(file: Buffer): Frames {
  const payloads: Buffer[] = [];
  let [end, chain] = [0, 0];
  while (end < file.length) {
    const header = headerAt(file, end);
    const next = header === null ? Infinity : end + HEADER_BYTES + header.length;
    const payload = file.subarray(end + HEADER_BYTES, Math.min(next, file.length));
    if (header === null || next > file.length || crc32(payload, chain) !== header.chain) {
      const isLast = header === null ? !hasHeaderAfter(file, end) : next >= file.length;
      const isTorn = isLast && (endsTooEarly(file, end, next) || hasZeroSector(file, end));
      return { payloads, end, chain, damagedAt: isTorn ? null : end };
    }
    payloads.push(payload);
    [end, chain] = [next, header.chain];
  }
  return { payloads, end, chain, damagedAt: null };
}

function headerAt(file: Buffer, at: number): { readonly length: number; readonly chain: number } | null {
  if (file.length - at < HEADER_BYTES || file.readUInt32BE(at) !== MAGIC) return null;
  if (crc32(file.subarray(at, at + 12)) !== file.readUInt32BE(at + 12)) return null;
  return { length: file.readUInt32BE(at + 4), chain: file.readUInt32BE(at + 8) };
}

/** By a header that is whole, or by less than a header. */
function endsTooEarly(file: Buffer, at: number, next: number): boolean {
  return (next !== Infinity && next > file.length) || file.length - at < HEADER_BYTES;
}

function hasHeaderAfter(file: Buffer, at: number): boolean {
  const magic = Buffer.alloc(4);
  magic.writeUInt32BE(MAGIC);
  for (let found = file.indexOf(magic, at + 1); found >= 0; found = file.indexOf(magic, found + 1)) {
    if (headerAt(file, found) !== null) return true;
  }
  return false;
}

/** In a frame there is none: its header is shorter than a sector, and text has no zeros. */
function hasZeroSector(file: Buffer, at: number): boolean {
  for (let from = at; from < file.length;) {
    const to = Math.min(from - (from % SECTOR_BYTES) + SECTOR_BYTES, file.length);
    if (file.subarray(from, to).every((byte) => byte === 0)) return true;
    from = to;
  }
  return false;
}
