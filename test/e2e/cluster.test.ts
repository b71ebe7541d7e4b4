import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.js';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import type { ClusterMessage, NodesMessage } from '../../src/admin/messages.js';
import {
  askAdmin,
  createVolume,
  driverCall,
  recordsOf,
  runOn,
  statusOf,
  tidy,
  tryOn,
} from '../support/product.js';

let cluster: Cluster;
let hosts: readonly LabHost[];
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  cluster = await startCluster(['a', 'b', 'c'], (host) =>
    host.name === 'b' ? { TARGET_ADDRESS: '127.0.0.1' } : {},
  );
  hosts = cluster.hosts;
  [a, b, c] = hosts as [LabHost, LabHost, LabHost];
}, 240_000);

afterEach(async () => {
  for (const host of hosts) await tidy(host);
});

afterAll(async () => {
  await cluster.close();
});

const volumesOn = (host: LabHost): Promise<string> => host.ok('volume', 'ls', '-q');
const keysBelow = async (prefix: string): Promise<string[]> =>
  (await recordsOf(c)).map(({ key }) => key).filter((key) => key.startsWith(`/openebs/${prefix}/`));

const statesSeenBy = async (host: LabHost): Promise<string> => {
  const { nodes } = JSON.parse(await askAdmin(host, '/v1/nodes')) as NodesMessage;
  return nodes.map(({ hostname, state, self }) => `${hostname} ${state}${self ? ' self' : ''}`).join(', ');
};

const clusterSeenBy = async (host: LabHost) =>
  JSON.parse(await askAdmin(host, '/v1/cluster')) as ClusterMessage;

test('all hosts tell of one cluster, and of each other', async () => {
  // The first host writes the record once it has imported the image.
  const clusters = await waitFor('all have seen its record', async () => {
    const seen = await Promise.all(hosts.map(clusterSeenBy));
    if (seen.every(({ id, etcd }) => id !== null && etcd.usable)) return seen;
    throw new Error(JSON.stringify(seen));
  });
  expect(new Set(clusters.map(({ id }) => id)).size).toBe(1);
  expect(clusters.map(({ etcd }) => etcd.own)).toEqual([false, false, false]);
  expect(await statesSeenBy(b)).toBe('a alive, b alive self, c alive');
});

test('pain: duplicate volumes across hosts: many creates of one name at once make one volume, and all succeed', async () => {
  const calls = [...hosts, ...hosts, ...hosts].map((host) =>
    host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=200M', 'db'),
  );
  for (const { code, stderr } of await Promise.all(calls)) expect(stderr + String(code)).toBe('0');
  expect(await keysBelow('volumes')).toEqual(['/openebs/volumes/db']);
  expect(await keysBelow('targets')).toHaveLength(1);
  const seen = await Promise.all(hosts.map((host) => statusOf(host, 'db')));
  expect(new Set(seen.map(({ id, node, target, state }) => [id, node, target, state].join())).size).toBe(1);
  const targets = await Promise.all(
    hosts.map((host) => host.ok('ps', '-q', '-f', 'label=openebs.role=target')),
  );
  expect(targets.filter((found) => found !== '')).toHaveLength(1);
});

test('pain: duplicate volumes across hosts: with other options one makes it, and the others are told the difference', async () => {
  const answers = await Promise.all(
    hosts.map((host, index) =>
      driverCall(host, 'Create', { Name: 'db', Opts: { size: `${String(index + 1)}G` } }),
    ),
  );
  const errors = answers.map((answer) => String(answer['Err'])).filter((text) => text !== '');
  expect(errors).toHaveLength(2);
  for (const text of errors)
    expect(text).toMatch(/^volume db exists already: size is \d GiB .*, asked for \d GiB/);
  expect(await keysBelow('volumes')).toHaveLength(1);
});

test('pain: duplicate volumes across hosts: what is removed on one is gone on all, and can be made anew there', async () => {
  await createVolume(a, 'db', { size: '200M' });
  const first = await statusOf(b, 'db');
  for (const host of hosts) expect(await volumesOn(host)).toBe('db');
  await c.ok('volume', 'rm', 'db');
  for (const host of hosts) {
    await waitFor('the volume is not listed', async () => (await volumesOn(host)) === '');
    expect((await host.docker('volume', 'inspect', 'db')).stderr).toMatch(/no such volume/i);
  }
  await createVolume(c, 'db', { size: '400M', fs: 'xfs' });
  const second = await statusOf(a, 'db');
  expect(second).toMatchObject({ size: '400 MiB', fs: 'xfs', state: 'ready' });
  expect(second.id).not.toBe(first.id);
  await a.shellOk(`test ! -e /var/lib/openebs/pools/default/${first.id}`);
});

test('what one host writes another reads, and a third one removes', async () => {
  await createVolume(a, 'db', { size: '200M' });
  for (const [index, host] of [b, c, a, b].entries()) {
    await runOn(
      host,
      'db',
      `test $(cat /data/turn 2>/dev/null || echo 0) = ${String(index)}; echo ${String(index + 1)} > /data/turn`,
    );
  }
  expect(await statusOf(c, 'db')).toMatchObject({ attachedTo: '' });
  await c.ok('volume', 'rm', 'db');
  expect(await a.ok('ps', '-aq', '-f', 'label=openebs.role=target')).toBe('');
});

test('a volume that is served on loopback is refused on other hosts with what to set, and moves when that is set', async () => {
  await createVolume(b, 'db', { size: '200M' });
  await runOn(b, 'db', 'echo kept > /data/file');
  const refused = await tryOn(a, 'db', 'true');
  expect(refused.stderr).toMatch(
    /served on loopback \(127\.0\.0\.1\) of node b \(.*set TARGET_ADDRESS there/,
  );
  expect(await statusOf(a, 'db')).toMatchObject({ attachedTo: '' });
  await b.ok('plugin', 'disable', '-f', 'openebs');
  await b.ok('plugin', 'set', 'openebs', `TARGET_ADDRESS=${b.address}`);
  await b.ok('plugin', 'enable', 'openebs');
  await waitFor(
    'the target has the new address',
    async () => (await statusOf(a, 'db')).target.startsWith(`${b.address}:`),
    { timeoutMs: 60_000 },
  );
  expect(await runOn(a, 'db', 'cat /data/file')).toBe('kept');
});

test('a volume is removed while its host is down: gone for the others, its name kept until that host has finished', async () => {
  await createVolume(a, 'db', { size: '200M' });
  const { id } = await statusOf(b, 'db');
  await a.powerOff();
  await waitFor('the others know that a is away', async () => (await keysBelow('alive')).length === 2, {
    timeoutMs: 60_000,
  });
  expect(await statesSeenBy(c)).toBe('a away, b alive, c alive self');
  const lost = await tryOn(c, 'db', 'true');
  expect(lost.stderr).toMatch(/its data is on node a \(.*has been away for \d+ s: bring that node back/);
  await b.ok('volume', 'rm', 'db');
  expect(await volumesOn(b)).toBe('');
  const again = await b.docker('volume', 'create', '-d', 'openebs', '-o', 'size=300M', 'db');
  expect(again.stderr).toMatch(/is being removed: node a \(.*is away and finishes that when it is back/);
  await a.powerOn();
  await waitFor('a has removed it', async () => (await keysBelow('volumes')).length === 0, {
    timeoutMs: 90_000,
  });
  await a.shellOk(`test ! -e /var/lib/openebs/pools/default/${id}`);
  await createVolume(b, 'db', { size: '300M' });
  expect(await statusOf(a, 'db')).toMatchObject({ size: '300 MiB' });
});
