/** Hosts whose addresses change: one that is alone in its cluster, and one of three. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NewTokenMessage } from '../../src/admin/messages.js';
import { waitFor } from '../support/exec.js';
import {
  admin,
  closeAll,
  clusterOf,
  initCluster,
  joinCluster,
  startHosts,
  waitForFormation,
  waitForVoters,
} from '../support/forming.js';
import type { LabHost } from '../support/lab.js';
import { startNumberedWrites } from '../support/numbered.js';
import { createVolume, runOn } from '../support/product.js';

let hosts: LabHost[];
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  hosts = await startHosts(['roam-a', 'roam-b', 'roam-c'], {});
  [a, b, c] = hosts as [LabHost, LabHost, LabHost];
}, 300_000);

afterAll(() => closeAll(hosts));

/** As after a new lease of DHCP: the former address is gone. */
async function moveHost(host: LabHost): Promise<string> {
  const to = host.address.replace(/\d+$/, (last) => String(Number(last) + 100));
  await host.shellOk(
    `ip addr del ${host.address}/24 dev eth0; ip addr add ${to}/24 dev eth0; ip route replace default via 10.99.0.254`,
  );
  return to;
}

async function advertise(host: LabHost, address: string): Promise<void> {
  await admin(host, 'POST', '/v1/cluster/init', { advertise: address });
  await waitForFormation(
    host,
    'it is at its new address',
    ({ advertise: told, members, role }, { etcd }) =>
      told === address &&
      etcd.usable &&
      role === 'voter' &&
      members.some(({ peerUrl }) => peerUrl.includes(`//${address}:`)),
    120_000,
  );
}

test('one that is alone in its cluster: its volumes are there, and others join at the new address', async () => {
  await initCluster(a);
  await createVolume(a, 'kept', { size: '200M' });
  await runOn(a, 'kept', 'echo before > /data/word');
  await expect(admin(a, 'POST', '/v1/cluster/init', { advertise: '10.99.0.253' })).rejects.toThrow(
    /400.*no address of this host.*it has .*10\.99\.0/,
  );
  const to = await moveHost(a);
  await waitFor('its etcd cannot be reached', async () => !(await clusterOf(a)).etcd.usable, {
    timeoutMs: 60_000,
  });
  await advertise(a, to);
  expect(await runOn(a, 'kept', 'cat /data/word')).toBe('before');
  const { token } = await admin<NewTokenMessage>(a, 'POST', '/v1/cluster/tokens', {});
  await joinCluster(b, token);
  await joinCluster(c, token);
  await waitForVoters(a, 3);
  expect(await runOn(c, 'kept', 'cat /data/word')).toBe('before');
});

test('one of three: the same members go on, writes as well, and its volumes are served at the new address', async () => {
  await createVolume(b, 'of-b', { size: '200M' });
  await runOn(b, 'of-b', 'echo there > /data/word');
  const { members: before } = await waitForVoters(a, 3);
  const moved = (await clusterOf(a)).formation?.advertise ?? '';
  const writes = startNumberedWrites(a, [moved, c.address]);
  await writes.goOn();
  const to = await moveHost(b);
  await advertise(b, to);
  for (const host of hosts) {
    const { members } = await waitForVoters(host, 3);
    expect(members.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
    expect(members.filter(({ peerUrl }) => peerUrl.includes(`//${to}:`))).toHaveLength(1);
    expect(await runOn(host, 'of-b', 'cat /data/word')).toBe('there');
  }
  await writes.goOn();
  const { count, slowestMs } = await writes.finish();
  console.log(`${String(count)} writes, the slowest ${String(slowestMs)} ms`);
});
