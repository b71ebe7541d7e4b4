import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { LabHost } from '../support/lab.js';
import { repository } from '../support/lab-seed.js';
import { createVolume, processesNamed, runOn, startIdle, startProductHost } from '../support/product.js';

let host: LabHost;
/** Below /usr a lab host has what the machine has. */
const cliFolder = '/var/lib/cli-plugins';

beforeAll(async () => {
  host = await startProductHost({ name: 'purge' });
});

afterAll(async () => {
  await host.close();
});

function down(settings: Readonly<Record<string, string>>): Promise<string> {
  const env = { DOCKER_HOST: 'unix:///run/docker.sock', OPENEBS_CLI_DIR: cliFolder, ...settings };
  return host.shellOk(`cd ${repository} && sh plugin/down.sh`, { env, timeoutMs: 180_000 });
}

/** What nobody needs once the plugin is gone, data apart. */
async function expectNothingRuns(): Promise<void> {
  expect(await host.ok('ps', '-aq', '--filter', 'label=openebs.role')).toBe('');
  expect(await host.ok('plugin', 'ls', '-q')).toBe('');
  expect(await host.shellOk('cut -d" " -f5 /proc/self/mountinfo | grep openebs || true')).toBe('');
  expect(await host.loops()).toEqual([]);
  expect(await processesNamed(host, 'tgtd', 'qemu-storage-daemon', 'etcd', 'openebs')).toEqual([]);
  expect(existsSync(join(host.run, 'openebs'))).toBe(false);
}

test('make down removes what runs and keeps the data', async () => {
  await host.shellOk(`mkdir ${cliFolder}; touch ${cliFolder}/docker-openebs ${cliFolder}/docker-compose`);
  await createVolume(host, 'kept');
  await runOn(host, 'kept', 'echo kept > /data/note');
  await startIdle(host, 'user', 'kept');
  await expect(down({})).rejects.toThrow(/user/); // it would lose its volume
  await host.ok('rm', '-f', 'user');
  await down({});
  await expectNothingRuns();
  expect(await host.shellOk(`ls ${cliFolder}`)).toBe('docker-compose');
  expect(await host.shellOk('find /var/lib/openebs -name disk.img | wc -l')).toBe('1');
});

test('after make down PURGE=1 nothing of ours is left, not even of volumes in use', async () => {
  const again = await startProductHost({ name: 'purge2' });
  await host.close();
  host = again;
  await createVolume(host, 'idle');
  await createVolume(host, 'busy');
  await startIdle(host, 'user', 'busy');
  await host.ok('exec', 'user', 'sh', '-c', 'echo x > /data/x');
  await down({ PURGE: '1' });
  await expectNothingRuns();
  expect(await host.ok('images', '--format', '{{.Repository}}')).not.toMatch(/openebs/);
  expect(await host.shellOk('ls /var/lib /run')).not.toMatch(/openebs/);
  expect(await host.ok('ps', '-aq')).toBe('');
  expect(await host.shellOk('grep -rl openebs /etc/docker || true')).toBe('');
});
