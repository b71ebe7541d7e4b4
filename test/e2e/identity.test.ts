import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { createVolume, inside, runOn, startIdle, startProductHost, statusOf } from '../support/product.js';

let host: LabHost;

beforeAll(async () => {
  host = await startProductHost({ name: 'identity' }, { NODE_ID: 'rack-1' });
  await createVolume(host, 'db');
  await runOn(host, 'db', 'echo kept > /data/note');
});

afterAll(async () => {
  await host.close();
});

async function setAnew(...settings: string[]): Promise<void> {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('plugin', 'set', 'openebs', ...settings);
  await host.ok('plugin', 'enable', 'openebs');
}

test('a NODE_ID that orphans volumes is refused with both names and the way back, which works', async () => {
  await startIdle(host, 'user', 'db');
  await setAnew('NODE_ID=rack-2');
  const refused = await host.docker('run', '--rm', '-v', 'db:/data', 'lab', 'true');
  expect(refused.stderr).toContain('"rack-2"');
  expect(refused.stderr).toContain('volumes (db) know it as "rack-1"');
  expect(refused.stderr).toContain('docker plugin set NODE_ID=rack-1');
  const create = await host.docker('volume', 'create', '-d', 'openebs', 'more');
  expect(create.stderr).toContain('"rack-1"');
  expect(await host.ok('volume', 'ls', '-q')).toBe('db');
  expect(await statusOf(host, 'db')).toMatchObject({
    node: 'rack-1',
    error: expect.stringContaining('rack-2') as string,
  });
  expect(await inside(host, 'user', 'cat /data/note')).toBe('kept');
  await setAnew('NODE_ID=rack-1');
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
  await host.ok('rm', '-f', 'user');
});

test('an emptied NODE_ID, and an engine with another ID, keep the name that the host has', async () => {
  const id = await host.ok('info', '--format', '{{.ID}}');
  await setAnew('NODE_ID=');
  await host.stopEngine();
  await host.shellOk('rm -f /var/lib/docker/engine-id /etc/docker/key.json');
  await host.startEngine();
  expect(await host.ok('info', '--format', '{{.ID}}')).not.toBe(id);
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
  expect(await statusOf(host, 'db')).toMatchObject({ node: 'rack-1', error: '' });
});

test('a state directory whose disk is not mounted yet at boot is waited for, and no second cluster is begun', async () => {
  await host.shellOk('cp -a /var/lib/openebs/node.json /var/lib/node.json');
  await host.reboot(async () => {
    await rename(join(host.lib, 'openebs'), join(host.lib, 'away'));
    // An empty disk has this before anything else.
    await mkdir(join(host.lib, 'openebs', 'lost+found'), { recursive: true });
  });
  await waitFor('the plugin tells that its state is not there', () =>
    host.log().includes('/var/lib/openebs has nothing of the plugin, but this host has its containers'),
  );
  expect(await host.shellOk('cd /var/lib/openebs; find . -type f')).toBe('');
  // The plugin makes its directories anew at each try: never move into one of these.
  await host.shellOk(
    'until rm -rf /var/lib/openebs && mv -T /var/lib/away /var/lib/openebs; do test -d /var/lib/away; done',
  );
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
  await host.shellOk('cmp /var/lib/node.json /var/lib/openebs/node.json');
});

test('a state directory that was replaced by a link is refused by its name, and works again as a directory', async () => {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.shellOk('mv /var/lib/openebs /var/lib/big; ln -s /var/lib/big /var/lib/openebs');
  await host.ok('plugin', 'enable', 'openebs');
  const refused = await host.docker('volume', 'create', '-d', 'openebs', 'more');
  expect(refused.stderr).toContain('/var/lib/openebs is a symbolic link');
  await host.shellOk('rm /var/lib/openebs; mv -T /var/lib/big /var/lib/openebs');
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
});

test('another ETCD_PORT reaches the etcd that is there, with all its records, and the former port is free', async () => {
  const ports = async () =>
    (await host.shellOk('ss -Hltn | grep -oE "127.0.0.1:2[0-9]+" | sort')).split('\n');
  expect(await ports()).toEqual(['127.0.0.1:23790', '127.0.0.1:23791']);
  await setAnew('ETCD_PORT=24790');
  await createVolume(host, 'more');
  expect(await ports()).toEqual(['127.0.0.1:24790', '127.0.0.1:24791']);
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
  await host.ok('volume', 'rm', 'more');
});

test('without volumes the name can be changed', async () => {
  await host.ok('volume', 'rm', 'db');
  await setAnew('NODE_ID=rack-3');
  await createVolume(host, 'db');
  expect(await statusOf(host, 'db')).toMatchObject({ node: 'rack-3', error: '' });
  await host.ok('volume', 'rm', 'db');
});
