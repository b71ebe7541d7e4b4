import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { exec, sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  driverCall,
  expectTraces,
  inside,
  recordsOf,
  runOn,
  startIdle,
  startProductHost,
  startWriter,
  statusOf,
  tidy,
  tracesOf,
  type Traces,
  tryOn,
  type Writer,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

/** The volume gives back what was kept in it, and takes more. */
function works(volume: string): Promise<true> {
  return waitFor(
    `${volume} works`,
    async () => {
      const result = await tryOn(host, volume, 'cat /data/kept; echo ok > /data/ok');
      if (result.code === 0 && result.stdout.trim() === 'kept') return true;
      throw new Error(result.stderr + result.stdout);
    },
    { timeoutMs: 60_000, everyMs: 1000 },
  );
}

async function volumeWithData(name: string): Promise<string> {
  await createVolume(host, name, { size: '100M' });
  await runOn(host, name, 'echo kept > /data/kept; sync /data/kept');
  return (await statusOf(host, name)).id;
}

describe('what people do with docker', () => {
  beforeAll(async () => {
    host = await startProductHost({ name: 'habits' }, { DRAIN_TIMEOUT: '5s' });
    await createVolume(host, 'first');
    await host.ok('volume', 'rm', 'first');
    before = await tracesOf(host);
  });

  afterEach(async () => {
    await tidy(host);
    await expectTraces(host, before);
  });

  afterAll(async () => {
    await host.close();
  });

  test('docker rm -f of every container: the data plane comes back, the data is there', async () => {
    for (const name of ['db', 'idle']) await volumeWithData(name);
    await startIdle(host, 'user', 'db');
    const all = (await host.ok('ps', '-aq')).split('\n');
    await host.ok('rm', '-f', ...all);
    await works('db');
    await works('idle');
  });

  test('a container of the data plane that nobody asked for, or who did is gone, does not stay', async () => {
    const image = await host.ok('inspect', '--format', '{{.Config.Image}}', 'openebs-etcd');
    const name = 'openebs-target-v000000000';
    await host.ok('create', '--name', name, '--label', 'openebs.role=target', image, 'target');
    await waitFor('it is gone', async () => (await host.ok('ps', '-aq', '--filter', `name=${name}`)) === '', {
      timeoutMs: 60_000,
      everyMs: 1000,
    });
  });

  test('docker stop of every container, then prune of all there is: images, containers and data come back', async () => {
    for (const name of ['db', 'idle']) await volumeWithData(name);
    await startIdle(host, 'user', 'db');
    const images = join(host.dir, 'lab.tar');
    await host.ok('save', '-o', images, 'lab');
    await host.ok('stop', '-t', '2', ...(await host.ok('ps', '-q')).split('\n'));
    await host.ok('system', 'prune', '-af', '--volumes');
    await host.ok('image', 'prune', '-af');
    await host.ok('network', 'prune', '-f');
    await host.ok('load', '-i', images);
    await works('db');
    await works('idle');
    expect(await host.ok('images', '-q', 'openebs/dataplane')).not.toBe('');
  });

  test('docker prune of all there is while volumes are in use takes nothing of them', async () => {
    await volumeWithData('db');
    const writer = await startWriter(host, 'writer', 'db');
    await host.ok('system', 'prune', '-af', '--volumes');
    await writer.goesOn(1);
    await writer.finish();
    await host.ok('rm', 'writer');
    await works('db');
  });

  test('docker pause of the target and of etcd: who writes waits, calls say why, and all goes on', async () => {
    const id = await volumeWithData('db');
    const writer = await startWriter(host, 'writer', 'db');
    await writer.goesOn(1);
    await host.ok('pause', 'openebs-etcd', `openebs-target-${id}`);
    const refused = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=100M', 'new');
    expect(refused.stderr).toMatch(/etcd.*(reached|answer)/s);
    expect(await host.ok('volume', 'inspect', '--format', '{{.Status.fs}}', 'db')).toBe('ext4');
    await host.ok('unpause', 'openebs-etcd', `openebs-target-${id}`);
    await writer.goesOn(1);
    await writer.finish();
    await host.ok('rm', 'writer');
    await works('db');
  });

  test.each([['restart', '-t', '1'], ['stop', '-t', '1'], ['kill']])(
    'docker %s of ours while they are in use',
    async (...command) => {
      const id = await volumeWithData('db');
      await startIdle(host, 'user', 'db');
      for (const name of ['openebs-etcd', `openebs-target-${id}`]) await host.ok(...command, name);
      await inside(host, 'user', 'echo more > /data/more; sync /data/more');
      // Without its initiator the user has a dead device: it is told, and cured by a new start.
      await host.ok(...command, `openebs-initiator-${id}`);
      await host.docker('exec', 'user', 'sh', '-c', 'echo lost > /data/lost; sync /data/lost');
      await host.ok('rm', '-f', 'user');
      await works('db');
      expect(await runOn(host, 'db', 'cat /data/more')).toBe('more');
    },
  );

  test('docker rename of ours, and update --restart=no: they are found again', async () => {
    const id = await volumeWithData('db');
    await host.ok('update', '--restart=no', `openebs-target-${id}`, 'openebs-etcd');
    await host.ok('kill', `openebs-target-${id}`, 'openebs-etcd');
    await works('db');
    await host.ok('rename', `openebs-target-${id}`, 'mine');
    await works('db');
    await host.ok('volume', 'rm', 'db');
  });

  test('/run/openebs and the cache removed while volumes are in use, and the plugin started again', async () => {
    await volumeWithData('db');
    const writer = await startWriter(host, 'writer', 'db');
    await writer.goesOn(1);
    rmSync(join(host.run, 'openebs'), { recursive: true });
    rmSync(join(host.lib, 'openebs/cache'), { recursive: true });
    await startIdle(host, 'second', 'db');
    await waitFor('the admin socket is back', () => existsSync(join(host.run, 'openebs/admin.sock')));
    expect((await recordsOf(host)).length).toBeGreaterThan(0);
    await host.ok('plugin', 'disable', '-f', 'openebs');
    await host.ok('plugin', 'enable', 'openebs');
    await writer.goesOn(1);
    await startIdle(host, 'third', 'db');
    await host.ok('rm', '-f', 'second', 'third');
    await writer.goesOn(1);
    await writer.finish();
    await host.ok('rm', 'writer');
    await works('db');
  });

  test('docker volume rm -f while the plugin is disabled forgets nothing', async () => {
    await volumeWithData('db');
    await host.ok('plugin', 'disable', '-f', 'openebs');
    await host.docker('volume', 'rm', '-f', 'db');
    await host.ok('plugin', 'enable', 'openebs');
    await works('db');
    expect(await host.ok('volume', 'ls', '-q')).toBe('db');
  });
});

/** A clock of the plugin's own: the machine's is shared by all lab hosts, and cannot be set. */
async function setPluginClock(offset: string): Promise<void> {
  const id = await host.ok('plugin', 'inspect', 'openebs', '--format', '{{.Id}}');
  writeFileSync(join(host.lib, 'docker/plugins', id, 'rootfs/etc/faketimerc'), `${offset}\n`);
}

const dayMs = 24 * 60 * 60_000;

/** Steps the clock under the running plugin. */
async function stepPluginClock(days: number): Promise<void> {
  await setPluginClock(`${days < 0 ? '' : '+'}${String(days)}d`);
  await waitFor('the plugin logs by the new clock', async () => {
    await driverCall(host, 'List', {}); // is logged
    const times = [...host.log().matchAll(/\\"time\\":\\"([^"\\]+)/g)];
    const offset = Date.parse(times.at(-1)?.[1] ?? '') - Date.now();
    return Math.abs(offset - days * dayMs) < dayMs / 24;
  });
}

