import type { SrvRecord } from 'node:dns';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDnsDiscovery } from '../../../../src/cluster/discovery/dns.js';
import { formatAddress } from '../../../../src/cluster/discovery/address.js';
import type { Ctx } from '../../../../src/context.js';
import { createLog } from '../../../../src/log.js';
import { type DnsServer, startDnsServer } from '../../../support/dns-server.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const name = '_openebs._tcp.example.org';
let server: DnsServer;

beforeEach(async () => {
  server = await startDnsServer();
});
afterEach(() => server.close());

const record = (host: string, more: Partial<SrvRecord> = {}): SrvRecord => ({
  name: host,
  port: 1,
  priority: 0,
  weight: 0,
  ...more,
});
/** @param drawn what chance says, in turn */
const find = async (drawn: readonly number[] = []): Promise<string[]> => {
  const left = [...drawn];
  const random = () => left.shift() ?? 0;
  const discovery = createDnsDiscovery({ name, resolver: () => server.resolver(), random });
  return (await discovery.find(ctx)).map(formatAddress);
};

describe('discovery by SRV records', () => {
  it('asks for the records of the name, once', async () => {
    server.records.set(name, [record('a.example.org', { port: 4000 }), record('10.0.0.7')]);
    // An address for a target is against the RFC, and does no harm.
    expect(await find()).toEqual(['a.example.org:4000', '10.0.0.7:1']);
    expect([...server.asked]).toEqual([[name, 1]]);
  });

  it('tries the lowest priority first, whatever the weights', async () => {
    server.records.set(name, [
      record('third', { priority: 30, weight: 65_535 }),
      record('first', { priority: 1 }),
      record('second', { priority: 20, weight: 9 }),
    ]);
    expect(await find([0.99, 0.99, 0.99])).toEqual(['first:1', 'second:1', 'third:1']);
  });

  it('draws among those of one priority by their weights', async () => {
    server.records.set(name, [
      record('heavy', { weight: 30 }),
      record('none', { weight: 0 }),
      record('light', { weight: 10 }),
    ]);
    // The numbers drawn are 0 to 40: "none" has 0, "heavy" 1 to 30, "light" 31 to 40.
    expect(await find([0])).toEqual(['none:1', 'heavy:1', 'light:1']);
    expect(await find([1 / 41, 0.999])).toEqual(['heavy:1', 'light:1', 'none:1']);
    expect(await find([30.5 / 41])).toEqual(['heavy:1', 'none:1', 'light:1']);
    expect(await find([31 / 41])).toEqual(['light:1', 'none:1', 'heavy:1']);
    expect(await find([0.999_999, 0.999_999])).toEqual(['light:1', 'heavy:1', 'none:1']);
  });

  it('has each first as often as its weight says', async () => {
    server.records.set(name, [record('heavy', { weight: 300 }), record('light', { weight: 100 })]);
    const firsts: (string | undefined)[] = [];
    for (let round = 0; round < 200; round += 1) firsts.push((await find([(round + 0.5) / 200]))[0]);
    expect(firsts.filter((first) => first === 'heavy:1')).toHaveLength(150);
  });

  it('leaves out what says that there is no service, and what can be no host', async () => {
    server.records.set(name, [
      record(''),
      record('0.0.0.0'),
      record('10.1'),
      record('bad host'),
      record('no-port', { port: 0 }),
      record('good'),
    ]);
    expect(await find()).toEqual(['good:1']);
  });

  it('finds none where there is no such name, or it has no such record', async () => {
    expect(await find()).toEqual([]);
    server.records.set(name, null);
    expect(await find()).toEqual([]);
  });

  it('takes an answer that is too long for a datagram', async () => {
    const many = Array.from({ length: 40 }, (_, index) => record(`host-${String(index)}.example.org`));
    server.records.set(name, many);
    expect(await find()).toHaveLength(40);
    expect(server.tcpCalls).toBe(1);
  });

  it('says that the name servers fail, refuse or talk nonsense', async () => {
    for (const [mode, code] of [
      [{ rcode: 2 }, 'ESERVFAIL'],
      [{ rcode: 5 }, 'EREFUSED'],
      ['garbage', 'EBADRESP'],
    ] as const) {
      server.mode = mode;
      await expect(find()).rejects.toMatchObject({
        code: 'unavailable',
        message: expect.stringMatching(
          new RegExp(`^discovery dns:${name}: its SRV records cannot be looked up \\(${code}\\): .*static:`),
        ) as string,
      });
    }
  });

  it('asks no more once it has given up', async () => {
    server.mode = 'silent';
    const discovery = createDnsDiscovery({ name, resolver: () => server.resolver(), limitMs: 50 });
    await expect(discovery.find(ctx)).rejects.toThrow('no answer within 0.05 s: check the name servers');
    // The resolver itself would ask again after a second.
    await delay(1_500);
    expect(server.asked.get(name)).toBe(1);
  });

  it('says that there is no name server', async () => {
    const resolver = server.resolver();
    await server.close();
    const discovery = createDnsDiscovery({ name, resolver: () => resolver });
    await expect(discovery.find(ctx)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('ECONNREFUSED') as string,
    });
    server = await startDnsServer();
  });
});
