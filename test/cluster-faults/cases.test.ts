/**
 * Behaviour of a cluster of five hosts that is named in the table of cases, where no other test shows it on real hosts.
 * Killed leaders, pauses and flaps: register.test.ts; the return of a host that was replaced: e2e/forming.test.ts.
 */
import { cpSync, renameSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NewTokenMessage } from '../../src/admin/messages.js';
import { sleep, waitFor } from '../support/exec.js';
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
import type { LabHost } from '../support/lab.js';
import { leaderAmong, runsOneOf } from '../support/member-faults.js';
import {
  createVolume,
  driverCall,
  recordsOf,
  runOn,
  startIdle,
  startWriter,
  verifyWritten,
} from '../support/product.js';
import { createRegister } from '../support/register.js';
import { unexplained } from '../support/register-history.js';

const GRACE_MS = 15_000;

let hosts: LabHost[];
let token: string;

beforeAll(async () => {
  const settings = { MEMBER_GRACE: `${String(GRACE_MS / 1000)}s` };
  hosts = await startHosts(['case-a', 'case-b', 'case-c', 'case-d', 'case-e'], settings);
  token = await initCluster(hosts[0]!);
  for (const host of hosts.slice(1)) await joinCluster(host, token);
  await waitForVoters(hosts[0]!, 3);
}, 600_000);

afterAll(() => closeAll(hosts));

async function placesNow(): Promise<{ voters: LabHost[]; spares: LabHost[]; ids: string[] }> {
  const { members } = await waitForVoters(hosts[0]!, 3, 180_000);
  const has = (host: LabHost) => runsOneOf(host, members);
  return {
    voters: hosts.filter(has),
    spares: hosts.filter((host) => !has(host)),
    ids: members.map(({ id, peerUrl }) => `${id} ${peerUrl}`).toSorted(),
  };
}

test('case 5: members whose containers restart with their data keep their numbers', async () => {
  const { voters, ids } = await placesNow();
  for (const host of voters) {
    await host.ok('restart', '-t', '5', 'openebs-etcd');
    await waitForVoters(host, 3);
  }
  await voters[0]!.ok('kill', 'openebs-etcd');
  expect((await placesNow()).ids).toEqual(ids);
});

test('case 15: with two of three voters away longer than the grace no member changes, volumes work on, and all is well when they return', async () => {
  const { voters, spares, ids } = await placesNow();
  const [stays, ...gone] = voters as [LabHost, LabHost, LabHost];
  await createVolume(stays, 'in-use', { size: '200M' });
  const writer = await startWriter(stays, 'writer', 'in-use');
  await writer.goesOn();
  await Promise.all(gone.map((host) => host.powerOff()));
  await waitForFormation(stays, 'etcd has no majority', (_, { etcd }) => !etcd.usable);
  const until = sleep(3 * GRACE_MS);
  for (const host of [stays, spares[0]!]) {
    const began = performance.now();
    expect(await driverCall(host, 'Get', { Name: 'in-use' })).toMatchObject({ Volume: { Name: 'in-use' } });
    console.log(`${host.name} tells of the volume after ${String(Math.round(performance.now() - began))} ms`);
  }
  await until;
  await writer.goesOn();
  expect((await stays.docker('volume', 'create', '-d', 'openebs', 'refused')).code).not.toBe(0);
  const began = performance.now();
  await Promise.all(gone.map((host) => host.powerOn()));
  expect((await placesNow()).ids).toEqual(ids);
  console.log(`all voters well ${String(Math.round((performance.now() - began) / 1000))} s after the power`);
  await writer.goesOn();
  await writer.finish();
  await stays.ok('rm', '-f', 'writer');
  await verifyWritten(stays, 'in-use');
  await createVolume(gone[0], 'later', { size: '200M' });
});

test('case 4: a copy of the data of a member is not run on another host, and an address that is taken is refused', async () => {
  const { voters, spares, ids } = await placesNow();
  const [original] = voters as [LabHost];
  const [copy] = spares as [LabHost];
  await copy.ok('plugin', 'disable', '-f', 'openebs');
  for (const name of ['etcd', 'etcd-incarnation.json'])
    cpSync(join(original.lib, 'openebs', name), join(copy.lib, 'openebs', name), { recursive: true });
  await copy.ok('plugin', 'enable', 'openebs');
  await waitForFormation(
    copy,
    'it tells of the copy',
    ({ problem }) => problem?.includes('is a copy') === true,
  );
  // Some turns of all hosts.
  await sleep(GRACE_MS);
  expect((await placesNow()).ids).toEqual(ids);
  expect(await copy.ok('ps', '-aq', '-f', 'label=openebs.role=etcd')).toBe('');
  // As it says.
  for (const name of ['etcd/member', 'etcd-incarnation.json'])
    rmSync(join(copy.lib, 'openebs', name), { recursive: true });
  await waitForFormation(copy, 'it is a spare', ({ role, problem }) => role === 'spare' && problem === null);

  await startIdle(copy, 'bystander', 'bystander-local');
  await admin(copy, 'POST', '/v1/cluster/leave', {});
  const isAlone = () =>
    waitForFormation(copy, 'it is alone', ({ role }, { etcd }) => role === 'alone' && etcd.usable, 180_000);
  await isAlone();
  // case 25: what is torn down twice.
  await expect(admin(copy, 'POST', '/v1/cluster/leave', {})).rejects.toThrow(/this host is alone/);
  expect(await copy.ok('inspect', '--format', '{{.State.Running}}', 'bystander')).toBe('true');
  // Whose address it takes it does not reach any more, so it asks another one.
  const other = await admin<NewTokenMessage>(voters[1]!, 'POST', '/v1/cluster/tokens', {});
  const joinAsOriginal = () =>
    admin(copy, 'POST', '/v1/cluster/join', { token: other.token, advertise: original.address });
  await expect(joinAsOriginal()).rejects.toThrow(/is no address of this host/);
  await copy.shellOk(`ip address add ${original.address}/32 dev lo`);
  await expect(joinAsOriginal()).rejects.toThrow(/is that of case-/);
  await copy.shellOk(`ip address del ${original.address}/32 dev lo`);
  await joinCluster(copy, token);
  expect((await placesNow()).ids).toEqual(ids);
});

