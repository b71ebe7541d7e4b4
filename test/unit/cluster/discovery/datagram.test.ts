import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  clusterDigest,
  DATAGRAM_BYTES,
  decodeQuery,
  decodeReply,
  encodeQuery,
  encodeReply,
} from '../../../../src/cluster/discovery/datagram.js';
import { isPort, readIp } from '../../../../src/cluster/discovery/address.js';

const nonce = randomBytes(16);
const cluster = clusterDigest('ab:cd');
const query = encodeQuery({ nonce, cluster });
const peer = { host: '10.0.0.1', port: 23_792 };
const reply = encodeReply({ nonce, cluster, peer });

describe('datagrams of the multicast discovery', () => {
  it('are read as they were written', () => {
    expect(decodeQuery(query)).toEqual({ nonce, cluster });
    expect(decodeReply(reply)).toEqual({ nonce, cluster, peer });
    const longest = { host: '1111:2222:3333:4444:5555:6666:7777:8888', port: 65_535 };
    expect(decodeReply(encodeReply({ nonce, cluster, peer: longest }))?.peer).toEqual(longest);
  });

  it('are as long as each other: nobody who forges a sender gains anything', () => {
    expect([query.length, reply.length]).toEqual([DATAGRAM_BYTES, DATAGRAM_BYTES]);
  });

  it('are not taken for the other kind', () => {
    expect(decodeReply(query)).toBeNull();
    expect(decodeQuery(reply)).toBeNull();
  });

  it('tell clusters apart, and nothing of their fingerprints', () => {
    expect(clusterDigest('ab:ce')).not.toEqual(cluster);
    expect(query.includes('ab:cd')).toBe(false);
  });

  it('of another version or length are not read', () => {
    const newer = Buffer.from(query);
    newer.writeUInt8(2, 4);
    expect(decodeQuery(newer)).toBeNull();
    expect(decodeQuery(query.subarray(1))).toBeNull();
    expect(decodeQuery(query.subarray(0, -1))).toBeNull();
    expect(decodeQuery(Buffer.concat([query, Buffer.alloc(1)]))).toBeNull();
  });

  it.each(['0.0.0.0', '239.0.0.1', '::', 'fe80::1%lo', 'evil.example.org', ''])(
    'with what is no address of a host are not read: %s',
    (host) => {
      expect(decodeReply(encodeReply({ nonce, cluster, peer: { host, port: 1 } }))).toBeNull();
    },
  );

  it('with a port or a length that cannot be are not read', () => {
    expect(decodeReply(encodeReply({ nonce, cluster, peer: { ...peer, port: 0 } }))).toBeNull();
    const long = Buffer.from(reply);
    long.writeUInt8(255, 40);
    expect(decodeReply(long)).toBeNull();
  });

  it('of whatever bytes are read or not, and never fail', () => {
    const anyBytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
    const almost = fc
      .tuple(fc.constantFrom(query, reply), fc.array(fc.tuple(fc.nat(95), fc.nat(255)), { maxLength: 12 }))
      .map(([good, changes]) => {
        const bytes = Buffer.from(good);
        for (const [at, value] of changes) bytes.writeUInt8(value, at);
        return bytes;
      });
    fc.assert(
      fc.property(fc.oneof(anyBytes, almost), (bytes) => {
        decodeQuery(bytes);
        const read = decodeReply(bytes);
        if (read === null) return;
        expect(readIp(read.peer.host)).toBe(read.peer.host);
        expect(isPort(read.peer.port)).toBe(true);
      }),
      { numRuns: 5_000 },
    );
  });
});
