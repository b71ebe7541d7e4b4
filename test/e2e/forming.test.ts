import { afterAll, beforeAll, expect, test } from 'vitest';
import type { BackupsMessage } from '../../src/admin/messages.js';
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

test('with the majority gone for good nothing is guessed; a person forms it anew from what one host has, and the others yield', async () => {
  const { members } = await waitForVoters(a, 3);
  const voters = [a, b, c, d].filter((host) => members.some(({ peerUrl }) => peerUrl.includes(host.address)));
  const others = voters.filter((host) => host !== a);
  const id = (await clusterOf(a)).id!;
  await runOn(a, 'kept', 'echo last > /data/word');
  await Promise.all(others.map((host) => host.powerOff()));
  await waitForFormation(
    a,
    'etcd has no majority, and its own view is not taken for the list of the members',
    ({ members: seen }, { etcd }) => !etcd.usable && seen.length === 0,
    60_000,
  );
  await expect(admin(a, 'POST', '/v1/cluster/recover', { confirm: 'yes' })).rejects.toThrow(
    `form etcd anew for cluster ${id}`,
  );
  const began = performance.now();
  await admin(a, 'POST', '/v1/cluster/recover', { confirm: id });
  await waitForFormation(
    a,
    'it answers again',
    ({ change }, { etcd }) => change != null && etcd.usable,
    120_000,
  );
  console.log(`recovered ${String(Math.round((performance.now() - began) / 1000))} s after it was confirmed`);
  expect((await clusterOf(a)).id).toBe(id);
  expect(await runOn(a, 'kept', 'cat /data/word')).toBe('last');
  // They come back with an old majority of their own.
  await Promise.all(others.map((host) => host.powerOn()));
  await waitForVoters(a, 3, 180_000);
  const { members: now } = await formationOf(a);
  expect(now.filter((member) => members.some((former) => former.id === member.id))).toEqual([]);
  for (const host of hosts) {
    expect((await clusterOf(host)).id).toBe(id);
    expect(await runOn(host, 'kept', 'cat /data/word')).toBe('last');
  }
});

test('a backup brings back what was recorded then', async () => {
  const { backups } = await admin<BackupsMessage>(a, 'POST', '/v1/cluster/backups');
  const { file } = backups[0]!;
  await createVolume(a, 'later', { size: '200M' });
  const id = (await clusterOf(a)).id!;
  const before = (await formationOf(a)).change;
  await admin(a, 'POST', '/v1/cluster/recover', { backup: file, confirm: id });
  await waitForFormation(
    a,
    'it answers again',
    ({ change }, { etcd }) => change != null && change !== before && etcd.usable,
    120_000,
  );
  await waitForVoters(a, 3, 180_000);
  for (const host of hosts) {
    await waitFor(`${host.name} knows what there was`, async () => {
      const names = (await host.ok('volume', 'ls', '-q')).split('\n');
      return names.includes('kept') && names.includes('after') && !names.includes('later');
    });
    expect(await runOn(host, 'kept', 'cat /data/word')).toBe('last');
  }
});
