import { randomBytes, randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { formatAddress } from '../../../../src/cluster/discovery/address.js';
import {
  clusterDigest,
  DATAGRAM_BYTES,
  decodeQuery,
  decodeReply,
  encodeQuery,
  encodeReply,
} from '../../../../src/cluster/discovery/datagram.js';
import type { Announcement, Discovery } from '../../../../src/cluster/discovery/discovery.js';
import { createMulticastDiscovery } from '../../../../src/cluster/discovery/multicast.js';
import { neighboursOn, ownNetworks } from '../../../../src/cluster/discovery/networks.js';
import { ReplyBudget } from '../../../../src/cluster/discovery/reply-budget.js';
import type { Ctx } from '../../../../src/context.js';
import { createLog } from '../../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const self = { host: '10.0.0.1', port: 23_792 };

describe('discovery by multicast', () => {
  let group: { group: string; port: number };
  let fingerprint: string;
  let announced: Announcement[] = [];
  const sockets: Socket[] = [];

  beforeEach(() => {
    group = { group: `239.255.1.${String(randomInt(1, 255))}`, port: randomInt(20_000, 30_000) };
    fingerprint = randomBytes(32).toString('hex');
  });
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.close();
    for (const announcement of announced) await announcement.close();
    announced = [];
  });

  const discover = (cluster = fingerprint): Discovery =>
    createMulticastDiscovery({ ...group, fingerprint: cluster });
  const announce = async (cluster = fingerprint, address = self) => {
    const announcement = await discover(cluster).announce!(ctx, address);
    announced.push(announcement);
    return announcement;
  };
  /** A socket on loopback, and what it is sent. */
  const stranger = async (options: { isMember?: boolean } = {}) => {
    const socket = createSocket({ type: 'udp4', reuseAddr: true });
    sockets.push(socket);
    if (options.isMember === true) socket.bind(group.port, group.group);
    else socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    if (options.isMember === true) socket.addMembership(group.group, '127.0.0.1');
    else socket.setMulticastInterface('127.0.0.1');
    const heard: Buffer[] = [];
    socket.on('message', (datagram) => heard.push(datagram));
    const send = (datagram: Buffer) =>
      new Promise((resolve) => {
        socket.send(datagram, group.port, group.group, resolve);
      });
    return { socket, heard, send };
  };
  const query = (cluster = fingerprint) =>
    encodeQuery({ nonce: randomBytes(16), cluster: clusterDigest(cluster) });

  it('finds members of the own cluster alone', async () => {
    await announce();
    await announce('another', { ...self, host: '10.0.0.2' });
    expect((await discover().find(ctx)).map(formatAddress)).toEqual(['10.0.0.1:23792']);
  });

  it('finds nobody who has closed the announcement, which can be done twice', async () => {
    const announcement = await announce();
    await Promise.all([announcement.close(), announcement.close()]);
    await announcement.close();
    expect(await discover().find(ctx)).toEqual([]);
  });

  it('does not announce what is no address', async () => {
    for (const address of [
      { host: 'host1', port: 1 },
      { host: '0.0.0.0', port: 1 },
      { host: '10.0.0.1', port: 0 },
    ])
      await expect(discover().announce!(ctx, address)).rejects.toMatchObject({ code: 'invalid_argument' });
  });

  it('says that the port is taken', async () => {
    const other = createSocket('udp4');
    sockets.push(other);
    other.bind(group.port, group.group);
    await once(other, 'listening');
    await expect(discover().announce!(ctx, self)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/^discovery multicast:.* cannot listen .*EADDRINUSE/) as string,
    });
  });

  it('answers no more than it was sent', async () => {
    await announce();
    const { heard, send } = await stranger();
    const asked = query();
    await send(asked);
    await expect.poll(() => heard.length).toBe(1);
    expect(heard[0]).toHaveLength(asked.length);
    expect(decodeReply(heard[0]!)?.peer).toEqual(self);
    expect(decodeReply(heard[0]!)?.nonce).toEqual(decodeQuery(asked)?.nonce);
  });

  it('ignores what is malformed, of another cluster, or an answer, and goes on', async () => {
    await announce();
    const { heard, send } = await stranger();
    const [nonce, cluster] = [randomBytes(16), clusterDigest(fingerprint)];
    for (const datagram of [
      Buffer.alloc(0),
      Buffer.alloc(DATAGRAM_BYTES),
      randomBytes(DATAGRAM_BYTES),
      randomBytes(60_000),
      query('another'),
      query().subarray(1),
      encodeReply({ nonce, cluster, peer: self }),
    ])
      await send(datagram);
    const last = query();
    await send(last);
    await expect.poll(() => heard.length).toBeGreaterThan(0);
    await delay(100);
    expect(heard.map((datagram) => decodeReply(datagram)?.nonce)).toEqual([decodeQuery(last)?.nonce]);
  });

  it('answers a flood with a few datagrams', async () => {
    await announce();
    const { heard, send } = await stranger();
    for (let count = 0; count < 500; count += 1) await send(query());
    await delay(200);
    // A second may have begun meanwhile, and another.
    expect(heard.length).toBeGreaterThan(0);
    expect(heard.length).toBeLessThan(100);
  });

  it('does not answer what is sent to an address of this host', async () => {
    await announce();
    const { socket, heard } = await stranger();
    await new Promise((resolve) => {
      socket.send(query(), group.port, '127.0.0.1', resolve);
    });
    await delay(200);
    expect(heard).toEqual([]);
  });

  it('takes no answer that does not know the question, and none that is malformed', async () => {
    const { socket, heard } = await stranger({ isMember: true });
    socket.on('message', (datagram, { port, address }) => {
      const asked = decodeQuery(datagram);
      if (asked === null) return;
      const lie = (host: string, nonce = asked.nonce) =>
        encodeReply({ nonce, cluster: asked.cluster, peer: { host, port: 1 } });
      for (const answer of [
        lie('10.6.6.6', randomBytes(16)),
        lie('evil.example.org'),
        lie('0.0.0.0'),
        lie('10.6.6.7').subarray(2),
        randomBytes(2000),
        Buffer.alloc(0),
        // Nobody can tell that it is a lie; who joins finds out.
        lie('10.7.7.7'),
      ])
        socket.send(answer, port, address);
    });
    expect((await discover().find(ctx)).map(formatAddress)).toEqual(['10.7.7.7:1']);
    expect(heard.length).toBeGreaterThan(1);
  });

  it('is not drowned by who answers with more than anybody would try', async () => {
    const { socket } = await stranger({ isMember: true });
    socket.on('message', (datagram, { port, address }) => {
      const asked = decodeQuery(datagram)!;
      for (let count = 0; count < 500; count += 1)
        socket.send(
          encodeReply({
            ...asked,
            peer: { host: `10.1.${String(count >> 8)}.${String(count & 255)}`, port: 1 },
          }),
          port,
          address,
        );
    });
    expect(await discover().find(ctx)).toHaveLength(64);
  });
});

