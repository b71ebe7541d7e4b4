/** A name server on loopback, in DNS's own wire format (RFC 1035), over UDP and, for what is too long for that, TCP. */
import { createSocket } from 'node:dgram';
import type { SrvRecord } from 'node:dns';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

export interface DnsServer {
  readonly address: string;
  /** By name, in lower case. A name without an entry does not exist; one with null has other records alone. */
  readonly records: Map<string, readonly SrvRecord[] | null>;
  /** garbage: bytes that are no answer. */
  mode: 'answer' | 'silent' | 'garbage' | { readonly rcode: number };
  /** How often it was asked for each name. */
  readonly asked: Map<string, number>;
  /** Of those, over TCP. */
  tcpCalls: number;
  resolver(): Resolver;
  close(): Promise<void>;
}

const SRV = 33;
const NXDOMAIN = 3;
const UDP_BYTES = 512;

export async function startDnsServer(): Promise<DnsServer> {
  const tcp = createServer();
  tcp.listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  const { port } = tcp.address() as AddressInfo;
  const udp = createSocket('udp4').bind(port, '127.0.0.1');
  await once(udp, 'listening');
  const address = `127.0.0.1:${String(port)}`;
  const server: DnsServer = {
    address,
    records: new Map(),
    mode: 'answer',
    asked: new Map(),
    tcpCalls: 0,
    resolver() {
      const resolver = new Resolver({ timeout: 1_000, tries: 2 });
      resolver.setServers([address]);
      return resolver;
    },
    async close() {
      const closed = [once(udp, 'close'), once(tcp, 'close')];
      udp.close();
      tcp.close();
      await Promise.all(closed);
    },
  };
  udp.on('message', (query, sender) => {
    const answer = answerTo(server, query);
    if (answer === null) return;
    udp.send(answer.length <= UDP_BYTES ? answer : truncated(query), sender.port, sender.address);
  });
  tcp.on('connection', (socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      server.tcpCalls += 1;
      const answer = answerTo(server, bytes.subarray(2));
      if (answer === null) return;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      socket.write(Buffer.concat([length, answer]));
    });
  });
  return server;
}

function answerTo(server: DnsServer, query: Buffer): Buffer | null {
  const { name, end } = readQuestion(query);
  server.asked.set(name, (server.asked.get(name) ?? 0) + 1);
  if (server.mode === 'silent') return null;
  if (server.mode === 'garbage') return Buffer.from('no answer at all');
  const isSrv = query.readUInt16BE(end - 4) === SRV;
  const found = isSrv ? server.records.get(name) : null;
  const rcode = typeof server.mode === 'object' ? server.mode.rcode : found === undefined ? NXDOMAIN : 0;
  const records = rcode === 0 ? (found ?? []) : [];
  const head = headOf(query, { flags: 0x8580 | rcode, answers: records.length });
  return Buffer.concat([head, query.subarray(12, end), ...records.map(encodeSrv)]);
}

function truncated(query: Buffer): Buffer {
  const { end } = readQuestion(query);
  return Buffer.concat([headOf(query, { flags: 0x8780, answers: 0 }), query.subarray(12, end)]);
}

function headOf(query: Buffer, { flags, answers }: { flags: number; answers: number }): Buffer {
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(flags, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(answers, 6);
  return head;
}

function readQuestion(query: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), end: at + 5 };
}

/** Its name is a pointer to that of the question. */
function encodeSrv({ priority, weight, port, name }: SrvRecord): Buffer {
  const target = Buffer.concat([
    ...name
      .split('.')
      .flatMap((label) => (label === '' ? [] : [Buffer.from([label.length]), Buffer.from(label)])),
    Buffer.from([0]),
  ]);
  const record = Buffer.alloc(18);
  record.writeUInt16BE(0xc00c, 0);
  record.writeUInt16BE(SRV, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(0, 6);
  record.writeUInt16BE(6 + target.length, 10);
  record.writeUInt16BE(priority, 12);
  record.writeUInt16BE(weight, 14);
  record.writeUInt16BE(port, 16);
  return Buffer.concat([record, target]);
}
