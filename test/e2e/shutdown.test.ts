import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { exec, failure, waitFor } from '../support/exec.js';
import { liveRestore, type LabHost } from '../support/lab.js';
import {
  createVolume,
  expectTraces,
  inside,
  poolFile,
  runOn,
  startProductHost,
  startWriter,
  statusOf,
  tracesOf,
  type Traces,
  tryOn,
  verifyWritten,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

const types = ['ext4', 'xfs', 'btrfs'] as const;

beforeAll(async () => {
  host = await startProductHost({ name: 'shutdown' });
  await createVolume(host, 'first');
  await runOn(host, 'first', 'true');
  await host.ok('volume', 'rm', 'first');
  before = await tracesOf(host);
});

afterAll(async () => {
  await host.close();
});

/** On SIGTERM it goes on writing for 5 s, and its last line is the proof. */
async function startDatabase(name: string, volume: string): Promise<void> {
  const flush = 'for n in 1 2 3 4 5; do dd if=/dev/zero of=/data/dirty\\$n bs=1M count=4; sleep 1; done';
  const script = `
    trap "${flush}; echo last >>/data/log; sync /data/log; exit 0" TERM
    echo start >>/data/log; sync /data/log
    while :; do sleep 1 & wait $!; done`;
  const where = ['--restart', 'always', '--network', 'none', '-v', `${volume}:/data`, '--stop-timeout', '60'];
  await host.ok('run', '-d', '--name', name, ...where, 'lab', 'sh', '-c', script);
  await waitFor(`${name} has started`, async () => (await inside(host, name, 'cat /data/log')) === 'start');
}

/** Looks at the volume's disk while nobody has it: whether its file system was put away in order. */
async function expectClean(type: (typeof types)[number], disk: string): Promise<void> {
  const run = async (command: string, ...args: string[]): Promise<string> => {
    const result = await exec(command, [...args, disk]);
    if (result.code !== 0) throw new Error(failure(`${command} ${args.join(' ')}`, result));
    return result.stdout + result.stderr;
  };
  if (type === 'ext4') {
    expect(await run('dumpe2fs', '-h')).not.toContain('needs_recovery');
    await run('e2fsck', '-fn');
  } else if (type === 'xfs') {
    // It says so when a log that is not empty is left out of account.
    expect(await run('xfs_repair', '-n', '-f')).not.toContain('ALERT');
  } else {
    // A log tree is there as long as something waits to be replayed.
    expect(await run('btrfs', 'inspect-internal', 'dump-super')).toMatch(/^log_root\s+0$/m);
    await run('btrfs', 'check', '--readonly');
  }
}

test.skipIf(liveRestore)(
  'an engine that stops waits for a database that flushes for 5 s: its last write is kept, its file system is clean',
  async () => {
    const disks: [(typeof types)[number], string][] = [];
    for (const type of types) {
      await createVolume(host, type, { fs: type, size: '400M' });
      await startDatabase(`db-${type}`, type);
      disks.push([type, poolFile(host, await statusOf(host, type))]);
    }
    await host.stopEngine({ timeoutMs: 180_000 });
    for (const [type, disk] of disks) await expectClean(type, disk);
    await host.startEngine();
    for (const type of types) {
      await waitFor(
        `the database on ${type} is back`,
        async () => (await inside(host, `db-${type}`, 'cat /data/log')) === 'start\nlast\nstart',
        { timeoutMs: 60_000 },
      );
      expect(await inside(host, `db-${type}`, 'stat -c %s /data/dirty5')).toBe(String(4 * 1024 ** 2));
    }
    await host.ok('rm', '-f', ...types.map((type) => `db-${type}`));
    for (const type of types) await host.ok('volume', 'rm', type);
    await expectTraces(host, before);
  },
);

describe('by hand, under a container that writes', () => {
  let target: string;
  let initiator: string;

  const state = (name: string): Promise<string> => host.ok('inspect', '--format', '{{.State.Status}}', name);

  beforeAll(async () => {
    await createVolume(host, 'loaded');
    const { id } = await statusOf(host, 'loaded');
    [target, initiator] = [`openebs-target-${id}`, `openebs-initiator-${id}`];
  });

  test('docker stop of a target waits for the drain time, costs a pause, and is healed and told', async () => {
    const writer = await startWriter(host, 'writer', 'loaded');
    await writer.goesOn(1);
    let stopped = false;
    const stopping = host.docker('stop', '-t', '30', target).finally(() => {
      stopped = true;
    });
    await waitFor('the target drains', async () => {
      const { stdout } = await host.docker('logs', '--tail', '3', target);
      return stdout.includes('draining');
    });
    await writer.goesOn(1); // a target that drains serves on
    expect(stopped, 'the stop waits for who writes').toBe(false);
    expect((await stopping).code).toBe(0);
    await waitFor('the target runs again', async () => (await state(target)) === 'running', {
      timeoutMs: 60_000,
    });
    await writer.goesOn();
    expect((await statusOf(host, 'loaded')).repaired).toMatch(/openebs-target-.*started anew/);
    await writer.finish();
    await host.ok('rm', 'writer');
    await verifyWritten(host, 'loaded');
  });

  test('docker rm -f of a target is healed and told, and the container sees a pause', async () => {
    const writer = await startWriter(host, 'writer', 'loaded');
    await writer.goesOn(1);
    await host.ok('rm', '-f', target);
    await writer.goesOn();
    expect((await statusOf(host, 'loaded')).repaired).toMatch(/openebs-target-.*made anew/);
    await writer.finish();
    await host.ok('rm', 'writer');
    await verifyWritten(host, 'loaded');
  });

  test('docker stop of an initiator that has time ends with the last user, who loses nothing', async () => {
    const writer = await startWriter(host, 'writer', 'loaded');
    await writer.goesOn(1);
    const stopping = host.docker('stop', initiator);
    await waitFor('the initiator drains', async () => {
      const { stdout } = await host.docker('logs', '--tail', '3', initiator);
      return stdout.includes('draining');
    });
    await writer.goesOn();
    // Others get no mount on a device that is about to go, and are told why; or they wait and get it.
    const other = await tryOn(host, 'loaded', 'ls /data/load');
    expect(other.code === 0 ? other.stdout : other.stderr).toMatch(
      other.code === 0 ? /load/ : /initiator.*(draining|stopping)/s,
    );
    await writer.finish();
    await host.ok('rm', 'writer');
    expect((await stopping).code).toBe(0);
    await waitFor(
      'the volume works again',
      async () => (await runOn(host, 'loaded', 'ls /data/load')) !== '',
      {
        timeoutMs: 120_000,
      },
    );
    await verifyWritten(host, 'loaded');
  });

  test('after all that the volume goes with all that is its', async () => {
    await host.ok('volume', 'rm', 'loaded');
    await expectTraces(host, before);
  });
});
