import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { createVolume, exchange, runOn, startProductHost } from '../support/product.js';

let host: LabHost;
let cache: string;

const SHOWN = '{{.Labels.team}} {{.Options.size}} {{.Status.fs}}';
const RIGHT = 'blue 200M ext4';

beforeAll(async () => {
  host = await startProductHost({ name: 'lookup' });
  cache = join(host.lib, 'openebs/cache/records.json');
  await host.ok('volume', 'create', '-d', 'openebs', '--label', 'team=blue', '-o', 'size=200M', 'db');
  await runOn(host, 'db', 'echo kept >/data/kept; sync /data/kept');
});

afterAll(async () => {
  await host.close();
});

const inspect = () => host.docker('volume', 'inspect', '--format', SHOWN, 'db');

async function health(): Promise<{ cache: { state: string; reason: string } }> {
  const [, text] = await exchange(join(host.run, 'openebs/admin.sock'), 'GET', '/v1/health');
  return JSON.parse(text) as { cache: { state: string; reason: string } };
}

/** As a plugin finds it that starts after the file was changed. */
async function restartOver(change: () => void): Promise<void> {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  change();
  await host.ok('plugin', 'enable', 'openebs');
}

test('pain: volumes or labels forgotten after a restart: labels and options outlive a hundred outages of etcd', async () => {
  for (let round = 0; round < 100; round += 1) {
    await host.ok('pause', 'openebs-etcd');
    expect((await inspect()).stdout.trim()).toBe(RIGHT);
    await host.ok('unpause', 'openebs-etcd');
  }
  await restartOver(() => undefined);
  expect((await inspect()).stdout.trim()).toBe(RIGHT);
});

const damages: [string, string, (text: string) => string | null][] = [
  ['cut off', 'rebuilt', (text) => text.slice(0, text.length / 2)],
  ['empty', 'rebuilt', () => ''],
  ['altered', 'rebuilt', (text) => text.replace('ext4', 'ext3')],
  ['of another kind', 'rebuilt', () => '{"volumes":[]}'],
  ['missing', 'missing', () => null],
];

test.each(damages)('a cache that is %s is read anew from etcd, and told', async (_what, state, damage) => {
  await restartOver(() => {
    const text = damage(readFileSync(cache, 'utf8'));
    if (text === null) rmSync(cache);
    else writeFileSync(cache, text);
  });
  await waitFor('the volume is shown', async () => (await inspect()).stdout.trim() === RIGHT);
  const told = await waitFor('health tells', async () => {
    const { cache: now } = await health();
    return now.state === state && now;
  });
  if (state === 'rebuilt') expect(told.reason).toContain('records.json');
  expect(await runOn(host, 'db', 'cat /data/kept')).toBe('kept');
});

test('without cache and without etcd no volume is called absent, and all is known again when etcd is back', async () => {
  await host.ok('pause', 'openebs-etcd');
  await restartOver(() => {
    writeFileSync(cache, 'garbage');
  });
  const blind = await inspect();
  expect(blind.code).not.toBe(0);
  expect((await host.docker('volume', 'rm', 'db')).code).not.toBe(0);
  await host.ok('unpause', 'openebs-etcd');
  await waitFor('the volume is shown, with what Docker itself keeps of it', async () => {
    const { stdout, stderr } = await inspect();
    if (stdout.trim() === RIGHT) return true;
    throw new Error(stdout + stderr);
  });
  expect(await runOn(host, 'db', 'cat /data/kept')).toBe('kept');
});

test('a new volume with the name of one that is known elsewhere only is refused while etcd is away', async () => {
  await host.ok('pause', 'openebs-etcd');
  const refused = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=64M', 'late');
  await host.ok('unpause', 'openebs-etcd');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/etcd/);
  await createVolume(host, 'late', { size: '64M' });
});
