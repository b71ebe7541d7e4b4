/** Certificates of a running etcd of three members, and of a client, that are renewed as the plugin renews them. */
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Certificates, ensureCertificates, takeAuthority } from '../../src/cluster/certificates.js';
import { createLog } from '../../src/log.js';
import { createEtcdState, type EtcdState } from '../../src/state/etcd-state.js';
import { startMembers, type TestEtcd } from '../support/etcd.js';
import { waitFor } from '../support/exec.js';
import { context, createMirror, until } from './state-contract.js';

const log = createLog('silent');
const ctx = context();
const LEASE_MS = 6000;
const YEAR_MS = 365 * 24 * 60 * 60 * 1000;
const directories: string[] = [];
let made: Certificates[];
let etcds: TestEtcd[];
let state: EtcdState;

beforeAll(async () => {
  const root = await mkdtemp(join(tmpdir(), 'openebs-renew-'));
  directories.push(...['0', '1', '2'].map((name) => join(root, name)));
  const first = await ensureCertificates(directories[0]!, { addresses: [] });
  const shared = { authority: first.ca.toString(), authorityKey: first.caKey.toString() };
  for (const directory of directories.slice(1)) await takeAuthority(directory, shared);
  made = await renewAll(new Date());
  etcds = await startMembers(3, {
    tlsOf: (index) => ({ client: filesOf(made[index]!, 'server'), peer: filesOf(made[index]!, 'peer') }),
  });
  state = createEtcdState({ endpoints: etcds.map(({ endpoint }) => endpoint), tls: tlsOf(made[0]!), log });
}, 60_000);

afterAll(async () => {
  await state.close();
  for (const etcd of etcds) await etcd[Symbol.asyncDispose]();
  await rm(join(directories[0]!, '..'), { recursive: true, force: true });
});

function renewAll(now: Date): Promise<Certificates[]> {
  return Promise.all(directories.map((directory) => ensureCertificates(directory, { addresses: [], now })));
}

function filesOf(certificates: Certificates, side: 'server' | 'peer') {
  const { certificatePath, keyPath } = certificates[side];
  return { ca: certificates.caPath, certificate: certificatePath, key: keyPath };
}

function tlsOf({ ca, client }: Certificates) {
  return { ca, certificate: client.certificate, key: client.key, serverName: 'localhost' };
}

/** Of the certificate that a connection is shown which is made now. */
function serialAt({ port }: TestEtcd): Promise<string> {
  const { ca, client } = made[0]!;
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, ca, cert: client.certificate, key: client.key });
    socket.on('secureConnect', () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

const serialIn = (file: string) => new X509Certificate(readFileSync(file)).serialNumber;
const serialsOnDisk = () => made.map(({ server }) => serialIn(server.certificatePath));
const serialsShown = () => Promise.all(etcds.map(serialAt));

/** Writes numbers one after the other until it is told to end. */
function startWrites(kind: string) {
  const now = { going: true };
  const failures: string[] = [];
  let count = 0;
  const ended = (async () => {
    while (now.going) {
      const put = { put: `/openebs/${kind}/${String(count)}`, value: String(count) };
      await state
        .transact(ctx, { if: [{ key: put.put, absent: true }], then: [put] })
        .then(() => (count += 1))
        .catch((reason: unknown) => failures.push(String(reason)));
      await delay(5);
    }
  })();
  return {
    count: () => count,
    async end() {
      now.going = false;
      await ended;
      expect(failures).toEqual([]);
      return count;
    },
  };
}

async function restartOneByOne(): Promise<void> {
  for (const etcd of etcds) {
    await etcd.stop();
    await etcd.start();
    await waitFor('it follows a leader', async () => {
      const status = await state.members.status(ctx, etcd.endpoint).catch(() => null);
      return status?.leader != null;
    });
  }
}

describe('certificates of a running etcd', () => {
  it('are renewed with no call lost, no lease and no event: connections that are made later have the new ones', async () => {
    const mirror = createMirror();
    state.watch('/openebs/numbers/', mirror.listener);
    // As long as an election may take, twice over.
    const lease = await state.lease(ctx, LEASE_MS);
    const leased = delay(LEASE_MS + 1000);
    const writes = startWrites('numbers');
    await until(() => writes.count() > 20);
    const before = await serialsShown();
    expect(before).toEqual(serialsOnDisk());

    // Past two thirds of their life.
    made = await renewAll(new Date(Date.now() + 7 * YEAR_MS));
    expect(made.map(({ renewed }) => renewed)).toEqual(directories.map(() => ['server', 'peer', 'client']));
    state.renew(tlsOf(made[0]!));
    const shown = await serialsShown();
    expect(shown).toEqual(serialsOnDisk());
    expect(shown.filter((serial) => before.includes(serial))).toEqual([]);

    // Members and clients that meet anew take each other's.
    await restartOneByOne();
    const later = writes.count();
    await until(() => writes.count() > later + 20);
    const count = await writes.end();
    await until(() => mirror.known.size === count);
    await leased;
    expect(lease.lost.aborted).toBe(false);
  });

  it('over keys that were lost too', async () => {
    const writes = startWrites('again');
    for (const directory of directories)
      for (const name of ['server', 'peer', 'client']) await rm(join(directory, `${name}.key`));
    made = await renewAll(new Date());
    state.renew(tlsOf(made[0]!));
    await waitFor('new connections see the new ones', async () => {
      const shown = await serialsShown().catch(() => []);
      return shown.join() === serialsOnDisk().join();
    });
    await restartOneByOne();
    await writes.end();
  });
});
