import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, onTestFinished, test } from 'vitest';
import { failure, waitFor } from '../support/exec.js';
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
  verifyWritten,
  tidy,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

beforeAll(async () => {
  host = await startProductHost({ name: 'life' });
  // The first volume makes what all share (image, etcd); it is the yardstick for what later ones leave.
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

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'life-'));
  onTestFinished(() => {
    rmSync(dir, { recursive: true, force: true });
  });
  return dir;
}

test('data written by one container is there for the next, until the volume is removed', async () => {
  await createVolume(host, 'db');
  const status = await statusOf(host, 'db');
  expect(status).toMatchObject({ size: expect.anything() as unknown, sizeBytes: 1024 ** 3, fs: 'ext4' });
  expect(await host.ok('ps', '--format', '{{.Names}}')).toContain(`openebs-target-${status.id}`);
  await runOn(host, 'db', 'echo kept > /data/note');
  expect(await runOn(host, 'db', 'cat /data/note')).toBe('kept');
  await host.ok('volume', 'rm', 'db');
  await expectTraces(host, before);
});

test('a removed volume does not come back with its data when its name is used again', async () => {
  await createVolume(host, 'again');
  const first = await statusOf(host, 'again');
  await runOn(host, 'again', 'echo old > /data/note');
  await host.ok('volume', 'rm', 'again');
  await createVolume(host, 'again', { size: '512M' });
  expect((await statusOf(host, 'again')).id).not.toBe(first.id);
  expect(await runOn(host, 'again', 'ls -A /data')).toBe('');
  await host.ok('volume', 'rm', 'again');
});

test('a fresh volume is an empty directory, as databases demand', async () => {
  await createVolume(host, 'empty');
  expect(await runOn(host, 'empty', '[ -z "$(ls -A /data)" ] && mkdir /data/pgdata && echo started')).toBe(
    'started',
  );
  await host.ok('volume', 'rm', 'empty');
});

test('two containers share a volume, and stopping one leaves the other writing', async () => {
  await createVolume(host, 'shared');
  await startIdle(host, 'reader', 'shared');
  const writer = await startWriter(host, 'writer', 'shared');
  await writer.goesOn(1);
  expect(await inside(host, 'reader', 'stat -c %s /data/load')).toBe(String(16 * 1024 ** 2));
  await host.ok('stop', 'reader');
  await writer.goesOn();
  await host.ok('start', 'reader');
  await host.ok('rm', '-f', 'reader');
  await writer.goesOn();
  await writer.finish();
  await host.ok('rm', 'writer');
  await verifyWritten(host, 'shared');
  await host.ok('volume', 'rm', 'shared');
  await expectTraces(host, before);
});

test('containers that start at the same moment on a fresh volume all get it', async () => {
  await createVolume(host, 'rush');
  const names = ['one', 'two', 'three', 'four'];
  await Promise.all(names.map((name) => startIdle(host, name, 'rush')));
  await Promise.all(names.map((name) => inside(host, name, `echo ${name} > /data/${name}`)));
  expect((await inside(host, 'one', 'cat /data/*')).split('\n').sort()).toEqual([...names].sort());
  await host.ok('rm', '-f', ...names);
  await host.ok('volume', 'rm', 'rush');
  await expectTraces(host, before);
});

test('a volume that a run names is made on the way, with the options of the run', async () => {
  const mount =
    'type=volume,src=inline,dst=/data,volume-driver=openebs,volume-opt=size=300M,volume-opt=mode=0701';
  expect(
    await host.ok('run', '--rm', '--network', 'none', '--mount', mount, 'lab', 'stat', '-c', '%a', '/data'),
  ).toBe('701');
  expect((await statusOf(host, 'inline')).sizeBytes).toBe(300 * 1024 ** 2);
  await host.ok('volume', 'rm', 'inline');
});

test('an anonymous volume goes with its container under --rm', async () => {
  const mount = 'type=volume,dst=/data,volume-driver=openebs,volume-opt=size=200M';
  const run = ['run', '--rm', '--network', 'none', '--mount', mount, 'lab', 'sh', '-ec'];
  expect(await host.ok(...run, 'echo x > /data/x && cat /data/x')).toBe('x');
  await expectTraces(host, before);
});

