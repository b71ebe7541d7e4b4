import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { execOk, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  allocatedBytes,
  createVolume,
  inside,
  poolFile,
  runOn,
  startIdle,
  startProductHost,
  startWriter,
  statusOf,
  verifyWritten,
  tidy,
} from '../support/product.js';

const MiB = 1024 ** 2;
const GiB = 1024 ** 3;
let host: LabHost;

beforeAll(async () => {
  host = await startProductHost({ name: 'fs' });
});

afterEach(async () => {
  await tidy(host);
});

afterAll(async () => {
  await host.close();
});

test.each(['ext4', 'xfs', 'btrfs'])(
  'a volume with %s starts empty, takes writes and keeps them',
  async (fs) => {
    await createVolume(host, `on-${fs}`, { fs });
    const facts = 'ls -A /data; grep " /data " /proc/mounts | cut -d" " -f3';
    expect(await runOn(host, `on-${fs}`, facts)).toBe(fs);
    const writer = await startWriter(host, `writes-${fs}`, `on-${fs}`);
    await writer.goesOn(2);
    await writer.finish();
    await host.ok('rm', `writes-${fs}`);
    await verifyWritten(host, `on-${fs}`);
    expect(await statusOf(host, `on-${fs}`)).toMatchObject({ fs });
    await host.ok('volume', 'rm', `on-${fs}`);
  },
);

test('volumes of each file system are made and used while others are mounted', async () => {
  const systems = ['ext4', 'xfs', 'btrfs', 'btrfs', 'xfs', 'ext4'];
  for (const [index, fs] of systems.entries()) {
    await createVolume(host, `beside-${String(index)}`, { fs });
    await startIdle(host, `user-${String(index)}`, `beside-${String(index)}`);
    await inside(host, `user-${String(index)}`, `echo ${fs} >/data/mine`);
  }
  for (const [index, fs] of systems.entries()) {
    expect(await inside(host, `user-${String(index)}`, 'cat /data/mine')).toBe(fs);
  }
});

test('uid, gid and mode are those of the root of the volume, and stay what a container makes of them', async () => {
  await createVolume(host, 'owned', { uid: '1234', gid: '100', mode: '0710' });
  const facts = 'stat -c "%u:%g %a" /data';
  expect(await runOn(host, 'owned', facts)).toBe('1234:100 710');
  await runOn(host, 'owned', 'chmod 700 /data');
  expect(await runOn(host, 'owned', facts)).toBe('1234:100 700');
  const asUser = ['run', '--rm', '--network', 'none', '--user', '1234', '-v', 'owned:/data', 'lab'];
  await host.ok(...asUser, 'touch', '/data/mine');
  await host.ok('volume', 'rm', 'owned');
});

test('mkfs and mount options reach the file system', async () => {
  await createVolume(host, 'tuned', { mkfs: '-N 4096', mount: 'noatime' });
  const facts = 'df -i /data | tail -1 | tr -s " " | cut -d" " -f2; grep -c "/data .*noatime" /proc/mounts';
  expect(await runOn(host, 'tuned', facts)).toBe('4096\n1');
  await host.ok('volume', 'rm', 'tuned');
});

test('an ext4 file system with noted errors is checked before the next mount, not only mounted', async () => {
  await createVolume(host, 'noted');
  await runOn(host, 'noted', 'echo kept > /data/kept');
  const detached = () =>
    waitFor('it is detached', async () => (await statusOf(host, 'noted')).attachedTo === '');
  const file = poolFile(host, await statusOf(host, 'noted'));
  const state = async () =>
    /^Filesystem state: +(.*)$/m.exec(await execOk('dumpe2fs', ['-h', file]))?.[1] ?? '';
  await detached();
  // s_state 2: the kernel has seen errors. It mounts such a file system all the same, and leaves the note there.
  await execOk('debugfs', ['-w', '-R', 'ssv state 2', file]);
  expect(await state()).toBe('not clean with errors');
  expect(await runOn(host, 'noted', 'cat /data/kept')).toBe('kept');
  await detached();
  expect(await state()).toBe('clean');
  await host.ok('volume', 'rm', 'noted');
});

test('a volume of 2 TiB fits on a small disk: blocks are taken when they are written', async () => {
  await createVolume(host, 'huge', { size: '2Ti' });
  const size = Number(await runOn(host, 'huge', 'df -B1 /data | tail -1 | tr -s " " | cut -d" " -f2'));
  expect(size).toBeGreaterThan(1.9 * 1024 * GiB);
  expect(await allocatedBytes(poolFile(host, await statusOf(host, 'huge')))).toBeLessThan(GiB);
  await host.ok('volume', 'rm', 'huge');
});

test('after a file of 500 MB is deleted, fstrim gives its blocks back to the host', async () => {
  await createVolume(host, 'trimmed', { size: '2G' });
  const file = poolFile(host, await statusOf(host, 'trimmed'));
  await startIdle(host, 'trimmer', 'trimmed', '--cap-add', 'SYS_ADMIN');
  const empty = await allocatedBytes(file);
  await inside(host, 'trimmer', 'dd if=/dev/urandom of=/data/big bs=1M count=500 conv=fsync 2>/dev/null');
  expect(await allocatedBytes(file)).toBeGreaterThan(empty + 490 * MiB);
  await inside(host, 'trimmer', 'rm /data/big; sync -f /data; fstrim /data');
  await waitFor('the blocks are free', async () => (await allocatedBytes(file)) < empty + 50 * MiB);
  await host.ok('rm', '-f', 'trimmer');
  await host.ok('volume', 'rm', 'trimmed');
});

test('each fsync in a container ends as a flush of the backing file', async () => {
  await createVolume(host, 'flushed');
  const { id } = await statusOf(host, 'flushed');
  await startIdle(host, 'flusher', 'flushed');
  await inside(host, 'flusher', 'dd if=/dev/zero of=/data/f bs=4k count=1 conv=fsync 2>/dev/null');
  const processes = (await host.ok('top', `openebs-target-${id}`, '-eo', 'pid')).split('\n').slice(1);
  const attach = processes.flatMap((pid) => ['-p', pid.trim()]);
  const trace = join(host.run, 'trace');
  const calls = 'trace=fdatasync,fsync,sync_file_range,syncfs';
  const strace = host.spawn('strace', ['-f', '-y', '-e', calls, '-o', '/run/trace', ...attach]);
  await waitFor('strace is attached', () => {
    if (strace.output().includes('attached')) return true;
    throw new Error(strace.output());
  });
  const flushes = (): number =>
    readFileSync(trace, 'utf8').match(/(?:fdatasync|fsync)\(\d+<[^>]*disk\.img>/g)?.length ?? 0;
  for (let round = 1; round <= 5; round += 1) {
    const seen = flushes();
    await inside(
      host,
      'flusher',
      `dd if=/dev/zero of=/data/f bs=4k count=${String(round)} conv=fsync 2>/dev/null`,
    );
    // What the trace shows was written by strace a moment after the call itself.
    await waitFor('the flush is traced', () => flushes() > seen, { timeoutMs: 3_000, everyMs: 50 });
  }
  await strace.stop();
  await host.ok('rm', '-f', 'flusher');
  await host.ok('volume', 'rm', 'flushed');
});
