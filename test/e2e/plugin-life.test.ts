import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, startLabHost } from '../support/lab.js';
import { installFromRegistry, startRegistry } from '../support/lab-seed.js';
import { laterImage, laterName, laterVersion, registryWithLater } from '../support/plugin-variant.js';
import {
  createVolume,
  exchange,
  inside,
  recordsOf,
  runOn,
  startIdle,
  startWriter,
  statusOf,
  verifyWritten,
} from '../support/product.js';

let host: LabHost;

beforeAll(async () => {
  const storage = await registryWithLater();
  host = await startLabHost({ name: 'plugin-life' });
  await startRegistry(host, storage);
  await install();
});

afterAll(async () => {
  await host.close();
});

async function install(): Promise<void> {
  await installFromRegistry(host);
  await host.ok('plugin', 'enable', 'openebs');
}

interface Health {
  readonly healthy: boolean;
  readonly image: { readonly current: string; readonly older: readonly { readonly container: string }[] };
}

async function health(): Promise<Health> {
  const [, text] = await exchange(join(host.run, 'openebs/admin.sock'), 'GET', '/v1/health');
  return JSON.parse(text) as Health;
}

/** What a container is and since when it runs: the same text means that nobody touched it. */
function lifeOf(container: string): Promise<string> {
  return host.ok('inspect', '--format', '{{.Id}} {{.State.StartedAt}} {{.RestartCount}}', container);
}

function imageOf(container: string): Promise<string> {
  return host.ok('inspect', '--format', '{{.Config.Image}}', container);
}

async function rolesOf(volume: string): Promise<[target: string, initiator: string]> {
  const { id } = await statusOf(host, volume);
  return [`openebs-target-${id}`, `openebs-initiator-${id}`];
}

/** The engine says unmount to nobody when the plugin was disabled meanwhile: what it left is found by itself. */
async function isGivenBack(volume: string): Promise<void> {
  await waitFor(
    `${volume} is given back`,
    async () => {
      const status = await statusOf(host, volume);
      return (
        status.attachedTo === '' &&
        !(await host.ok('ps', '--format', '{{.Names}}')).includes(`initiator-${status.id}`)
      );
    },
    { timeoutMs: 150_000, everyMs: 500 },
  );
}

test('a plugin with volumes is not disabled by accident: the engine says that it is in use', async () => {
  await createVolume(host, 'kept');
  const refused = await host.docker('plugin', 'disable', 'openebs');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain('is in use');
  await runOn(host, 'kept', 'echo kept > /data/note');
});

test('disabled by force, set anew and enabled: containers write on, others join them, leftovers go', async () => {
  await createVolume(host, 'shared');
  await createVolume(host, 'left');
  const writer = await startWriter(host, 'writer', 'shared');
  await startIdle(host, 'lonely', 'left');
  await writer.goesOn(1);
  const roles = await rolesOf('shared');
  const before = await Promise.all(roles.map(lifeOf));
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await writer.goesOn(1);
  expect(await inside(host, 'lonely', 'echo more > /data/note && cat /data/note')).toBe('more');
  // A setting that is written into the spec of every role.
  await host.ok('plugin', 'set', 'openebs', 'DRAIN_TIMEOUT=25s');
  await host.ok('plugin', 'enable', 'openebs');
  await writer.goesOn(1);
  await startIdle(host, 'second', 'shared');
  expect(await inside(host, 'second', 'test -s /data/load && echo both > /data/both && cat /data/both')).toBe(
    'both',
  );
  await writer.goesOn(1);
  expect(await Promise.all(roles.map(lifeOf))).toEqual(before);
  expect(await statusOf(host, 'shared')).toMatchObject({ error: '' });
  await host.ok('rm', '-f', 'lonely', 'second');
  await writer.goesOn(1);
  await writer.finish();
  await host.ok('rm', 'writer');
  await verifyWritten(host, 'shared');
  await isGivenBack('left');
  expect(await runOn(host, 'left', 'cat /data/note')).toBe('more');
  await host.ok('volume', 'rm', 'left', 'shared');
});