test('what the image has at the mount point is copied into a fresh volume, once', async () => {
  await createVolume(host, 'content');
  const run = ['run', '--rm', '--network', 'none', '-v', 'content:/data', 'lab-content', 'sh', '-ec'];
  expect(await host.ok(...run, 'cat /data/greeting && stat -c %u:%g /data/sub/file && ls -A /data')).toBe(
    'from the image\n1234:1234\ngreeting\nsub',
  );
  await host.ok(...run, 'echo changed > /data/greeting; rm /data/sub/file');
  expect(await host.ok(...run, 'cat /data/greeting; ls /data/sub')).toBe('changed');
  await host.ok('volume', 'rm', 'content');
  await expectTraces(host, before);
});

test('with nocopy a fresh volume stays empty, and takes what is written', async () => {
  await createVolume(host, 'bare');
  const run = ['run', '--rm', '--network', 'none', '-v', 'bare:/data:nocopy', 'lab-content', 'sh', '-ec'];
  expect(await host.ok(...run, 'ls -A /data; echo mine > /data/mine')).toBe('');
  expect(await host.ok(...run, 'ls -A /data; cat /data/mine')).toBe('mine\nmine');
  await host.ok('volume', 'rm', 'bare');
  await expectTraces(host, before);
});

test('docker cp in and out of a running container disturbs nothing', async () => {
  const dir = scratch();
  await createVolume(host, 'copied');
  const writer = await startWriter(host, 'busy', 'copied');
  await writer.goesOn(1);
  for (let round = 0; round < 5; round += 1) {
    writeFileSync(join(dir, 'in'), `round ${String(round)}`);
    await host.ok('cp', join(dir, 'in'), 'busy:/data/in');
    await host.ok('cp', 'busy:/data/in', join(dir, 'out'));
    expect(readFileSync(join(dir, 'out'), 'utf8')).toBe(`round ${String(round)}`);
  }
  await writer.goesOn();
  await writer.finish();
  // Into a stopped container as well: the engine mounts for the time of the copy.
  await host.ok('cp', join(dir, 'in'), 'busy:/data/later');
  await host.ok('rm', 'busy');
  expect(await runOn(host, 'copied', 'cat /data/later')).toBe('round 4');
  await host.ok('volume', 'rm', 'copied');
  await expectTraces(host, before);
});

// Compose 1 compares the driver's name with the engine's, which has the tag: plain `openebs` fails there at the
// second `up`. Compose 2 takes both.
const composeFile = `
version: "3.7"
services:
  writer:
    image: lab
    network_mode: none
    command: sh -c 'trap "exit 0" TERM; while :; do date >>/data/log; sleep 1 & wait $$!; done'
    volumes: ["db:/data"]
  reader:
    image: lab
    network_mode: none
    volumes: ["db:/data"]
volumes:
  db:
    driver: openebs:latest
    driver_opts:
      size: 500M
      uid: 1234
`;

test('a compose project comes up, goes down and comes up again with its data', async () => {
  const dir = scratch();
  writeFileSync(join(dir, 'docker-compose.yml'), composeFile);
  const compose = async (...args: string[]): Promise<string> => {
    const result = await host.compose(dir, '-p', 'shop', ...args);
    if (result.code !== 0) throw new Error(failure(`compose ${args.join(' ')}`, result));
    return result.stdout.trim();
  };
  const lines = async (): Promise<number> =>
    Number((await compose('exec', '-T', 'reader', 'sh', '-c', 'wc -l </data/log')).trim());
  await compose('up', '-d');
  await waitFor('the reader sees what the writer writes', async () => (await lines()) >= 2);
  const seen = await lines();
  await compose('down');
  await compose('up', '-d');
  expect(await lines()).toBeGreaterThanOrEqual(seen);
  expect(await statusOf(host, 'shop_db')).toMatchObject({ sizeBytes: 500 * 1024 ** 2 });
  await compose('down', '-v');
  await expectTraces(host, before);
});

test('labels given at creation are shown as long as the volume lives', async () => {
  await host.ok('volume', 'create', '-d', 'openebs', '--label', 'team=blue', '-o', 'size=200M', 'labelled');
  await runOn(host, 'labelled', 'true');
  expect(
    await host.ok('volume', 'inspect', '--format', '{{.Labels.team}} {{.Options.size}}', 'labelled'),
  ).toBe('blue 200M');
  await host.ok('volume', 'rm', 'labelled');
});
