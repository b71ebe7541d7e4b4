/** A newcomer forms a cluster with the commands of README.md, looks at it, and takes a host out again. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openebs, withCli } from '../support/cli.js';
import { waitFor } from '../support/exec.js';
import type { Check } from '../../src/cli/doctor/check.js';
import { closeAll, clusterOf, GRACE, waitForVoters } from '../support/forming.js';
import type { LabHost } from '../support/lab.js';
import { createVolume, runOn, startIdle, startProductHost, statusOf } from '../support/product.js';

let hosts: LabHost[] = [];
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  hosts = [];
  for (const name of ['one', 'two', 'three'])
    hosts.push(await startProductHost({ name, bootScript: withCli() }, GRACE));
  [a, b, c] = hosts as [LabHost, LabHost, LabHost];
}, 300_000);

afterAll(() => closeAll(hosts));

async function well(host: LabHost, words: string): Promise<string> {
  const { code, stdout, stderr } = await openebs(host, words);
  expect(code, `docker openebs ${words}\n${stdout}\n${stderr}`).toBe(0);
  return stdout.trim();
}

let line = '';

test('init prints a line, and each other host joins with it', async () => {
  await createVolume(a, 'db', { size: '200M' });
  const told = await well(a, `cluster init --advertise ${a.address}`);
  line = /docker openebs (cluster join openebs-join-1-\S+)/.exec(told)?.[1] ?? '';
  expect(line, told).not.toBe('');
  await well(b, line);
  await well(c, line);
  // Each host looks every two seconds.
  for (const host of hosts) await waitForVoters(host, 3);
  expect(await well(b, 'cluster status')).toMatch(/3 of 3[^]*All is well\./);
  expect(await well(c, 'node ls -q')).toMatch(/^.+\n.+\n.+$/);
  await runOn(c, 'db', 'echo word > /data/word');
  expect(await runOn(b, 'db', 'cat /data/word')).toBe('word');
});

test('the same once more changes nothing, and what is wrong is told', async () => {
  await well(a, `cluster init --advertise ${a.address}`);
  await well(b, line);
  for (const [words, told] of [
    ['cluster init --advertise 127.0.0.2', 'cannot be advertised'],
    ['cluster join openebs-join-1-nonsense', 'no token to join with'],
    ['cluster leave', 'still needed: the data of 1 volume(s) is there: db'],
    ['cluster recover --confirm x', "is not the cluster's ID"],
    ['cluster restore /etc/passwd --confirm x', "is not the cluster's ID"],
    ['node drain nobody', 'nobody'],
  ] as const) {
    const { code, stderr } = await openebs(a, words);
    expect(stderr, words).toContain(told);
    expect(code, words).not.toBe(0);
  }
});

test('tokens are listed and revoked', async () => {
  const [id = ''] = (await well(a, 'cluster token ls -q')).split('\n').slice(-1);
  const token = await well(b, 'cluster token create -q --ttl 2m');
  expect(token).toMatch(/^openebs-join-1-/);
  await well(c, `cluster token revoke ${id}`);
  expect((await well(a, 'cluster token ls -q')).split('\n')).not.toContain(id);
});

test('the doctor names the port of another host that a firewall has closed', async () => {
  const checks = async (): Promise<readonly Check[]> => {
    const { stdout } = await openebs(a, 'doctor --format json');
    return (JSON.parse(stdout) as { checks: Check[] }).checks;
  };
  const of = (name: string, found: readonly Check[]) =>
    found.filter((check) => check.name === name).map(({ state, found: what }) => `${state} ${what}`);
  const open = await checks();
  expect(of('other hosts', open)).toEqual(['ok 2 hosts answer at the ports of etcd and of joining']);
  expect(of('clocks', open)).toEqual([expect.stringMatching(/^ok 2 other hosts within /)]);
  await b.shellOk('iptables -I INPUT -i eth0 -p tcp --dport 23791 -j DROP');
  try {
    const closed = (await checks()).filter(({ name }) => name === 'other hosts');
    expect(closed).toEqual([
      expect.objectContaining({
        state: 'fail',
        found: `two, ${b.address}: 23791 (members of etcd): no answer within 3 s`,
        todo: expect.stringContaining('firewall') as unknown,
      }),
    ]);
  } finally {
    await b.shellOk('iptables -D INPUT -i eth0 -p tcp --dport 23791 -j DROP');
  }
  await waitForVoters(a, 3);
});

/** What runs for the cluster on a host, and whether its plugin is enabled. */
async function whatRuns(host: LabHost): Promise<string> {
  const plugin = await host.ok('plugin', 'ls', '--format', '{{.Name}} {{.Enabled}}');
  return `${plugin}; ${await host.ok('ps', '-aq', '--filter', 'label=openebs.role')}`;
}

