import { afterAll, beforeAll, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  startProductHost,
  startWriter,
  statusOf,
  verifyWritten,
  type Writer,
} from '../support/product.js';

let host: LabHost;
let target: string;
let writer: Writer;

beforeAll(async () => {
  host = await startProductHost({ name: 'target' });
  await createVolume(host, 'loaded');
  target = `openebs-target-${(await statusOf(host, 'loaded')).id}`;
  writer = await startWriter(host, 'writer', 'loaded');
  await writer.goesOn(1);
});

afterAll(async () => {
  await host.close();
});

function running(): Promise<boolean> {
  return host.ok('inspect', '--format', '{{.State.Running}}', target).then((state) => state === 'true');
}

test('a target that is restarted under load costs a pause, no error', async () => {
  for (const wait of [['-t', '1'], ['-t', '1'], []]) {
    await host.ok('restart', ...wait, target);
    await writer.goesOn();
  }
});

test('a target whose process is killed comes back by itself', async () => {
  const pid = await host.ok('inspect', '--format', '{{.State.Pid}}', target);
  await host.shellOk(`kill -KILL ${pid}`);
  await waitFor('the target runs again', running);
  await writer.goesOn();
});

test('a target that is killed, or removed, by hand is brought back', async () => {
  await host.ok('kill', target);
  await waitFor('the target runs again', running, { timeoutMs: 60_000 });
  await writer.goesOn();
  await host.ok('rm', '-f', target);
  await waitFor('the target exists again', running, { timeoutMs: 60_000 });
  await writer.goesOn();
});

test('after all that the data is right', async () => {
  await writer.finish();
  await host.ok('rm', 'writer');
  await verifyWritten(host, 'loaded');
  await host.ok('volume', 'rm', 'loaded');
});
