/**
 * Figures beside their bars. Each bar is made of a yardstick that the same run has measured, as absolute times
 * differ between machines; nothing here asserts a time.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { execOk, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  driverSocket,
  exchange,
  inside,
  startIdle,
  startProductHost,
} from '../support/product.js';
import { atLeast, atMost, median, percentile, report, timedMs } from './table.js';

const ROUNDS = 9;
const MANY = 1000;
const MIB = 2 ** 20;
let host: LabHost;
let socket: string;
let runMs: number;

async function call(method: string, body: unknown): Promise<void> {
  const [, text] = await exchange(socket, 'POST', `/VolumeDriver.${method}`, JSON.stringify(body));
  const { Err } = JSON.parse(text) as { Err?: string };
  if (Err) throw new Error(`${method}: ${Err}`);
}

async function medianOf(operation: (round: number) => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) times.push(await timedMs(() => operation(round)));
  return median(times);
}

async function pluginRssMb(): Promise<number> {
  const pid = await host.pluginPid();
  const status = await host.shellOk(`grep VmRSS /proc/${String(pid)}/status`);
  return Number(/(\d+) kB/.exec(status)?.[1]) / 1024;
}

beforeAll(async () => {
  host = await startProductHost({ name: 'bench' });
  socket = await driverSocket(host);
  await createVolume(host, 'first');
  await host.ok('run', '--rm', '--network', 'none', '-v', 'first:/data', 'lab', 'true');
  await host.ok('volume', 'rm', 'first');
});

afterAll(async () => {
  await host.close();
  report('main');
});

test('start', () => {
  const starts = [...host.log().matchAll(/startMs\\":(\d+)/g)].map((match) => Number(match[1]) / 1000);
  expect(starts.length).toBeGreaterThan(0);
  atMost('plugin process start -> socket listening', median(starts), {
    bar: 0.5,
    unit: 's',
    yardstick: 'fixed',
  });
});

test('the command', async () => {
  const nodeMs = await medianOf(() => execOk(process.execPath, ['--eval', '0']));
  for (const [what, program] of [
    ['script', 'build/docker-openebs'],
    ['single executable', 'build/docker-openebs-static'],
  ] as const)
    atMost(`docker openebs --help, ${what}`, await medianOf(() => execOk(program, ['--help'])), {
      bar: 100,
      unit: 'ms',
      yardstick: `fixed; Node alone ${nodeMs.toFixed(0)} ms`,
    });
});

test('control plane', async () => {
  const names: string[] = [];
  runMs = await medianOf(async (round) => {
    names.push(
      await host.ok('run', '-d', '--network', 'none', '--name', `run${String(round)}`, 'lab', 'true'),
    );
  });
  await host.ok('rm', '-f', ...names);
  const volume = (round: number) => `bench-${String(round)}`;
  const Opts = { size: '1G' };
  const mount = (round: number) => call('Mount', { Name: volume(round), ID: 'bench' });
  const unmount = (round: number) => call('Unmount', { Name: volume(round), ID: 'bench' });
  const create = await medianOf((round) => call('Create', { Name: volume(round), Opts }));
  const firstMount = await medianOf(mount);
  const unmountMs = await medianOf(unmount);
  const laterMount = await medianOf(mount);
  for (let round = 0; round < ROUNDS; round += 1) await unmount(round);
  const remove = await medianOf((round) => call('Remove', { Name: volume(round) }));
  const yardstick = (factor: number) => `${String(factor)} x docker run -d (${runMs.toFixed(0)} ms)`;
  const row = (name: string, value: number, factor: number) => {
    atMost(name, value, { bar: factor * runMs, unit: 'ms', yardstick: yardstick(factor) });
  };
  row('create, ready to mount', create, 2);
  row('first mount: attach, mkfs, mount', firstMount, 3);
  row('later mount', laterMount, 2);
  row('unmount', unmountMs, 1.5);
  row('remove', remove, 1.5);
  atMost('plugin memory, idle', await pluginRssMb(), { bar: 120, unit: 'MB', yardstick: 'fixed' });
});

/** What fio says of one job on a file of the volume. */
async function fio(rw: string, bs: string, depth: number): Promise<{ iops: number; mibs: number }> {
  const job = `--rw=${rw} --bs=${bs} --iodepth=${String(depth)} --runtime=5 --time_based`;
  const file = '--name=job --filename=/data/file --size=512M --direct=1 --ioengine=libaio --norandommap';
  const text = await inside(host, 'fio', `fio ${file} ${job} --output-format=json 2>/dev/null`);
  interface Side {
    iops: number;
    bw_bytes: number;
  }
  const parsed = JSON.parse(text.slice(text.indexOf('{'))) as { jobs: { read: Side; write: Side }[] };
  const side = parsed.jobs[0]?.[rw.includes('write') ? 'write' : 'read'];
  return { iops: side?.iops ?? 0, mibs: (side?.bw_bytes ?? 0) / MIB };
}