test('the cluster is taken down with one command, and comes back', async () => {
  await startIdle(b, 'user', 'db');
  const refused = await openebs(c, 'cluster down');
  expect(refused.stderr).toContain('containers use 1 volume(s): db (on node');
  expect((await statusOf(a, 'db')).attachedTo).not.toBe('');
  await b.ok('rm', '-f', 'user');
  expect(await well(c, 'cluster down')).toContain('all data is kept');
  for (const host of hosts)
    await waitFor(
      `nothing runs on ${host.name}`,
      async () => (await whatRuns(host)) === 'openebs:latest false; ',
      { timeoutMs: 60_000 },
    );
  expect(await well(c, 'cluster down')).toContain('nothing of it is left to take down here');
  for (const host of hosts) await host.ok('plugin', 'enable', 'openebs');
  for (const host of hosts) await waitForVoters(host, 3);
  expect(await runOn(b, 'db', 'cat /data/word')).toBe('word');
});

test('a backup is made and listed; a host leaves, and one that is gone is taken out', async () => {
  const { file } = JSON.parse(await well(a, 'cluster backup --format json')) as { file: string };
  expect(await well(a, 'cluster backup ls -q')).toContain(file);
  const id = (await well(c, 'node ls -q --format table')).split('\n');
  expect(id).toHaveLength(3);
  await well(c, 'cluster leave');
  await waitForVoters(a, 1);
  expect(await well(a, 'node ls -q')).toMatch(/^.+\n.+$/);
  await b.powerOff();
  const dead = JSON.parse(await well(a, 'node ls --format json')) as {
    nodes: { id: string; self: boolean }[];
  };
  const gone = dead.nodes.find(({ self }) => !self)!.id;
  const early = await openebs(a, `cluster remove-node ${gone}`);
  if (early.code !== 0) {
    expect(early.stderr).toContain('is alive');
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    await well(a, `cluster remove-node ${gone}`);
  }
  expect(await well(a, 'node ls -q')).toMatch(/^.+$/);
  expect(await runOn(a, 'db', 'cat /data/word')).toBe('word');
});

test('the last host ends with its data, once that is confirmed', async () => {
  const unconfirmed = await openebs(a, 'cluster down --purge');
  expect(unconfirmed.stderr).toMatch(/has to be confirmed.*--confirm/);
  expect(await runOn(a, 'db', 'cat /data/word')).toBe('word');
  const { id } = await clusterOf(a);
  expect(await well(a, `cluster down --purge --confirm ${String(id)}`)).toContain('no data is left');
  await waitFor('nothing runs', async () => (await whatRuns(a)) === 'openebs:latest false; ');
  expect(await a.shellOk('ls -A /var/lib/openebs')).toBe('');
  await a.ok('plugin', 'enable', 'openebs');
  await waitFor('it has begun anew', async () => (await clusterOf(a)).etcd.usable, { timeoutMs: 60_000 });
  expect((await clusterOf(a)).id).not.toBe(id);
  expect(await a.ok('volume', 'ls', '-q')).toBe('');
});
