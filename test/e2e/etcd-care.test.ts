import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  closeAll,
  clusterOf,
  formationOf,
  initCluster,
  joinCluster,
  startHosts,
  waitForVoters,
} from '../support/forming.js';
import { createVolume } from '../support/product.js';

let hosts: LabHost[];
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  hosts = await startHosts(['care-a', 'care-b', 'care-c']);
  [a, b, c] = hosts as [LabHost, LabHost, LabHost];
}, 300_000);

afterAll(() => closeAll(hosts));

const certificates = '/var/lib/openebs/certificates';

/** etcd's own gateway, for what the plugin never does. */
function askEtcd(host: LabHost, path: string, body: object): Promise<string> {
  return host.shellOk(
    `curl -sS --fail --cacert ${certificates}/ca.crt --cert ${certificates}/client.crt --key ${certificates}/client.key ` +
      `https://127.0.0.1:23790/v3/${path} -d '${JSON.stringify(body)}'`,
  );
}

/** As etcd does itself when its quota is used up; what is stored is not full, so that room can be made. */
async function armNoSpace(host: LabHost): Promise<void> {
  const status = JSON.parse(await askEtcd(host, 'maintenance/status', {})) as {
    header: { member_id: string };
  };
  const alarm = { action: 'ACTIVATE', memberID: status.header.member_id, alarm: 'NOSPACE' };
  expect(await askEtcd(host, 'maintenance/alarm', alarm)).toContain('NOSPACE');
}

const isDisarmed = (host: LabHost) => async () =>
  !(await askEtcd(host, 'maintenance/alarm', { action: 'GET' })).includes('NOSPACE');

/** Which steps hosts have logged. */
const steps = (some: readonly LabHost[]): string[] =>
  some.flatMap((host) =>
    [...host.log().matchAll(/\\"step\\":\\"(compact|defragment|disarm)\\"/g)].map(([, step = '']) => step),
  );

const count = (all: readonly string[], kind: string): number => all.filter((step) => step === kind).length;

test('a host that is alone makes its etcd take writes again', async () => {
  await waitFor('etcd serves', async () => (await clusterOf(a)).etcd.usable, { timeoutMs: 60_000 });
  await armNoSpace(a);
  await expect(createVolume(a, 'refused', { size: '200M' })).rejects.toThrow(/space quota/);
  await waitFor('it was cared for', isDisarmed(a), { timeoutMs: 60_000 });
  expect(steps([a])).toEqual(['compact', 'disarm']);
  await createVolume(a, 'taken', { size: '200M' });
});

test('of three hosts one does, whoever holds the lock', async () => {
  const token = await initCluster(a);
  await joinCluster(b, token);
  await joinCluster(c, token);
  await waitForVoters(a, 3);
  await armNoSpace(b);
  await waitFor('it was cared for', isDisarmed(c), { timeoutMs: 60_000 });
  expect(steps(hosts).sort()).toEqual(['compact', 'compact', 'disarm', 'disarm']);
  await createVolume(c, 'of-c', { size: '200M' });
  for (const host of hosts)
    await waitFor(
      `${host.name} tells that all is well`,
      async () => {
        const { alarms, doing, problem } = await formationOf(host);
        return alarms.length === 0 && doing === null && problem === null;
      },
      { timeoutMs: 60_000 },
    );
});

test('and also when the host with the lock goes while etcd is full, so that nobody can take it', async () => {
  const holder = (await formationOf(a)).manager;
  const nodes = await Promise.all(hosts.map(async (host) => ({ host, node: (await clusterOf(host)).node })));
  const { host: gone } = nodes.find(({ node }) => node === holder)!;
  const others = hosts.filter((host) => host !== gone);
  const [first] = others as [LabHost];
  const before = steps(others);
  // The lock of who is gone lasts for ten seconds: it must not care for etcd itself in the rest of its time.
  await gone.shellOk(`kill -STOP ${String(await gone.pluginPid())}`);
  await armNoSpace(first);
  await gone.powerOff();
  await waitFor('it was cared for', isDisarmed(first), { timeoutMs: 120_000 });
  expect(count(steps(others), 'compact')).toBe(count(before, 'compact') + 1);
  expect(count(steps(others), 'disarm')).toBe(count(before, 'disarm') + 1);
  await createVolume(first, 'after', { size: '200M' });
  await gone.powerOn();
  await waitForVoters(first, 3, 120_000);
});
