import { mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, type LabProcess, startLabHost } from '../support/lab.js';
import {
  createVolume,
  expectTraces,
  installPlugin,
  listeningPorts,
  runOn,
  startProductHost,
  startWriter,
  statusOf,
  tracesOf,
  tryOn,
} from '../support/product.js';

let host: LabHost;

afterEach(async () => {
  await host.close();
});

/** Runs on the volume until it works: the cause of a fault is gone, and nobody does anything else. */
function recovers(volume: string): Promise<true> {
  return waitFor(
    `the volume ${volume} works again by itself`,
    async () => {
      const result = await tryOn(host, volume, 'echo ok > /data/ok');
      if (result.code === 0) return true;
      throw new Error(result.stderr);
    },
    { timeoutMs: 60_000, everyMs: 1000 },
  );
}

test('a host without FUSE or without loop devices says so, and works once it has them', async () => {
  host = await startLabHost({ name: 'bare', plugin: true, missingDevices: ['fuse', 'loop*'] });
  const enabled = await host.docker('plugin', 'enable', 'openebs');
  if (enabled.code === 0) {
    const created = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=200M', 'db');
    const used = created.code === 0 ? await tryOn(host, 'db', 'true') : created;
    expect(used.code).not.toBe(0);
    expect(used.stderr).toMatch(/\/dev\/fuse/);
    await host.shellOk('mknod -m 600 /dev/fuse c 10 229');
  } else {
    expect(enabled.stderr).toMatch(/\/dev\/fuse/);
    await host.shellOk('mknod -m 600 /dev/fuse c 10 229');
    await host.ok('plugin', 'enable', 'openebs');
  }
  const tried = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=200M', 'db');
  const refused = tried.code === 0 ? await tryOn(host, 'db', 'true') : tried;
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/loop/);
  expect(refused.stderr).not.toMatch(/\/dev\/fuse/);
  expect(await host.ok('ps', '-aq', '--filter', 'label=openebs.role=initiator')).toBe('');
  await host.shellOk(
    'mknod -m 600 /dev/loop-control c 10 237; for n in $(seq 0 255); do mknod -m 600 /dev/loop$n b 7 $n; done',
  );
  await waitFor('the volume is made', async () => {
    await createVolume(host, 'db', { size: '200M' });
    return true;
  });
  await recovers('db');
});

test('a port that is taken is passed over, and a target whose port was taken while it was down moves', async () => {
  host = await startProductHost({ name: 'ports' });
  await createVolume(host, 'one', { size: '200M' });
  const used = Number((await statusOf(host, 'one')).target.split(':')[1]);
  const script = (port: number): string => `net.createServer().listen(${String(port)}, '127.0.0.1')`;
  const listen = async (port: number): Promise<LabProcess> => {
    const foreign = host.spawn(process.execPath, ['-e', script(port)]);
    await waitFor('the port is taken', async () => (await listeningPorts(host)).includes(String(port)));
    return foreign;
  };
  const next = await listen(used + 1);
  await createVolume(host, 'two', { size: '200M' });
  expect((await statusOf(host, 'two')).target).not.toBe(`127.0.0.1:${String(used + 1)}`);
  await runOn(host, 'two', 'echo ok > /data/ok');
  await next.stop();

  const target = `openebs-target-${(await statusOf(host, 'one')).id}`;
  await host.ok('kill', target);
  const foreign = await listen(used);
  await waitFor(
    'the target has moved to a port that is free',
    async () => {
      const now = (await statusOf(host, 'one')).target;
      return (
        now !== `127.0.0.1:${String(used)}` && (await listeningPorts(host)).includes(now.split(':')[1] ?? '')
      );
    },
    { timeoutMs: 60_000 },
  );
  await recovers('one');
  await foreign.stop();
});

test('a pool that is full refuses new volumes and takes them when there is room', async () => {
  host = await startLabHost({ name: 'pool', plugin: true });
  mkdirSync(join(host.lib, 'openebs/pools'), { recursive: true });
  await host.shellOk('mount -t tmpfs -o size=300M pool /var/lib/openebs/pools');
  await installPlugin(host);
  await createVolume(host, 'early', { size: '1G' });
  const before = await tracesOf(host);
  await host.shellOk('dd if=/dev/zero of=/var/lib/openebs/pools/filler bs=1M count=400 2>/dev/null || true');
  const refused = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=1G', 'late');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/pool.*default.*(full|space|free)|(full|space|free).*pool.*default/s);
  await host.shellOk('rm /var/lib/openebs/pools/filler');
  await expectTraces(host, before);
  await createVolume(host, 'late', { size: '1G' });
  await recovers('late');

  // Thin volumes can fill a pool while they are written.
  await runOn(host, 'early', 'true');
  await host.docker('run', '-d', '--name', 'filler', '--network', 'none', '-v', 'early:/data', 'lab');
  const filled = await host.docker(
    'exec',
    'filler',
    'dd',
    'if=/dev/zero',
    'of=/data/big',
    'bs=1M',
    'count=900',
    'conv=fsync',
  );
  expect(filled.code).not.toBe(0);
  const status = await waitFor(
    'the trouble is told',
    async () => {
      const seen = await statusOf(host, 'early');
      return seen.error !== '' && seen;
    },
    { timeoutMs: 60_000 },
  );
  expect(status.error).toMatch(/pool|space|read-only|error/);
  await host.ok('rm', '-f', 'filler');
  await host.ok('volume', 'rm', 'late');
  await host.shellOk('mount -o remount,size=1500M /var/lib/openebs/pools');
  await recovers('early');
});

