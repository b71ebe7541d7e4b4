import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  runOn,
  startIdle,
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
  // A restart by hand drains first; here it need not take a minute and a half.
  host = await startProductHost({ name: 'target' }, { DRAIN_TIMEOUT: '10s' });
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

test('a target that dies together with containerd, which the engine may show as running for ever, is brought back', async () => {
  const startedAt = () => host.docker('inspect', '--format', '{{.State.StartedAt}}', target);
  const id = await host.ok('inspect', '--format', '{{.Id}}', target);
  const before = (await startedAt()).stdout;
  await host.shellOk(`kill -KILL $(pgrep -x containerd) $(pgrep -f 'containerd-shi[m].* -id ${id}')`);
  const isAnother = async () => {
    const { code, stdout } = await startedAt();
    return code === 0 && stdout !== before;
  };
  await waitFor('it was started anew', isAnother, { timeoutMs: 90_000 });
  await writer.goesOn();
});

test('after all that the data is right', async () => {
  await writer.finish();
  await host.ok('rm', 'writer');
  await verifyWritten(host, 'loaded');
  await host.ok('volume', 'rm', 'loaded');
});

/**
 * Device number of what a loop device is bound to: "" when that is dead, null when it is bound to nothing. Asked for
 * one device, losetup prints its name in either case; asked for all, only those that are bound.
 */
async function backing(device: string): Promise<string | null> {
  const listed = await host.shellOk('losetup --noheadings --list --output NAME,BACK-MAJ:MIN');
  for (const line of listed.split('\n')) {
    const [name, number = ''] = line.trim().split(/\s+/);
    if (name === device) return number;
  }
  return null;
}

test('an initiator that is killed leaves no loop device behind, and the volume works again', async () => {
  await createVolume(host, 'cut');
  await startIdle(host, 'user', 'cut');
  const initiator = `openebs-initiator-${(await statusOf(host, 'cut')).id}`;
  const note = await host.shellOk(`cat /var/lib/openebs/containers/${initiator}/device`);
  const [device = '', bound = ''] = note.split(' ');
  expect(await backing(device)).toBe(bound);
  const pid = await host.ok('inspect', '--format', '{{.State.Pid}}', initiator);
  await host.shellOk(`kill -KILL ${pid}`);
  await waitFor(
    'the initiator runs again',
    async () =>
      (await host.ok('inspect', '--format', '{{.State.Running}} {{.State.Pid}}', initiator)) !==
      `true ${pid}`,
  );
  await host.ok('rm', '-f', 'user');
  await runOn(host, 'cut', 'echo works > /data/again');
  await host.ok('volume', 'rm', 'cut');
  // Meanwhile it may be somebody else's.
  await waitFor(
    'its loop device is free',
    async () => !['', bound].includes((await backing(device)) ?? 'free'),
  );
});