describe('networks of a host', () => {
  it("are all that have an address of IPv4, but for Docker's own", () => {
    const entry = (address: string, cidr: string) => ({ family: 'IPv4' as const, address, cidr });
    const six = { family: 'IPv6' as const, address: 'fd00::1', cidr: 'fd00::1/64', scopeid: 0 };
    const more = { netmask: '', mac: '', internal: false };
    expect(
      ownNetworks({
        lo: [{ ...entry('127.0.0.1', '127.0.0.1/8'), ...more, internal: true }],
        eth0: [
          { ...entry('10.0.0.1', '10.0.0.1/24'), ...more },
          { ...entry('10.0.1.1', '10.0.1.1/24'), ...more },
          { ...six, ...more },
        ],
        'br-lan': [{ ...entry('10.0.2.1', '10.0.2.1/24'), ...more }],
        docker0: [{ ...entry('172.17.0.1', '172.17.0.1/16'), ...more }],
        docker_gwbridge: [{ ...entry('172.18.0.1', '172.18.0.1/16'), ...more }],
        'br-0123456789ab': [{ ...entry('172.19.0.1', '172.19.0.1/16'), ...more }],
      }).map(({ address }) => address),
    ).toEqual(['127.0.0.1', '10.0.0.1', '10.0.1.1', '10.0.2.1']);
  });

  it('tell neighbours from others', () => {
    const isNeighbour = neighboursOn([{ address: '10.0.0.1', cidr: '10.0.0.1/24' }]);
    expect(isNeighbour('10.0.0.255')).toBe(true);
    expect(isNeighbour('10.0.1.1')).toBe(false);
    expect(neighboursOn([])('10.0.0.1')).toBe(false);
  });

  it('are those of this machine', () => {
    expect(
      Object.values(networkInterfaces())
        .flat()
        .map((one) => one?.address),
    ).toEqual(expect.arrayContaining(ownNetworks().map(({ address }) => address)));
  });
});

describe('the budget of replies', () => {
  it('bounds one source, and all of them, within a second', () => {
    const budget = new ReplyBudget();
    const take = (source: string, nowMs: number, times: number) =>
      Array.from({ length: times }, () => budget.take(source, nowMs)).filter((taken) => taken).length;
    expect(take('a', 0, 20)).toBe(8);
    expect(take('b', 1, 20)).toBe(8);
    for (let source = 0; source < 20; source += 1) take(String(source), 2, 8);
    expect(take('c', 999, 20)).toBe(0);
    expect(take('a', 1000, 20)).toBe(8);
    expect(take('c', 1000, 1)).toBe(1);
  });
});