test('pain: plugin upgrade with volumes in use: what is mounted goes on as it is, and is of the new version at the next mount', async () => {
  await createVolume(host, 'busy');
  await createVolume(host, 'gone');
  await startIdle(host, 'gone', 'gone');
  const writer = await startWriter(host, 'writer', 'busy');
  await writer.goesOn(1);
  const busy = await rolesOf('busy');
  const [kept] = await rolesOf('kept');
  const before = await Promise.all(busy.map(lifeOf));
  const older = await imageOf(kept);
  const enabled = await host.docker(
    'plugin',
    'upgrade',
    '--skip-remote-check',
    '--grant-all-permissions',
    'openebs',
    laterName,
  );
  expect(enabled.stderr).toContain('disabled before upgrading');
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('rm', '-f', 'gone'); // nobody is there to be told
  await host.ok('plugin', 'upgrade', '--skip-remote-check', '--grant-all-permissions', 'openebs', laterName);
  await writer.goesOn(1);
  await host.ok('plugin', 'enable', 'openebs');

  await waitFor('the record of this node names the new version', async () =>
    JSON.stringify(await recordsOf(host)).includes(`"pluginVersion":"${laterVersion}"`),
  );
  // A container that comes after the upgrade shares the device that was attached before it.
  await startIdle(host, 'second', 'busy');
  await waitFor('what is not in use is of the new image', async () => (await imageOf(kept)) === laterImage, {
    timeoutMs: 120_000,
    everyMs: 500,
  });
  expect(await runOn(host, 'kept', 'cat /data/note')).toBe('kept');
  await waitFor(
    'health names what is in use and older',
    async () => {
      const { image } = await health();
      return (
        image.current === laterImage &&
        image.older.map(({ container }) => container).join() === [...busy].sort().join()
      );
    },
    { timeoutMs: 60_000, everyMs: 500 },
  );
  expect(await Promise.all(busy.map(imageOf))).toEqual([older, older]);
  expect(await Promise.all(busy.map(lifeOf))).toEqual(before);
  expect(await host.ok('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}')).toContain(older);

  await writer.goesOn(1);
  await host.ok('rm', '-f', 'second');
  await writer.finish();
  await host.ok('rm', 'writer');
  await isGivenBack('busy');
  await startIdle(host, 'next', 'busy');
  expect(await Promise.all(busy.map(imageOf))).toEqual([laterImage, laterImage]);
  await verifyWritten(host, 'busy');
  await host.ok('rm', '-f', 'next');
  await waitFor(
    'the older image is gone',
    async () => !(await host.ok('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}')).includes(older),
    {
      timeoutMs: 60_000,
      everyMs: 500,
    },
  );
  await isGivenBack('gone');
  expect(await health()).toMatchObject({ healthy: true });
  await host.ok('volume', 'rm', 'busy', 'gone');
});

test('removed by force and installed again, in the earlier version: containers write on, volumes and data are there', async () => {
  await createVolume(host, 'again');
  const writer = await startWriter(host, 'writer', 'again');
  await writer.goesOn(1);
  await host.ok('plugin', 'rm', '-f', 'openebs');
  await writer.goesOn(1);
  expect(await host.ok('plugin', 'ls', '-q')).toBe('');
  await install();
  await startIdle(host, 'second', 'again');
  await writer.goesOn(1);
  expect(await inside(host, 'second', 'test -s /data/load && echo there')).toBe('there');
  await writer.finish();
  await host.ok('rm', '-f', 'writer', 'second');
  await verifyWritten(host, 'again');
  expect(await runOn(host, 'kept', 'cat /data/note')).toBe('kept');
  await host.ok('volume', 'rm', 'again', 'kept');
});
