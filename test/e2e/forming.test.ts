import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  admin,
  closeAll,
  clusterOf,
  formationOf,
  initCluster,
  joinCluster,
  startHosts,
  waitForFormation,
  waitForVoters,
} from '../support/forming.js';
import { createVolume, recordsOf, runOn } from '../support/product.js';

let hosts: LabHost[];
let a: LabHost;
let b: LabHost;
let c: LabHost;
let d: LabHost;
let token: string;

beforeAll(async () => {
  hosts = await startHosts(['a', 'b', 'c', 'd']);
  [a, b, c, d] = hosts as [LabHost, LabHost, LabHost, LabHost];
}, 300_000);

afterAll(async () => {
  await closeAll(hosts);
});

test('a host with a volume lets two others join, and all three vote', async () => {
  await createVolume(a, 'kept', { size: '200M' });
  await runOn(a, 'kept', 'echo alone > /data/word');
  const born = (await clusterOf(a)).id;
  token = await initCluster(a);
  await joinCluster(b, token);
  const began = performance.now();
  await joinCluster(c, token);
  await waitForVoters(a, 3);
  console.log(
    `three voters ${String(Math.round((performance.now() - began) / 1000))} s after the second join`,
  );
  for (const host of [a, b, c]) {
    expect((await clusterOf(host)).id).toBe(born);
    expect(await runOn(host, 'kept', 'cat /data/word')).toBe('alone');
  }
});

test('a fourth host is a spare; it takes the place of one that is switched off, which is a spare when it is back', async () => {
  await joinCluster(d, token);
  await waitForFormation(d, 'it is a spare', ({ role }) => role === 'spare');
  expect((await formationOf(a)).members).toHaveLength(3);
  await createVolume(b, 'after', { size: '200M' });
  await runOn(b, 'after', 'echo before > /data/word');
  const began = performance.now();
  await c.powerOff();
  await waitForFormation(d, 'it votes in the place of c', ({ role }) => role === 'voter', 120_000);
  const { members } = await waitForVoters(a, 3);
  console.log(
    `replaced ${String(Math.round((performance.now() - began) / 1000))} s after the power went (grace 8 s)`,
  );
  expect(members.map(({ peerUrl }) => peerUrl).join()).not.toContain(c.address);
  expect(await runOn(b, 'after', 'cat /data/word')).toBe('before');
  await c.powerOn();
  await waitForFormation(c, 'it is a spare', ({ role }) => role === 'spare', 120_000);
  // Put aside, not deleted.
  expect(await c.shellOk('ls /var/lib/openebs/etcd/former')).toMatch(/^\d{4}-/);
  expect(await c.ok('ps', '-aq', '-f', 'label=openebs.role=etcd')).toBe('');
  expect(await runOn(c, 'after', 'cat /data/word')).toBe('before');
  expect((await formationOf(a)).members).toHaveLength(3);
});

test('all hosts lose their power at once, and come back alone', async () => {
  await Promise.all(hosts.map((host) => host.powerOff()));
  const began = performance.now();
  await Promise.all(hosts.map((host) => host.powerOn()));
  await waitForVoters(a, 3, 120_000);
  console.log(
    `all voters are back ${String(Math.round((performance.now() - began) / 1000))} s after the power`,
  );
  for (const host of hosts) expect(await runOn(host, 'after', 'cat /data/word')).toBe('before');
});

test('a member that lost its data gets a new one, as a learner first', async () => {
  const { members } = await formationOf(a);
  const lost = members.find(({ peerUrl }) => peerUrl.includes(b.address))!;
  await b.ok('rm', '-f', 'openebs-etcd');
  await b.shellOk('rm -rf /var/lib/openebs/etcd/member');
  await waitFor(
    'it is another member',
    async () => !(await formationOf(a)).members.some(({ id }) => id === lost.id),
    { timeoutMs: 60_000 },
  );
  await waitForVoters(a, 3);
  expect(await runOn(b, 'after', 'cat /data/word')).toBe('before');
});

test('a host that is still needed may not leave; one that is not leaves for a cluster of its own, and joins again', async () => {
  await expect(admin(b, 'POST', '/v1/cluster/leave', {})).rejects.toThrow(
    /409.*still needed: the data of 1 volume\(s\) is there: after/,
  );
  await admin(d, 'POST', '/v1/cluster/leave', {});
  await waitForFormation(
    d,
    'it is alone',
    ({ role, advertise }, { etcd }) => role === 'alone' && advertise === null && etcd.usable,
    120_000,
  );
  expect((await clusterOf(d)).id).not.toBe((await clusterOf(a)).id);
  await waitForVoters(a, 3, 120_000);
  expect(await recordsOf(a, '/openebs/peers/')).toHaveLength(3);
  await joinCluster(d, token);
  await waitForFormation(d, 'it is back', ({ role }) => role === 'spare');
  expect(await runOn(d, 'after', 'cat /data/word')).toBe('before');
});
