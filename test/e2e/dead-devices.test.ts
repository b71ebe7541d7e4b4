import { existsSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { execOk, sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  expectTraces,
  inside,
  poolFile,
  processesNamed,
  runOn,
  startIdle,
  startProductHost,
  startWriter,
  statusOf,
  tidy,
  tracesOf,
  type Traces,
  tryOn,
  verifyWritten,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

beforeAll(async () => {
  host = await startProductHost({ name: 'dead' }, { DRAIN_TIMEOUT: '10s', MOUNT_TIMEOUT: '8s' });
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

async function targetOf(volume: string): Promise<string> {
  return `openebs-target-${(await statusOf(host, volume)).id}`;
}

/** Process ids of a data-plane container on this host, without its first: tgtd, qemu-storage-daemon. */
async function daemonsOf(container: string): Promise<string> {
  const first = await host.ok('inspect', '--format', '{{.State.Pid}}', container);
  return host.shellOk(`cat /proc/${first}/task/${first}/children`);
}

const minuteMs = 60_000;

test('pain: read-only or stale after the target was lost: a minute without it costs a minute, no error', async () => {
  const writers = [];
  for (const volume of ['frozen', 'removed']) {
    await createVolume(host, volume);
    const writer = await startWriter(host, `on-${volume}`, volume);
    await writer.goesOn(1);
    writers.push(writer);
  }
  const tgtd = await daemonsOf(await targetOf('frozen'));
  const removed = await targetOf('removed');
  await host.shellOk(`kill -STOP ${tgtd}`);
  // Nobody brings it back before its time.
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('rm', '-f', removed);
  await sleep(minuteMs);
  await host.shellOk(`kill -CONT ${tgtd}`);
  await host.ok('plugin', 'enable', 'openebs');
  for (const writer of writers) await writer.goesOn(2);
  for (const volume of ['frozen', 'removed']) {
    const options = await inside(host, `on-${volume}`, 'grep " /data " /proc/mounts');
    expect(options.split(' ')[3]).toMatch(/^rw,(?!.*emergency_ro)/);
  }
  for (const writer of writers) await writer.finish();
  for (const volume of ['frozen', 'removed']) {
    await host.ok('rm', `on-${volume}`);
    await verifyWritten(host, volume);
  }
});

test('pain: timeouts on a slow attach: it fails in time with the reason, leaves nothing, and works later', async () => {
  await createVolume(host, 'slow');
  const tgtd = await daemonsOf(await targetOf('slow'));
  await host.shellOk(`kill -STOP ${tgtd}`);
  const all = await tracesOf(host);
  const refused = await tryOn(host, 'slow', 'true');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(
    /volume slow could not be mounted within 8 s: .*openebs-(target|initiator)-/s,
  );
  await host.shellOk(`kill -CONT ${tgtd}`);
  await expectTraces(host, all);
  await runOn(host, 'slow', 'echo later > /data/later');
});

/** Stops a process as soon as another program runs. */
const stopsAt = `
  my ($program, $pid) = @ARGV; $| = 1; print "watching\\n";
  while (1) {
    for my $file (glob '/proc/[0-9]*/comm') {
      open my $comm, '<', $file or next;
      next if (<$comm> // '') ne "$program\\n";
      kill STOP => $pid; print "stopped\\n"; exit;
    }
  }`;

test('pain: timeouts on a slow attach: a mkfs that hangs fails the mount in time, goes on by itself, and is the only one', async () => {
  // Big enough for mkfs to be met at work.
  await createVolume(host, 'made', { size: '500G' });
  const tgtd = await daemonsOf(await targetOf('made'));
  const all = await tracesOf(host);
  const watching = host.spawn('perl', ['-e', stopsAt, 'mkfs.ext4', tgtd]);
  await waitFor('mkfs is watched for', () => watching.output().includes('watching'));
  const reasons = [
    /the file system on \/dev\/loop\d+ is being made \(mkfs\), which takes longer than a mount may: it goes on/,
    // Asked anew, what is known of its target comes first.
    /volume made could not be mounted within 8 s: .*openebs-target-/,
  ];
  try {
    for (const reason of reasons) {
      const refused = await tryOn(host, 'made', 'true');
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toMatch(reason);
      expect(watching.output()).toContain('stopped');
      expect(await processesNamed(host, 'mkfs.ext4')).toHaveLength(1);
    }
  } finally {
    await host.shellOk(`kill -CONT ${tgtd}`);
    await watching.stop();
  }
  await waitFor('mkfs has ended', async () => (await processesNamed(host, 'mkfs.ext4')).length === 0);
  // The device that mkfs held is given back by the timer.
  await waitFor('it is detached', async () => (await statusOf(host, 'made')).attachedTo === '', {
    timeoutMs: 60_000,
  });
  await expectTraces(host, all);
  // Nobody has mounted it since: this is what the first mkfs has made.
  await execOk('dumpe2fs', ['-h', poolFile(host, await statusOf(host, 'made'))]);
  expect(await runOn(host, 'made', 'ls -A /data; echo later > /data/later; cat /data/later')).toBe('later');
});

test('pain: a hung plugin hangs docker: with everything below it frozen docker still answers', async () => {
  const volumes = ['hung1', 'hung2', 'hung3', 'hung4', 'hung5', 'hung6'];
  await Promise.all(volumes.map((volume) => createVolume(host, volume, { size: '200M' })));
  // One after the other: on a busy host six at once may not have the time that a mount is given here.
  for (const volume of volumes) await startIdle(host, `uses-${volume}`, volume);
  const etcd = await daemonsOf('openebs-etcd');
  const frozen = [etcd, ...(await Promise.all(volumes.map(async (v) => daemonsOf(await targetOf(v)))))].join(
    ' ',
  );
  // What was written and not flushed keeps each unmount waiting.
  await Promise.all(volumes.map((volume) => inside(host, `uses-${volume}`, 'echo x > /data/x')));
  await host.shellOk(`kill -STOP ${frozen}`);
  try {
    const removals = volumes.map((volume) => host.docker('rm', '-f', `uses-${volume}`));
    const calls = [
      ['ps', '-a'],
      ['volume', 'ls'],
      ['volume', 'inspect', 'hung1'],
      ['run', '--rm', '--network', 'none', 'lab', 'true'],
      ['volume', 'create', '-d', 'openebs', 'new'],
      ['volume', 'inspect', 'no-such-volume'],
    ];
    for (let round = 0; round < 2; round += 1) {
      for (const call of calls) {
        const { code, stderr } = await host.docker(...call);
        // 124: it did not end by itself.
        expect([code, stderr]).not.toContain(124);
        if (!call.includes('new') && !call.includes('no-such-volume')) expect(stderr).toBe('');
      }
    }
    for (const { code } of await Promise.all(removals)) expect(code).not.toBe(124);
  } finally {
    await host.shellOk(`kill -CONT ${frozen}`);
  }
  await waitFor(
    'the volumes work again',
    async () =>
      (await Promise.all(volumes.map((volume) => tryOn(host, volume, 'cat /data/x')))).every(
        (r) => r.code === 0,
      ),
    { timeoutMs: 90_000, everyMs: 2000 },
  );
});

const ends = {
  'initiator is killed': async (id: string) =>
    host.shellOk(
      `kill -KILL ${await host.ok('inspect', '--format', '{{.State.Pid}}', `openebs-initiator-${id}`)}`,
    ),
  'daemon is killed': async (id: string) =>
    host.shellOk(`kill -KILL ${await daemonsOf(`openebs-initiator-${id}`)}`),
} as const;

const checks = {
  ext4: ['e2fsck', '-fn'],
  xfs: ['xfs_repair', '-n', '-f'],
  btrfs: ['btrfs', 'check', '--readonly'],
} as const;

/** Whether the kernel mounts it while its dead device is mounted, or takes it for a second copy; btrfs since Linux 6.7. */
const standsBeside = {
  ext4: true,
  xfs: false,
  btrfs: existsSync('/sys/fs/btrfs/features/temp_fsid'),
} as const;

test.each([
  ['ext4', 'initiator is killed'],
  ['ext4', 'daemon is killed'],
  ['xfs', 'initiator is killed'],
  ['xfs', 'daemon is killed'],
  ['btrfs', 'initiator is killed'],
  ['btrfs', 'daemon is killed'],
] as const)(
  'a volume with %s whose %s under load gives errors, says so, and works again when its users are gone',
  async (fs, end) => {
    await createVolume(host, 'cut', { fs, size: '400M' });
    const { id } = await statusOf(host, 'cut');
    const where = ['--network', 'none', '-v', 'cut:/data'];
    const load = `dd if=/dev/urandom of=/data/kept bs=1M count=20 conv=fsync 2>/dev/null
    sha256sum /data/kept > /data/sums; sync /data/sums; echo ready
    while dd if=/dev/urandom of=/data/load bs=64k count=300 conv=fsync; do :; done; sleep 1000`;
    await host.ok('run', '-d', '--name', 'user', ...where, 'lab', 'sh', '-c', load);
    await waitFor('it writes', async () => (await host.ok('logs', 'user')).includes('ready'));
    await ends[end](id);
    await waitFor('the container sees errors', async () =>
      /error|read-only/i.test((await host.docker('logs', 'user')).stderr),
    );
    const told = /(device|file system) of volume cut .*stop all containers/s;
    const { error } = await waitFor(
      'Status says so',
      async () => {
        const status = await statusOf(host, 'cut');
        return status.error !== '' && status;
      },
      { timeoutMs: 60_000 },
    );
    expect(error).toMatch(told);
    const beside = await tryOn(host, 'cut', 'sha256sum -c /data/sums; echo beside > /data/beside');
    if (standsBeside[fs]) expect(beside).toMatchObject({ code: 0, stdout: '/data/kept: OK\n' });
    else expect(beside.stderr).toMatch(told);
    await host.ok('rm', '-f', 'user');
    await waitFor('it works again', async () => {
      expect(await runOn(host, 'cut', 'sha256sum -c /data/sums; echo again > /data/again')).toBe(
        '/data/kept: OK',
      );
      return true;
    });
    // It was written to the volume, not to what is left of it in the dead device's cache.
    if (standsBeside[fs]) expect(await runOn(host, 'cut', 'cat /data/beside')).toBe('beside');
    await waitFor('Status is clear', async () => (await statusOf(host, 'cut')).error === '', {
      timeoutMs: 60_000,
    });
    await waitFor('it is detached', async () => (await statusOf(host, 'cut')).attachedTo === '');
    const [program, ...args] = checks[fs];
    await execOk(program, [...args, poolFile(host, await statusOf(host, 'cut'))]);
  },
);

test.each(['ext4', 'btrfs'] as const)(
  'a volume with %s that the kernel made read-only over its dead device is mounted beside it',
  async (fs) => {
    await createVolume(host, 'cut', { fs, size: '400M' });
    const { id } = await statusOf(host, 'cut');
    await startIdle(host, 'user', 'cut');
    await inside(host, 'user', 'echo kept > /data/kept; sync /data/kept');
    // Otherwise it is mounted anew before the kernel comes so far.
    const plugin = String(await host.pluginPid());
    await host.shellOk(`kill -STOP ${plugin}`);
    try {
      await ends['initiator is killed'](id);
      await waitFor('it is read-only', async () => {
        const write = 'echo lost > /data/lost; sync /data/lost; grep " /data " /proc/mounts';
        const { stdout } = await host.docker('exec', 'user', 'sh', '-c', write);
        return /[ ,](ro|emergency_ro)[ ,]/.test(stdout);
      });
    } finally {
      await host.shellOk(`kill -CONT ${plugin}`);
    }
    const beside = await tryOn(host, 'cut', 'cat /data/kept; echo beside > /data/beside');
    if (standsBeside[fs]) expect(beside).toMatchObject({ code: 0, stdout: 'kept\n' });
    else expect(beside.stderr).toMatch(/the device of volume cut .*stop all containers/s);
    await host.ok('rm', '-f', 'user');
    expect(await runOn(host, 'cut', 'cat /data/kept')).toBe('kept');
    if (standsBeside[fs]) expect(await runOn(host, 'cut', 'cat /data/beside')).toBe('beside');
  },
);

test('a volume with xfs that shut itself down over its live device says so, and works again when its users are gone', async () => {
  await createVolume(host, 'shut', { fs: 'xfs', size: '400M' });
  await startIdle(host, 'user', 'shut');
  await inside(host, 'user', 'echo kept > /data/kept; sync /data/kept');
  const { id } = await statusOf(host, 'shut');
  const mountpoint = await host.shellOk(`findmnt -rno TARGET -t xfs | grep -m 1 ${id}`);
  await host.shellOk(`xfs_io -x -c 'shutdown -f' ${mountpoint.trim()}`);
  const told = /file system of volume shut .*stop all containers/s;
  await waitFor('Status says so', async () => told.test((await statusOf(host, 'shut')).error));
  expect((await tryOn(host, 'shut', 'cat /data/kept')).stderr).toMatch(told);
  await host.ok('rm', '-f', 'user');
  expect(await runOn(host, 'shut', 'cat /data/kept; echo again > /data/again')).toBe('kept');
  await waitFor('Status is clear', async () => (await statusOf(host, 'shut')).error === '');
  await waitFor('it is detached', async () => (await statusOf(host, 'shut')).attachedTo === '');
  await execOk('xfs_repair', ['-n', poolFile(host, await statusOf(host, 'shut'))]);
});

test('a loop device that is detached by hand keeps its users, and the next mount has another', async () => {
  await createVolume(host, 'loop');
  await startIdle(host, 'user', 'loop');
  const device = await inside(host, 'user', 'grep " /data " /proc/mounts | cut -d" " -f1');
  await host.shellOk(`losetup -d ${device}`);
  await inside(host, 'user', 'echo kept > /data/kept; sync /data/kept');
  await startIdle(host, 'second', 'loop');
  expect(await inside(host, 'second', 'cat /data/kept')).toBe('kept');
  await host.ok('rm', '-f', 'user', 'second');
  expect(await runOn(host, 'loop', 'cat /data/kept')).toBe('kept');
  expect(await processesNamed(host, 'qemu-storage-daemon')).toEqual([]);
});