/** What a clock may break: leases, deadlines, certificates. */
async function allGoesOn(writer: Writer): Promise<void> {
  await works('db');
  await createVolume(host, 'new', { size: '100M' });
  await runOn(host, 'new', 'echo ok > /data/ok');
  await host.ok('volume', 'rm', 'new');
  await writer.goesOn(1);
  const alive = (await recordsOf(host)).filter(({ key }) => key.includes('/alive/'));
  expect(alive).toHaveLength(1);
}

async function preloadClock(): Promise<void> {
  const id = await host.ok('plugin', 'inspect', 'openebs', '--format', '{{.Id}}');
  const folder = join(host.lib, 'docker/plugins', id);
  const library = await exec('sh', ['-c', 'ls /usr/lib/*/faketime/libfaketime.so.1']);
  mkdirSync(join(folder, 'rootfs/opt'), { recursive: true });
  copyFileSync(library.stdout.trim(), join(folder, 'rootfs/opt/libfaketime.so.1'));
  writeFileSync(join(folder, 'rootfs/etc/faketimerc'), '+0\n');
  await host.stopEngine();
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as {
    plugin: { Settings: { Env: string[] } };
  };
  config.plugin.Settings.Env.push(
    'LD_PRELOAD=/opt/libfaketime.so.1',
    'FAKETIME_DONT_FAKE_MONOTONIC=1',
    'FAKETIME_CACHE_DURATION=1',
  );
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  await host.startEngine();
}

describe('the clock of the plugin', () => {
  let writer: Writer;

  beforeAll(async () => {
    host = await startProductHost({ name: 'clock' }, { LOG_LEVEL: 'debug' });
    await preloadClock();
    await volumeWithData('db');
    writer = await startWriter(host, 'writer', 'db');
  });

  afterAll(async () => {
    await host.close();
  });

  test('that steps while it runs, two days back, ahead and right again, costs nothing', async () => {
    const pid = await host.pluginPid();
    for (const days of [-2, 2, 0]) {
      await stepPluginClock(days);
      await allGoesOn(writer);
      await sleep(20_000); // longer than the lease of a node
      await allGoesOn(writer);
    }
    expect(await host.pluginPid(), 'it went on all the while').toBe(pid);
  });

  test('that is a day behind at its start, then a year ahead, then right costs nothing', async () => {
    for (const offset of ['-1d', '+1y', '-1y', '+0']) {
      await setPluginClock(offset);
      await host.ok('plugin', 'disable', '-f', 'openebs');
      await host.ok('plugin', 'enable', 'openebs');
      await works('db');
      const pid = String(await host.pluginPid());
      expect(await host.shellOk(`cat /proc/${pid}/maps`)).toContain('libfaketime');
      await allGoesOn(writer);
    }
    await writer.finish();
    await host.ok('rm', 'writer');
    // All certificates, whenever they were made, are good now.
    await host.ok('rm', '-f', 'openebs-etcd');
    await works('db');
  });
});
