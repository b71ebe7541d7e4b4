/** CLUSTER=none: one host alone, which keeps its state itself. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ClusterMessage } from '../../src/admin/messages.js';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { repository } from '../support/lab-seed.js';
import {
  askAdmin,
  createVolume,
  inside,
  listeningPorts,
  recordsOf,
  runOn,
  startIdle,
  startProductHost,
  statusOf,
} from '../support/product.js';

let host: LabHost;

beforeAll(async () => {
  host = await startProductHost({ name: 'alone' }, { CLUSTER: 'none' });
  await createVolume(host, 'db');
  await runOn(host, 'db', 'echo kept > /data/note; sync /data/note');
});

afterAll(async () => {
  await host.close();
});

const state = () => join(host.lib, 'openebs/local/state');
const etcds = () => host.ok('ps', '-aq', '--filter', 'label=openebs.role=etcd');
const volumes = () => host.ok('volume', 'ls', '-q');
const status = () => host.shell(`node ${repository}/build/docker-openebs openebs cluster status`);
const cluster = async () => JSON.parse(await askAdmin(host, '/v1/cluster')) as ClusterMessage;
const problems = async () =>
  Object.values(
    (JSON.parse(await askAdmin(host, '/v1/health')) as { problems: Record<string, string> }).problems,
  );

/** The records that stay as they are, whatever is started anew. */
async function durable() {
  const all = await recordsOf(host);
  return all.filter(({ key }) => /^\/openebs\/(cluster$|volumes\/|targets\/)/.test(key));
}

async function registered(name: string): Promise<unknown[]> {
  const found = await recordsOf(host, '/openebs/services/');
  return found.filter(({ key }) => key.startsWith(`/openebs/services/${name}/`));
}

async function setAnew(...settings: string[]): Promise<void> {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('plugin', 'set', 'openebs', ...settings);
  await host.ok('plugin', 'enable', 'openebs');
}

const works = async () => {
  await waitFor('it is well', async () => (await problems()).length === 0, { timeoutMs: 60_000 });
  await createVolume(host, 'more', { size: '200M' });
  expect(await runOn(host, 'more', 'echo well > /data/x; cat /data/x')).toBe('well');
  await host.ok('volume', 'rm', 'more');
};

test('a volume works without any etcd, and so does what is registered', async () => {
  expect(await statusOf(host, 'db')).toMatchObject({ state: 'ready', error: '' });
  await host.ok(
    'run',
    '-d',
    '--name',
    'web',
    '--restart',
    'always',
    '-p',
    '18080:80',
    '-v',
    'db:/data',
    'lab',
  );
  await waitFor('it is registered', async () => (await registered('lab')).length === 1, {
    timeoutMs: 30_000,
  });
  const kept = (await recordsOf(host)).map(({ key }) => key.split('/').slice(0, 3).join('/'));
  for (const kind of [
    'cluster',
    'nodes',
    'alive',
    'volumes',
    'targets',
    'events',
    'objects',
    'services',
    'vsms',
  ]) {
    expect(kept).toContain(`/openebs/${kind}`);
  }
  expect(await etcds()).toBe('');
  expect(await listeningPorts(host)).not.toContain('23790');
  expect(readdirSync(join(host.lib, 'openebs/etcd'))).toEqual([]);
  expect(existsSync(join(host.lib, 'openebs/certificates'))).toBe(false);
  expect((await cluster()).etcd).toMatchObject({ none: true, own: false, endpoints: [], usable: true });
  const shown = await status();
  expect(shown.stdout).toMatch(/none, no cluster: this host keeps its state itself\n[\s\S]*All is well/);
  expect(await host.shellOk('find /var/lib/openebs/local -type f ! -perm 600')).toBe('');
});

test('all of it is there after the plugin, the engine and the host were killed, ended and started', async () => {
  const before = await durable();
  expect(before.map(({ key }) => key)).toContain('/openebs/volumes/db');
  const again: [string, () => Promise<unknown>][] = [
    ['plugin killed', () => host.killPlugin()],
    ['plugin disabled', () => setAnew('LOG_LEVEL=debug')],
    ['reboot', () => host.reboot()],
    [
      'orderly reboot',
      async () => {
        await host.stopEngine();
        await host.reboot();
      },
    ],
  ];
  for (const [what, start] of again) {
    await start();
    await waitFor(
      `${what}: the container is registered`,
      async () => (await registered('lab')).length === 1,
      {
        timeoutMs: 90_000,
      },
    );
    expect(await inside(host, 'web', 'cat /data/note'), what).toBe('kept');
    expect(await durable(), what).toEqual(before);
    await works();
    const alive = (await recordsOf(host, '/openebs/alive/')).length;
    expect(alive, what).toBe(1);
  }
  expect(await etcds()).toBe('');
});

