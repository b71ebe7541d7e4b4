/**
 * The plugin dies on real hosts at each point of becoming a host that others can join, of joining, of leaving, and of a
 * member that moves to another host: whoever goes on, and whoever comes back, makes it what it was to be.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { FormationMessage } from '../../src/admin/messages.js';
import type { FailPoint } from '../../src/lib/fail-points.js';
import { arm, disarm, hasFired, startCrashHost } from '../support/crash.js';
import { waitFor } from '../support/exec.js';
import {
  admin,
  closeAll,
  clusterOf,
  formationOf,
  GRACE,
  initCluster,
  joinCluster,
  waitForFormation,
  waitForVoters,
} from '../support/forming.js';
import type { LabHost } from '../support/lab.js';
import { runsOneOf } from '../support/member-faults.js';
import { createVolume, recordsOf, runOn } from '../support/product.js';

/** A point, and who may be met there: the first one is it. */
type Kill = readonly [point: FailPoint, who: readonly LabHost[]];

let hosts: LabHost[] = [];
let a: LabHost;
let b: LabHost;
let c: LabHost;
let d: LabHost;
let token: string;

beforeAll(async () => {
  for (const name of ['die-a', 'die-b', 'die-c', 'die-d'])
    hosts.push(await startCrashHost({ name }, { ...GRACE, MEMBER_GRACE: '60s' }));
  [a, b, c, d] = hosts as [LabHost, LabHost, LabHost, LabHost];
}, 600_000);

afterAll(async () => {
  await closeAll(hosts);
  hosts = [];
});

/**
 * Kills at one point after the other, in this order, while the operation goes on. Resolves when the operation has
 * ended, all points were met and all that were killed are back.
 */
async function dying(kills: readonly Kill[], operation: () => Promise<unknown>): Promise<void> {
  const back: Promise<void>[] = [];
  const killing = (async () => {
    for (const [point, who] of kills) back.push(comesBack(...(await diesAt(point, who))));
  })();
  // Whoever is asked may be the one who dies.
  const [died, done] = await Promise.allSettled([killing, operation()]);
  for (const host of hosts) disarm(host);
  if (died.status === 'rejected') throw died.reason;
  if (done.status === 'rejected') throw done.reason;
  await Promise.all(back);
}

async function diesAt(point: FailPoint, who: readonly LabHost[]): Promise<[LabHost, number]> {
  for (const host of who) arm(host, { action: 'kill', point });
  const host = await waitFor(`somebody is ${point}`, () => who.find(hasFired), {
    everyMs: 20,
    timeoutMs: 120_000,
  });
  for (const other of who) disarm(other);
  console.log(`${host.name} dies ${point}`);
  return [host, await host.killPlugin()];
}

/** The engine starts it again; one that it has not found yet it disables, and a person enables it. */
async function comesBack(host: LabHost, killed: number): Promise<void> {
  await waitFor(
    `the plugin of ${host.name} has another process`,
    async () => {
      const enabled = await host.ok('plugin', 'inspect', 'openebs', '--format', '{{.Enabled}}');
      if (enabled === 'false') await host.ok('plugin', 'enable', 'openebs');
      return (await host.pluginPid()) !== killed && (await clusterOf(host)).node !== '';
    },
    { timeoutMs: 120_000 },
  );
}

const transitionFile = (host: LabHost) => join(host.lib, 'openebs/transition.json');

/** Each host has what the list of the members says of it, and nothing of what it had before. */
async function expectNothingLeft(): Promise<void> {
  const { members } = await waitForVoters(a, 3, 180_000);
  const cluster = (await clusterOf(a)).id;
  for (const host of hosts) {
    const isMember = runsOneOf(host, members);
    await waitForFormation(
      host,
      `it is ${isMember ? 'a voter' : 'a spare'} without a problem`,
      ({ role, problem }: FormationMessage, { id, etcd }) =>
        role === (isMember ? 'voter' : 'spare') && problem === null && id === cluster && etcd.usable,
      120_000,
    );
    const containers = await host.ok('ps', '-aq', '-f', 'label=openebs.role=etcd');
    expect(containers.split('\n').filter((line) => line !== '')).toHaveLength(isMember ? 1 : 0);
    const data = join(host.lib, 'openebs/etcd');
    expect(existsSync(join(data, 'member'))).toBe(isMember);
    expect(existsSync(transitionFile(host))).toBe(false);
    const former = join(data, 'former');
    if (existsSync(former)) expect(readdirSync(former).length).toBeLessThanOrEqual(3);
  }
  await waitFor(
    'no host has to run a member that is none',
    async () => {
      const duties = await recordsOf(a, '/openebs/duties/');
      return duties.every(({ value }) =>
        members.some(({ id }) => (value as { member: string }).member === id),
      );
    },
    { timeoutMs: 30_000 },
  );
  expect(await recordsOf(a, '/openebs/peers/')).toHaveLength(4);
  expect(await runOn(b, 'kept', 'cat /data/word')).toBe('alone');
}

