import { afterAll, beforeAll, expect, test } from 'vitest';
import { type LabHost, startLabHost } from '../support/lab.js';
import { createVolume, installPlugin, recordsOf, runOn, statusOf } from '../support/product.js';

let host: LabHost;

beforeAll(async () => {
  host = await startLabHost({ name: 'install' });
});

afterAll(async () => {
  await host.close();
});

test('the plugin installs from a registry under an alias, with its settings, and makes volumes', async () => {
  await installPlugin(host, { from: 'registry', settings: { NODE_ID: 'node-of-the-test' } });
  expect(await host.ok('plugin', 'ls', '--format', '{{.Name}} {{.Enabled}}')).toBe('openebs:latest true');
  await createVolume(host, 'kept');
  await runOn(host, 'kept', 'echo kept > /data/note');
  expect(await statusOf(host, 'kept')).toMatchObject({ node: 'node-of-the-test' });
  expect((await recordsOf(host)).map((entry) => entry.key)).toContain('/openebs/nodes/node-of-the-test');
  expect(await host.ok('volume', 'ls', '--format', '{{.Driver}} {{.Name}}')).toBe('openebs:latest kept');
});

test('disabled, set anew and enabled again it still has its volumes', async () => {
  const refused = await host.docker('plugin', 'set', 'openebs', 'LOG_LEVEL=debug');
  expect(refused.stderr).toContain('disable plugin'); // the engine takes settings of a disabled plugin only
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('plugin', 'set', 'openebs', 'LOG_LEVEL=debug');
  await host.ok('plugin', 'enable', 'openebs');
  expect(await runOn(host, 'kept', 'cat /data/note')).toBe('kept');
});

test('removed and installed again it finds its volumes by their records', async () => {
  await host.ok('plugin', 'rm', '-f', 'openebs');
  await installPlugin(host, { from: 'registry', settings: { NODE_ID: 'node-of-the-test' } });
  expect(await runOn(host, 'kept', 'cat /data/note')).toBe('kept');
  await host.ok('volume', 'rm', 'kept');
});
