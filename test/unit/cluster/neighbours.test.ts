/** What is found out of other hosts: real ports on loopback, and the clock that a real place to join tells. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Certificates, ensureCertificates } from '../../../src/cluster/certificates.js';
import { type JoinServer, startJoinServer } from '../../../src/cluster/join/server.js';
import { createTokens } from '../../../src/cluster/join/tokens.js';
import { lookAtNeighbours, type NeighboursDeps } from '../../../src/cluster/neighbours.js';
import type { Ctx } from '../../../src/context.js';
import { createLog } from '../../../src/log.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import type { PeerRecord } from '../../../src/state/records.js';
import { waitFor } from '../../support/exec.js';

const directory = mkdtempSync(join(tmpdir(), 'neighbours-'));
const stopping = new AbortController();
const ctx: Ctx = { log: createLog('silent'), signal: stopping.signal, requestId: 'test' };
let certificates: Certificates;
let others: Certificates;
const servers: Server[] = [];
let joins: JoinServer | undefined;

beforeAll(async () => {
  certificates = await ensureCertificates(join(directory, 'ours'), { addresses: [] });
  others = await ensureCertificates(join(directory, 'others'), { addresses: [] });
});

afterEach(() => {
  joins?.close();
  for (const server of servers.splice(0)) server.close();
});

afterAll(() => {
  stopping.abort();
  rmSync(directory, { recursive: true });
});

/** So that the two after it are likely to be free as well. */
let next = 21_000 + (process.pid % 300) * 30;

function listen(port: number): Promise<void> {
  const server = createServer((socket) => socket.on('error', () => undefined));
  servers.push(server);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      resolve();
    });
  });
}

/** A host whose etcd listens, or not, and where hosts can join. */
async function host(more: Partial<PeerRecord> = {}, tls = certificates, open = [0, 1]): Promise<PeerRecord> {
  const port = (next += 3);
  for (const offset of open) await listen(port + offset);
  const state = createMemoryState();
  joins = startJoinServer(ctx, {
    advertise: '127.0.0.1',
    port: port + 2,
    state,
    tokens: createTokens(state),
    tls: () => ({
      cert: `${tls.server.certificate.toString()}${tls.ca.toString()}`,
      key: tls.server.key.toString(),
    }),
    answer: () => Promise.reject(new Error('nobody joins')),
  });
  return {
    ...{ schema: 1, node: 'n2', hostname: 'two', member: '7', lost: false, leaving: false },
    ...{ clientUrl: `https://127.0.0.1:${String(port)}`, peerUrl: `https://127.0.0.1:${String(port + 1)}` },
    ...more,
  };
}

async function look(peer: PeerRecord, more: Partial<NeighboursDeps> = {}) {
  const deps = { peers: [peer], isAlive: () => true, authority: certificates.ca, ...more };
  // A place to join listens a moment after it was started.
  return waitFor('hosts can join there', async () => {
    const [report] = await lookAtNeighbours(deps);
    return report?.ports.at(-1)?.problem === null && report;
  });
}

describe('a look at another host', () => {
  it('finds that its ports answer, and that its clock is ours', async () => {
    const report = await look(await host());
    expect(report).toMatchObject({ node: 'n2', hostname: 'two', address: '127.0.0.1', alive: true });
    expect(report.ports.map(({ purpose, problem }) => [purpose, problem])).toEqual([
      ['etcd', null],
      ['members of etcd', null],
      ['joining', null],
    ]);
    const { aheadMs, withinMs } = report.clock!;
    expect(Math.abs(aheadMs)).toBeLessThanOrEqual(withinMs + 1);
  });

  it('names the port that refuses', async () => {
    const { ports } = await look(await host({}, certificates, [0]));
    expect(ports.map(({ problem }) => problem)).toEqual([null, 'refused', null]);
  });

  it('tells how far its clock is from ours', async () => {
    const peer = await host();
    for (const aheadMs of [7000, -7000]) {
      const { clock } = await look(peer, { now: () => Date.now() - aheadMs });
      expect(Math.abs(clock!.aheadMs - aheadMs)).toBeLessThanOrEqual(clock!.withinMs + 1);
    }
  });

  it('expects no etcd where there is no member', async () => {
    const { ports } = await look(await host({ member: null }, certificates, []));
    expect(ports.map(({ purpose }) => purpose)).toEqual(['joining']);
  });

  it("does not believe another cluster's clock", async () => {
    expect((await look(await host({}, others))).clock).toBeNull();
  });

  it('waits no longer than it may for one that only listens', async () => {
    const peer = await host({}, certificates, [0, 1]);
    joins?.close();
    const silent = { ...peer, clientUrl: `https://127.0.0.1:${String((next += 3))}` };
    for (const offset of [0, 1, 2]) await listen(next + offset);
    const report = await look(silent, { timeoutMs: 200, isAlive: () => false });
    expect(report).toMatchObject({ alive: false, clock: null });
  });
});