async function drain(host: LabHost, drained: boolean): Promise<void> {
  const { node } = await clusterOf(host);
  await waitFor(
    'it is set',
    () => admin<unknown>(a, 'POST', `/v1/nodes/${node}/settings`, { drained }).then(() => true),
    { timeoutMs: 60_000 },
  );
}

/** Its member moves to another host. */
async function moves(from: LabHost, to: LabHost): Promise<void> {
  await drain(from, true);
  await waitForFormation(to, 'it votes', ({ role }) => role === 'voter', 240_000);
  await waitForFormation(from, 'it is a spare', ({ role }) => role === 'spare', 240_000);
  await drain(from, false);
}

test('a host with a volume dies as it becomes one that others can join', async () => {
  await createVolume(a, 'kept', { size: '200M' });
  await runOn(a, 'kept', 'echo alone > /data/word');
  const born = (await clusterOf(a)).id;
  await dying(
    [
      ['before etcd run', [a]],
      ['after etcd run', [a]],
    ],
    // Who is asked dies.
    () => initCluster(a).catch(() => undefined),
  );
  token = await initCluster(a);
  expect((await clusterOf(a)).id).toBe(born);
  expect(await runOn(a, 'kept', 'cat /data/word')).toBe('alone');
  for (const host of [b, c, d]) await joinCluster(host, token);
  await expectNothingLeft();
});

const moving: readonly (readonly [string, (from: LabHost, to: LabHost) => Kill[]])[] = [
  [
    'before each step',
    (from, to) => [
      ['before member add', hosts],
      ['before member join', [to]],
      ['before member promote', hosts],
      ['before member remove', hosts],
      ['before member aside', [from]],
    ],
  ],
  [
    'after each step',
    (from, to) => [
      ['after member add', hosts],
      ['after member join', [to]],
      ['after member promote', hosts],
      ['after member remove', hosts],
      ['after member aside', [from]],
    ],
  ],
  ['before the new etcd runs', (_, to) => [['before etcd run', [to]]]],
  ['when the new etcd runs', (_, to) => [['after etcd run', [to]]]],
];

test.each(moving)('a member moves to another host, and whoever does it dies %s', async (_, kills) => {
  const { members } = await waitForVoters(a, 3);
  const has = (host: LabHost) => runsOneOf(host, members);
  const to = hosts.find((host) => !has(host))!;
  const from = [c, d, b].find(has)!;
  await dying(kills(from, to), () => moves(from, to));
  await expectNothingLeft();
  const { members: now } = await formationOf(a);
  expect([runsOneOf(to, now), runsOneOf(from, now)]).toEqual([true, false]);
});

const points = ['before transition', 'after transition engine', 'after transition files'] as const;

test.each(points)('a spare leaves and joins again, and dies both times %s', async (point) => {
  const { members } = await waitForVoters(a, 3);
  const spare = hosts.find((host) => !runsOneOf(host, members))!;
  const node = (await clusterOf(spare)).node;
  await dying([[point, [spare]]], () => admin(spare, 'POST', '/v1/cluster/leave', {}));
  await waitForFormation(
    spare,
    'it is alone',
    ({ role, advertise }, { etcd }) => role === 'alone' && advertise === null && etcd.usable,
    180_000,
  );
  expect(existsSync(transitionFile(spare))).toBe(false);
  expect((await recordsOf(a, '/openebs/peers/')).map(({ key }) => key)).not.toContain(
    `/openebs/peers/${node}`,
  );
  await dying([[point, [spare]]], () => joinCluster(spare, token));
  await expectNothingLeft();
});
