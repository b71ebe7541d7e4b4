/**
 * What goes over the wire of the multicast discovery. Both datagrams have the same length, so nobody who forges the
 * sender of a query makes an answer larger than what was sent.
 *
 * | Bytes  | Query                  | Reply                                      |
 * | ------ | ---------------------- | ------------------------------------------ |
 * | 0-3    | `oebs`                 | the same                                   |
 * | 4      | version, 1             | the same                                   |
 * | 5      | 1                      | 2                                          |
 * | 6-21   | nonce                  | the query's                                |
 * | 22-37  | digest of the cluster  | the query's                                |
 * | 38-39  | 0                      | port, the higher byte first                |
 * | 40     | 0                      | length of the address's text               |
 * | 41-95  | 0                      | the address's text, then 0                 |
 *
 * The clear part behind what a version knows is left for later ones, and not looked at.
 */
import { createHash } from 'node:crypto';
import { isPort, readIp } from './address.js';
import type { Address } from './discovery.js';

export const DATAGRAM_BYTES = 96;
export const NONCE_BYTES = 16;
const DIGEST_BYTES = 16;
const MAGIC = Buffer.from('oebs\x01');
const QUERY = 1;
const REPLY = 2;

export interface Query {
  /** Drawn for one search: nobody who does not hear the query can answer it. */
  readonly nonce: Buffer;
  readonly cluster: Buffer;
}

export interface Reply extends Query {
  readonly peer: Address;
}

/** Of the cluster that has this fingerprint, which a network need not read. */
export function clusterDigest(fingerprint: string): Buffer {
  return createHash('sha256').update(`openebs discovery\0${fingerprint}`).digest().subarray(0, DIGEST_BYTES);
}

export function encodeQuery(query: Query): Buffer {
  return header(QUERY, query);
}

/** @param reply its host is an IP address */
export function encodeReply({ peer, ...query }: Reply): Buffer {
  const datagram = header(REPLY, query);
  const text = Buffer.from(peer.host, 'latin1');
  datagram.writeUInt16BE(peer.port, 38);
  datagram.writeUInt8(text.length, 40);
  text.copy(datagram, 41);
  return datagram;
}

/** Null for all that is no query. */
export function decodeQuery(datagram: Buffer): Query | null {
  return parse(QUERY, datagram);
}

/** Null for all that is no reply, or has no address of a host. */
export function decodeReply(datagram: Buffer): Reply | null {
  const query = parse(REPLY, datagram);
  if (query === null) return null;
  const length = datagram.readUInt8(40);
  // One that goes beyond the end gives a text that is longer than any address.
  const host = readIp(datagram.toString('latin1', 41, 41 + length));
  const port = datagram.readUInt16BE(38);
  return host !== null && isPort(port) ? { ...query, peer: { host, port } } : null;
}

function header(type: number, { nonce, cluster }: Query): Buffer {
  const datagram = Buffer.alloc(DATAGRAM_BYTES);
  MAGIC.copy(datagram);
  datagram.writeUInt8(type, 5);
  nonce.copy(datagram, 6);
  cluster.copy(datagram, 22);
  return datagram;
}

function parse(type: number, datagram: Buffer): Query | null {
  const isOurs = datagram.length === DATAGRAM_BYTES && datagram.subarray(0, MAGIC.length).equals(MAGIC);
  if (!isOurs || datagram.readUInt8(5) !== type) return null;
  return { nonce: datagram.subarray(6, 22), cluster: datagram.subarray(22, 38) };
}
