/** Hosts and engines that are set up in another way than most: the product works there, or says what it needs. */
import { afterEach, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, startLabHost } from '../support/lab.js';
import {
  createVolume,
  inside,
  installPlugin,
  runOn,
  startIdle,
  startProductHost,
  statusOf,
} from '../support/product.js';

let host: LabHost;

afterEach(async () => {
  await host.close();
});

/** What a host of storage has, and this product brings along: on this host none of it can be run. */
const noStorageTools = `
  for tool in iscsiadm iscsid iscsi-ls tgtd tgtadm etcd qemu-storage-daemon qemu-img losetup fusermount fusermount3 \\
      blkid mkfs.ext4 mke2fs e2fsck fsck mkfs.xfs mkfs.btrfs xfs_repair multipath perl; do
    for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin; do
      [ ! -e $folder/$tool ] || mount --bind /dev/null $folder/$tool
    done
  done`;

test('pain: host packages or data-root mismatch: without any tool of storage and with its data on another disk, an engine has its volumes, also after a reboot', async () => {
  host = await startProductHost({ name: 'bare', dataRoot: 'disk', bootScript: noStorageTools });
  expect((await host.shell('losetup --version')).code).not.toBe(0);
  expect(await host.ok('info', '--format', '{{.DockerRootDir}}')).toBe(host.dataRoot);
  for (const fs of ['ext4', 'xfs', 'btrfs']) {
    await createVolume(host, fs, { fs });
    await runOn(host, fs, `echo ${fs} > /data/note`);
  }
  await startIdle(host, 'user', 'ext4', '--restart', 'always');
  await host.reboot();
  await waitFor(
    'the container is back with its volume',
    async () => (await inside(host, 'user', 'cat /data/note')) === 'ext4',
    { timeoutMs: 60_000 },
  );
  for (const fs of ['xfs', 'btrfs']) expect(await runOn(host, fs, 'cat /data/note')).toBe(fs);
  await host.ok('rm', '-f', 'user');
  await host.ok('volume', 'rm', 'ext4', 'xfs', 'btrfs');
});

test("an engine's defaults for containers do not reach the data plane", async () => {
  host = await startProductHost({
    name: 'defaults',
    engineArgs: [
      ...['--icc=false', '--userland-proxy=false', '--init', '--no-new-privileges'],
      ...['--log-driver', 'none', '--default-ulimit', 'nofile=256:256', '--default-shm-size', '1m'],
      ...['--default-address-pool', 'base=10.200.0.0/16,size=24', '--default-cgroupns-mode', 'private'],
    ],
  });
  await createVolume(host, 'db');
  await runOn(host, 'db', 'echo kept > /data/note');
  const { id } = await statusOf(host, 'db');
  expect((await host.docker('logs', `openebs-target-${id}`)).stdout).toContain('ready');
  await host.stopEngine();
  await host.startEngine();
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
  await host.ok('volume', 'rm', 'db');
});

test('an engine that maps the users of its containers has volumes too', async () => {
  const maps = `
    echo daemon:100000:65536 >/run/subid
    for file in /etc/subuid /etc/subgid; do [ -e $file ] || touch $file; mount --bind /run/subid $file; done`;
  // Its data is another than that of an engine without the mapping, so nothing is prepared.
  host = await startLabHost({
    name: 'userns',
    images: false,
    bootScript: maps,
    engineArgs: ['--userns-remap', 'daemon'],
  });
  await installPlugin(host, { from: 'registry' });
  // Users of its containers are others on the host: the volume is given to the one they call root.
  await createVolume(host, 'db', { uid: '100000', gid: '100000' });
  expect(await statusOf(host, 'db')).toMatchObject({ state: 'ready', error: '' });
  const reference = await host.ok('image', 'ls', '--format', '{{.Repository}}:{{.Tag}}', 'openebs/dataplane');
  const run = (script: string) =>
    host.ok(
      'run',
      '--rm',
      '--network',
      'none',
      '-v',
      'db:/data',
      '--entrypoint',
      '/bin/sh',
      reference,
      '-ec',
      script,
    );
  expect(await run('echo mapped > /data/note; id -u; cat /proc/self/uid_map')).toMatch(/^0\n\s+0\s+100000\s/);
  await host.ok('volume', 'rm', 'db');
});
