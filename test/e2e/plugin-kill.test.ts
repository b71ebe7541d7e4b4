import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { killAndWait } from '../support/crash.js';
import { sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  expectTraces,
  inside,
  runOn,
  startIdle,
  startProductHost,
  startWriter,
  statusOf,
  tracesOf,
  type Traces,
  tryOn,
  verifyWritten,
  tidy,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

beforeAll(async () => {
  host = await startProductHost({ name: 'kill' });
  await createVolume(host, 'first');
  await host.ok('volume', 'rm', 'first');
  before = await tracesOf(host);
});

afterEach(async () => {
  await tidy(host);
});

afterAll(async () => {
  await host.close();
});

test('a container that writes notices nothing of 12 kills of the plugin', async () => {
  await createVolume(host, 'loaded');
  const writer = await startWriter(host, 'writer', 'loaded');
  await writer.goesOn(1);
  for (let round = 0; round < 12; round += 1) {
    await killAndWait(host);
    await sleep((round % 4) * 300);
  }
  await waitFor('the plugin answers', async () => (await statusOf(host, 'loaded')).state !== '');
  await writer.goesOn();
  await startIdle(host, 'second', 'loaded');
  await host.ok('stop', 'second');
  await writer.goesOn();
  await writer.finish();
  await host.ok('start', 'second');
  expect(await inside(host, 'second', 'stat -c %s /data/load')).toBe(String(16 * 1024 ** 2));
  await host.ok('rm', '-f', 'second', 'writer');
  await verifyWritten(host, 'loaded');
  await host.ok('volume', 'rm', 'loaded');
  await expectTraces(host, before);
});

test('a kill in the middle of a create, mount, unmount or remove leaves nothing half-made', async () => {
  for (const [round, delayMs] of [0, 150, 300, 600, 1000, 1500].entries()) {
    const name = `cut-${String(round)}`;
    const work = (async () => {
      await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=200M', name);
      await tryOn(host, name, 'echo x > /data/x');
      await host.docker('volume', 'rm', name);
    })();
    await sleep(delayMs);
    await killAndWait(host);
    await work;
    // Whatever of it failed: the same again works, once the plugin is up.
    await createVolume(host, name, { size: '200M' });
    await runOn(host, name, 'echo y > /data/y && sync /data/y');
    await host.ok('volume', 'rm', name);
  }
  await expectTraces(host, before);
});

test('a container that could not start while the plugin was away is started by it, if its policy says so', async () => {
  await createVolume(host, 'wanted', { size: '200M' });
  await startIdle(host, 'service', 'wanted', '--restart', 'always');
  await startIdle(host, 'manual', 'wanted');
  await inside(host, 'service', 'echo kept > /data/kept; sync /data/kept');
  await host.ok('plugin', 'disable', '-f', 'openebs');
  for (const name of ['service', 'manual']) {
    const { code, stderr } = await host.docker('restart', '-t', '1', name);
    expect(code, stderr).not.toBe(0);
  }
  await host.ok('plugin', 'enable', 'openebs');
  await waitFor(
    'the service runs',
    async () => (await inside(host, 'service', 'cat /data/kept')) === 'kept',
    {
      timeoutMs: 90_000,
    },
  );
  expect(await host.ok('inspect', '--format', '{{.State.Running}}', 'manual')).toBe('false');
  await host.ok('rm', '-f', 'service', 'manual');
  await host.ok('volume', 'rm', 'wanted');
  await expectTraces(host, before);
});
