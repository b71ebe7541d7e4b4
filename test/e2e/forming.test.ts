import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LabHost } from '../support/lab.js';
import { closeAll, clusterOf, initCluster, joinCluster, startHosts, waitForVoters } from '../support/forming.js';
import { createVolume, runOn } from '../support/product.js';

let hosts: LabHost[];
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  hosts = await startHosts(['a', 'b', 'c']);
  [a, b, c] = hosts as [LabHost, LabHost, LabHost];
}, 240_000);

afterAll(async () => {
  await closeAll(hosts);
});

test('a host with a volume lets two others join, and all three vote', async () => {
  await createVolume(a, 'kept', { size: '200M' });
  await runOn(a, 'kept', 'echo alone > /data/word');
  const born = (await clusterOf(a)).id;
  const token = await initCluster(a);
  await joinCluster(b, token);
  const began = performance.now();
  await joinCluster(c, token);
  await waitForVoters(a, 3);
  console.log(`three voters ${String(Math.round((performance.now() - began) / 1000))} s after the second join`);
  for (const host of hosts) {
    expect((await clusterOf(host)).id).toBe(born);
    expect(await runOn(host, 'kept', 'cat /data/word')).toBe('alone');
  }
});