test('what a container that has ended had registered goes, also when the plugin was away meanwhile', async () => {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('rm', '-f', 'web');
  await host.ok('plugin', 'enable', 'openebs');
  await waitFor('it is gone', async () => (await registered('lab')).length === 0, { timeoutMs: 60_000 });
  const events = await recordsOf(host, '/openebs/events/');
  expect(JSON.stringify(events)).toContain('"web"');
});

test('CLUSTER=etcd above volumes of this file is refused with their number and the way back, which works', async () => {
  await startIdle(host, 'user', 'db');
  await setAnew('CLUSTER=etcd');
  const why =
    /CLUSTER=etcd, but 1 volume\(s\) are recorded in \/var\/lib\/openebs\/local .*openebs CLUSTER=none/;
  await waitFor('it is told', async () => (await problems()).some((problem) => why.test(problem)));
  expect((await host.docker('volume', 'create', '-d', 'openebs', 'new')).stderr).toMatch(why);
  expect(await volumes()).toBe('db');
  expect(await inside(host, 'user', 'cat /data/note')).toBe('kept');
  expect((await status()).stdout).toMatch(why);
  expect(await etcds()).toBe('');
  await setAnew('CLUSTER=none');
  await host.ok('rm', '-f', 'user');
  await works();
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
});

test('a file that is damaged is named, volumes that are known go on, and it is taken up when it is restored', async () => {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  const whole = readFileSync(state());
  const garbled = Buffer.from(whole);
  garbled[100]! ^= 1;
  writeFileSync(state(), garbled);
  await host.ok('plugin', 'enable', 'openebs');
  await waitFor('it is told', async () =>
    (await problems()).some((problem) => problem.includes('/var/lib/openebs/local/state is damaged at byte')),
  );
  expect((await host.docker('volume', 'create', '-d', 'openebs', 'new')).stderr).toContain('is damaged');
  expect(await volumes()).toBe('db');
  expect(await statusOf(host, 'db')).toMatchObject({ state: 'ready' });
  const shown = await status();
  expect(shown.code).toBe(1);
  expect(shown.stdout).toMatch(/NOT USABLE[\s\S]*state of this host: .*is damaged/);
  writeFileSync(state(), whole);
  await works();
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
});

test('a file that was removed is not begun anew below volumes', async () => {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.shellOk('mv /var/lib/openebs/local /var/lib/saved');
  await host.ok('plugin', 'enable', 'openebs');
  const why =
    'the file in /var/lib/openebs/local has no record of the cluster, while this host knows 1 volume';
  await waitFor('it is told', async () => (await problems()).some((problem) => problem.includes(why)));
  expect((await host.docker('volume', 'create', '-d', 'openebs', 'new')).stderr).toContain(why);
  expect(await volumes()).toBe('db');
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.shellOk('rm -r /var/lib/openebs/local; mv /var/lib/saved /var/lib/openebs/local');
  await host.ok('plugin', 'enable', 'openebs');
  await works();
});

test('without volumes it can be changed, there and back; above volumes in etcd it is refused', async () => {
  await host.ok('volume', 'rm', 'db');
  await setAnew('CLUSTER=etcd');
  await works();
  expect(await etcds()).not.toBe('');
  await createVolume(host, 'db', { size: '200M' });
  await runOn(host, 'db', 'echo etcd > /data/note; sync /data/note');
  await setAnew('CLUSTER=none');
  const why = /CLUSTER=none, but 1 volume\(s\) are recorded in etcd .*openebs CLUSTER=etcd/;
  await waitFor('it is told', async () => (await problems()).some((problem) => why.test(problem)));
  expect((await host.docker('volume', 'create', '-d', 'openebs', 'new')).stderr).toMatch(why);
  expect(await volumes()).toBe('db');
  expect(await etcds()).not.toBe('');
  await setAnew('CLUSTER=etcd');
  await works();
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('etcd');
  await host.ok('volume', 'rm', 'db');
  await setAnew('CLUSTER=none');
  await works();
  expect(await etcds()).toBe('');
});

test('with settings of an etcd it is refused by the names of both', async () => {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('plugin', 'set', 'openebs', 'ETCD_ENDPOINTS=http://127.0.0.1:2379');
  expect((await host.docker('plugin', 'enable', 'openebs')).code).not.toBe(0);
  expect(host.log()).toMatch(/CLUSTER=none uses none.*\\n.*ETCD_ENDPOINTS/);
});