test('a pool directory that is missing is told, and nothing is made in its place', async () => {
  host = await startProductHost({ name: 'nopool' });
  await createVolume(host, 'early', { size: '200M' });
  const pools = join(host.lib, 'openebs/pools');
  const pool = join(pools, 'default');
  renameSync(pool, join(host.lib, 'pool-away'));
  const refused = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=200M', 'late');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/pool.*default.*(missing|not exist|no such)/is);
  expect(readdirSync(pools)).toEqual([]);
  renameSync(join(host.lib, 'pool-away'), pool);
  await createVolume(host, 'late', { size: '200M' });
  await recovers('late');
  await recovers('early');
});

describe('etcd', () => {
  const endpoint = 'http://127.0.0.1:12379';

  async function startEtcd(): Promise<LabProcess> {
    const etcd = host.spawn('etcd', [
      ...[
        '--data-dir',
        '/var/lib/test-etcd',
        '--listen-client-urls',
        endpoint,
        '--advertise-client-urls',
        endpoint,
      ],
      ...[
        '--listen-peer-urls',
        'http://127.0.0.1:12380',
        '--initial-advertise-peer-urls',
        'http://127.0.0.1:12380',
      ],
      ...['--initial-cluster', 'default=http://127.0.0.1:12380', '--log-level', 'error'],
    ]);
    await waitFor('etcd listens', async () => (await listeningPorts(host)).includes('12379'));
    return etcd;
  }

  test('that is away at the start, and later, is named; what runs goes on; all works when it is back', async () => {
    host = await startProductHost({ name: 'etcd' }, { ETCD_ENDPOINTS: endpoint });
    expect(await host.ok('plugin', 'ls', '--format', '{{.Enabled}}')).toBe('true');
    const refused = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=200M', 'db');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/etcd.*127\.0\.0\.1:12379/s);
    let etcd = await startEtcd();
    await waitFor('the volume is made', async () => {
      await host.ok('volume', 'create', '-d', 'openebs', '--label', 'team=blue', '-o', 'size=200M', 'db');
      return true;
    });
    expect(await host.ok('ps', '-aq', '--filter', 'label=openebs.role=etcd')).toBe('');
    const writer = await startWriter(host, 'writer', 'db');
    await writer.goesOn(1);
    const before = await tracesOf(host);
    await etcd.stop();
    await writer.goesOn();
    const shown = '{{.Labels.team}} {{.Options.size}} {{.Status.fs}}';
    for (let round = 0; round < 5; round += 1) {
      expect(await host.ok('volume', 'inspect', '--format', shown, 'db')).toBe('blue 200M ext4');
    }
    expect(await host.ok('volume', 'ls', '-q')).toBe('db');
    const late = await host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=200M', 'late');
    expect(late.code).not.toBe(0);
    expect(late.stderr).toMatch(/etcd/);
    await host.ok('exec', 'writer', 'true');
    await writer.goesOn();
    etcd = await startEtcd();
    await expectTraces(host, before);
    await createVolume(host, 'late', { size: '200M' });
    await writer.finish();
    await host.ok('rm', 'writer');
    await recovers('db');
    await host.ok('volume', 'rm', 'db', 'late');
    await etcd.stop();
  });

  test('of our own that is killed or removed comes back with its records', async () => {
    host = await startProductHost({ name: 'own-etcd' });
    await createVolume(host, 'db', { size: '200M' });
    for (const end of [['kill'], ['rm', '-f']]) {
      await host.ok(...end, 'openebs-etcd');
      await waitFor(
        'etcd runs again',
        async () => (await host.ok('inspect', '--format', '{{.State.Running}}', 'openebs-etcd')) === 'true',
        { timeoutMs: 60_000 },
      );
      await recovers('db');
    }
    await host.ok('volume', 'rm', 'db');
  });
});
