/** The short form of test/cluster-faults/register.test.ts. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { closeAll, initCluster, joinCluster, startHosts, waitForVoters } from '../support/forming.js';
import type { LabHost } from '../support/lab.js';
import { cutBothWays, cutInbound, cutOutbound, leaderMeets } from '../support/member-faults.js';
import { createRegister, type Register } from '../support/register.js';
import { unexplained } from '../support/register-history.js';

let hosts: LabHost[];
let register: Register;

beforeAll(async () => {
  hosts = await startHosts(['cut-a', 'cut-b', 'cut-c'], {});
  const token = await initCluster(hosts[0]!);
  for (const host of hosts.slice(1)) await joinCluster(host, token);
  await waitForVoters(hosts[0]!, 3);
  register = createRegister(
    '/partitions-test/',
    hosts.map(({ address }) => `https://${address}:23790`),
  );
  for (const host of hosts) register.start(host);
  await register.goesOn(hosts);
}, 600_000);

afterAll(() => closeAll(hosts));

test('a leader that hears nobody, is heard by nobody, or both: the others write on, and nothing acknowledged is lost', async () => {
  for (const fault of [cutInbound, cutOutbound, cutBothWays])
    await leaderMeets(fault, { voters: hosts, watcher: hosts[0]!, register, leastMs: 1000 });
  await register.stop();
  const { calls } = register.history();
  expect(calls.filter(({ kind, outcome }) => kind !== 'read' && outcome === 'ok').length).toBeGreaterThan(50);
  expect(unexplained(calls)).toBeNull();
});