const yardstickIqn = 'iqn.2016-09.com.openebs:yardstick';
/** The name that qemu-img logs in with when it is given a URL. */
const yardstickInitiator = 'iqn.2008-11.org.linux-kvm';

/** A second LUN of the same kind, for qemu-img alone: iSCSI and tgtd without FUSE, loop and file system. */
async function startYardstick(image: string): Promise<void> {
  const directory = join(host.lib, 'yardstick');
  mkdirSync(directory);
  const spec = [
    ...['generation bench', 'volume yardstick', `iqn ${yardstickIqn}`, 'address 127.0.0.1', 'port 33260'],
    ...[`size ${String(512 * MIB)}`, 'file disk.img', `admit ${yardstickInitiator} bench secret`, 'drain 1'],
  ];
  writeFileSync(join(directory, 'spec'), `${spec.join('\n')}\n`);
  writeFileSync(join(directory, 'secret'), 'bench-secret');
  await host.shellOk('dd if=/dev/urandom of=/var/lib/yardstick/disk.img bs=1M count=512 2>/dev/null');
  const binds = ['-v', '/var/lib/yardstick:/spec', '-v', '/var/lib/yardstick:/pool'];
  await host.ok('run', '-d', '--name', 'yardstick', '--network', 'host', ...binds, image, 'target');
  await waitFor('the yardstick serves', async () =>
    (await host.ok('logs', 'yardstick')).includes('target: ready'),
  );
}

async function qemuBench(image: string, block: number, depth: number, write: boolean): Promise<number> {
  // `qemu-img bench` takes no secret object; this account is the bench's own.
  const lun = `iscsi://bench%bench-secret@127.0.0.1:33260/${yardstickIqn}/1`;
  const run = async (requests: number): Promise<number> => {
    const output = await host.ok(
      ...['run', '--rm', '--network', 'host', '-v', '/var/lib/yardstick:/spec', '--entrypoint', 'qemu-img'],
      ...[image, 'bench', '-f', 'raw'],
      // A step that is no multiple of the block keeps the offsets from being one stream.
      ...(block === 4096 ? ['-S', String(17 * block)] : []),
      ...['-c', String(requests), '-d', String(depth), '-s', String(block), ...(write ? ['-w'] : []), lun],
    );
    return Number(/completed in ([\d.]+) seconds/.exec(output)?.[1]);
  };
  const requests = block === 4096 ? (depth === 1 ? 15_000 : 60_000) : 1000;
  return requests / (await run(requests));
}