test('case 4: data of another member in the place of its own is not started', async () => {
  const { voters } = await placesNow();
  const [victim, other] = voters as [LabHost, LabHost];
  const member = join(victim.lib, 'openebs/etcd/member');
  await victim.ok('plugin', 'disable', '-f', 'openebs');
  await victim.ok('rm', '-f', 'openebs-etcd');
  renameSync(member, join(victim.lib, 'own'));
  cpSync(join(other.lib, 'openebs/etcd/member'), member, { recursive: true });
  await victim.ok('plugin', 'enable', 'openebs');
  await waitFor('it tells whose data it has', () =>
    victim.log().includes('the etcd data on this host is of member'),
  );
  expect(await victim.ok('ps', '-aq', '-f', 'label=openebs.role=etcd')).toBe('');
  rmSync(member, { recursive: true });
  renameSync(join(victim.lib, 'own'), member);
  await waitForVoters(other, 3);
});

test('case 19: three voters become five and three again, one by one, without the leader, while writes go on', async () => {
  const [a] = hosts as [LabHost];
  const register = createRegister(
    '/cases-test/',
    hosts.map(({ address }) => `https://${address}:23790`),
  );
  for (const host of hosts.slice(0, 2)) register.start(host);
  await register.goesOn(hosts.slice(0, 2));
  for (const even of [2, 4])
    await expect(admin(a, 'POST', '/v1/cluster/voters', { voters: even })).rejects.toThrow(
      /must be 1, 3 or 5/,
    );
  const counts: string[] = [];
  const watching = { on: true };
  const watch = (async () => {
    while (watching.on) {
      const members = await formationOf(a).then(
        (formation) => formation.members,
        () => [],
      );
      const learners = members.filter(({ role }) => role === 'learner').length;
      const now = `${String(members.length - learners)}+${String(learners)}`;
      if (members.length > 0 && counts.at(-1) !== now) counts.push(now);
      await sleep(200);
    }
  })();
  await admin(a, 'POST', '/v1/cluster/voters', { voters: 5 });
  await waitForVoters(a, 5, 240_000);
  const leader = await leaderAmong(hosts);
  await admin(a, 'POST', '/v1/cluster/voters', { voters: 3 });
  await waitForVoters(a, 3, 240_000);
  watching.on = false;
  await watch;
  console.log(`voters+learners: ${counts.join(' ')}`);
  expect(counts.filter((count) => !/^[3-5]\+[01]$/.test(count))).toEqual([]);
  expect(counts.indexOf('5+0')).toBeGreaterThan(0);
  expect(await leaderAmong(hosts)).toBe(leader);
  await register.goesOn(hosts.slice(0, 2));
  await register.stop();
  const { calls, failed } = register.history();
  expect(failed).toEqual([]);
  expect(unexplained(calls)).toBeNull();
});

test('case 25: the engine of a voter restarts without its cluster: calls are answered at once, and all is well with it', async () => {
  const { voters, ids } = await placesNow();
  const [stays, ...gone] = voters as [LabHost, LabHost, LabHost];
  // Its data is here: the other hosts lose their power.
  await createVolume(stays, 'of-its-own', { size: '200M' });
  await startIdle(stays, 'user', 'of-its-own');
  await Promise.all(gone.map((host) => host.powerOff()));
  await stays.stopEngine();
  await stays.startEngine();
  const began = performance.now();
  await waitFor(
    'its socket listens',
    async () => 'Capabilities' in (await driverCall(stays, 'Capabilities', {})),
  );
  const listened = performance.now();
  const answer = await driverCall(stays, 'Get', { Name: 'of-its-own' });
  console.log(
    `socket ${String(Math.round(listened - began))} ms, answer ${String(Math.round(performance.now() - listened))} ms ` +
      `after the engine: ${JSON.stringify(answer).slice(0, 200)}`,
  );
  expect(answer).toMatchObject({ Volume: { Name: 'of-its-own' } });
  await Promise.all(gone.map((host) => host.powerOn()));
  expect((await placesNow()).ids).toEqual(ids);
  await createVolume(gone[0], 'after', { size: '200M' });
  await runOn(stays, 'after', 'true');
  expect(existsSync(join(stays.lib, 'openebs/transition.json'))).toBe(false);
  expect(await recordsOf(stays, '/openebs/peers/')).toHaveLength(5);
  expect((await clusterOf(stays)).etcd.usable).toBe(true);
});
