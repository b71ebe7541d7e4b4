import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, liveRestore } from '../support/lab.js';
import {
  createVolume,
  expectTraces,
  inside,
  runOn,
  startProductHost,
  tracesOf,
  type Traces,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

beforeAll(async () => {
  host = await startProductHost({ name: 'reboot' });
  await createVolume(host, 'first');
  await host.ok('volume', 'rm', 'first');
  before = await tracesOf(host);
});

afterAll(async () => {
  await host.close();
});

async function startService(): Promise<void> {
  await createVolume(host, 'db');
  // On SIGTERM it takes its time and writes once more, as databases do. The first process of a container does not
  // even get a signal that it has not asked for, so it asks before it says that it has started.
  const script = `
    trap "sleep 2; echo last >>/data/log; sync; exit 0" TERM
    echo start >>/data/log; sync
    while :; do sleep 1 & wait $!; done`;
  const where = ['--restart', 'always', '--network', 'none', '-v', 'db:/data', '--stop-timeout', '30'];
  await host.ok('run', '-d', '--name', 'service', ...where, 'lab', 'sh', '-c', script);
  await waitFor('the service has started', async () => (await log()).includes('start'));
}

function log(): Promise<string> {
  return inside(host, 'service', 'cat /data/log');
}

async function expectStarts(wanted: string): Promise<void> {
  await waitFor('the service is back with its data', async () => {
    const seen = (await log()).split('\n').join(' ');
    if (seen === wanted) return true;
    throw new Error(`its log: ${seen}`);
  });
}

test('a service comes back with its data, and its last write, after the engine restarts', async () => {
  await startService();
  await host.stopEngine({ timeoutMs: 180_000 });
  await host.startEngine();
  await expectStarts(liveRestore ? 'start' : 'start last start');
});

test('a service comes back with its data after the engine is killed', async () => {
  await host.stopEngine({ signal: 'SIGKILL' });
  await host.startEngine();
  // The new engine ends the containers that the old one left, in its own way, and starts them again; with live-restore
  // they went on.
  const wanted = liveRestore ? /^start$/ : /^start\nlast\nstart\n(last\n)?start$/;
  await waitFor('the service is back', async () => wanted.test(await log()));
  await inside(host, 'service', 'echo start > /data/log; sync');
});

test('a service comes back with its data after the power fails', async () => {
  await host.reboot();
  await expectStarts('start start');
  await host.ok('rm', '-f', 'service');
  expect(await runOn(host, 'db', 'cat /data/log')).toContain('start\nstart');
  await host.ok('volume', 'rm', 'db');
  await expectTraces(host, before);
});