test('data plane', async () => {
  const { reference: image } = JSON.parse(readFileSync('build/image.json', 'utf8')) as { reference: string };
  await createVolume(host, 'data', { size: '2G' });
  await startIdle(host, 'fio', 'data');
  await inside(host, 'fio', 'dd if=/dev/urandom of=/data/file bs=1M count=512 conv=fsync 2>/dev/null');
  await startYardstick(image);
  for (const rw of ['randwrite', 'randread']) {
    for (const depth of [1, 32]) {
      const bare = await qemuBench(image, 4096, depth, rw === 'randwrite');
      const { iops } = await fio(rw, '4k', depth);
      atLeast(`4k ${rw}, depth ${String(depth)}`, iops, {
        bar: bare / 2,
        unit: 'IOPS',
        yardstick: `half of qemu-img bench (${bare.toFixed(0)})`,
      });
    }
  }
  for (const rw of ['write', 'read']) {
    const bare = await qemuBench(image, MIB, 4, rw === 'write');
    const { mibs } = await fio(rw, '1M', 4);
    atLeast(`1 MiB ${rw}, depth 4`, mibs, {
      bar: bare / 2,
      unit: 'MiB/s',
      yardstick: `half of qemu-img bench (${bare.toFixed(0)})`,
    });
  }
  await host.ok('rm', '-f', 'fio', 'yardstick');
  await host.ok('volume', 'rm', 'data');
});

/** Runs on the host, as etcd listens on its loopback only: records of volumes that another host would serve. */
const insertMany = `
  import { readFileSync } from 'node:fs';
  const [dist, certificates, count] = process.argv.slice(1);
  const { createEtcdState } = await import(dist + '/state/etcd-state.js');
  const { records } = await import(dist + '/state/records.js');
  const read = (name) => readFileSync(certificates + '/' + name);
  const log = { warn() {}, info() {}, debug() {}, error() {} };
  const tls = { ca: read('ca.crt'), certificate: read('client.crt'), key: read('client.key'), serverName: 'localhost' };
  const state = createEtcdState({ endpoints: ['https://127.0.0.1:23790'], tls, log });
  const ctx = { log, signal: new AbortController().signal, requestId: 'bench' };
  for (let index = 0; index < Number(count); index += 1) {
    const name = 'many-' + index;
    const record = {
      schema: 1, name, id: 'm' + index, sizeBytes: 1073741824, fs: 'ext4', mkfsOptions: [], mountOptions: [],
      uid: 0, gid: 0, mode: 493, pool: 'default', status: 'ready', formatted: true, epoch: 1,
      createdAt: '2026-01-01T00:00:00.000Z',
    };
    const put = '/openebs/volumes/' + name;
    await state.transact(ctx, { if: [{ key: put, absent: true }], then: [{ put, value: records.volume.encode(record) }] });
  }
  await state.close();
  console.log('inserted');
  process.exit(0);
`;

test('a thousand volumes with etcd stopped', async () => {
  const dist = resolve('build/plugin/rootfs/app/dist');
  const inserting = host.spawn(process.execPath, [
    '--input-type=module',
    '-e',
    insertMany,
    dist,
    '/var/lib/openebs/certificates',
    String(MANY),
  ]);
  if ((await inserting.ended) !== 0) throw new Error(inserting.output());
  await waitFor('the plugin knows them all', async () => {
    const [, text] = await exchange(socket, 'POST', '/VolumeDriver.List', '{}');
    return (JSON.parse(text) as { Volumes: unknown[] }).Volumes.length >= MANY;
  });
  await host.ok('kill', 'openebs-etcd');
  const calls: [method: string, rounds: number, body: (round: number) => unknown][] = [
    ['Get', 500, (round) => ({ Name: `many-${String(round)}` })],
    ['List', 200, () => ({})],
    ['Capabilities', 500, () => ({})],
  ];
  for (const [method, rounds, body] of calls) {
    const times: number[] = [];
    for (let round = 0; round < rounds; round += 1)
      times.push(await timedMs(() => call(method, body(round))));
    const name = `${method}, 1,000 volumes, etcd stopped, p99`;
    atMost(name, percentile(times, 0.99), {
      bar: 5,
      unit: 'ms',
      yardstick: `fixed; median ${median(times).toFixed(2)} ms, with connecting`,
    });
  }
  atMost('plugin memory, 1,000 volumes', await pluginRssMb(), { bar: 200, unit: 'MB', yardstick: 'fixed' });
});
