import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { killAndWait } from '../support/crash.js';
import { waitFor } from '../support/exec.js';
import { liveRestore, type LabHost } from '../support/lab.js';
import {
  createVolume,
  driverCall,
  expectTraces,
  inside,
  runOn,
  startIdle,
  startProductHost,
  startWriter,
  statusOf,
  tidy,
  tracesOf,
  type Traces,
  verifyWritten,
  type Writer,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

async function startHost(name: string, engineArgs: string[] = []): Promise<void> {
  host = await startProductHost({ name, engineArgs });
  await createVolume(host, 'first');
  await runOn(host, 'first', 'true');
  await host.ok('volume', 'rm', 'first');
  before = await tracesOf(host);
}

/** Mount id -> how often it is counted, of all volumes. */
function counted(): Record<string, number> {
  const file = JSON.parse(readFileSync(join(host.run, 'openebs/mounts.json'), 'utf8')) as {
    volumes: Record<string, Record<string, number>>;
  };
  return Object.assign({}, ...Object.values(file.volumes)) as Record<string, number>;
}

const mountsHere = async (volume: string): Promise<number> => (await statusOf(host, volume)).mountsHere;

/** A mount that was counted and lost is forgotten by the plugin's timer, when no container is left. */
function expectNothingMounted(volume: string): Promise<true> {
  return waitFor(
    `nothing is counted, mounted or attached of ${volume}`,
    async () => {
      const { attachedTo, mountsHere: mounts, error } = await statusOf(host, volume);
      const loops = (await host.loops()).map((loop) => loop.name);
      const seen = JSON.stringify({ attachedTo, mounts, error, counted: counted(), loops });
      if (attachedTo === '' && mounts === 0 && loops.length === 0 && seen.includes('"counted":{}'))
        return true;
      throw new Error(seen);
    },
    { timeoutMs: 120_000, everyMs: 500 },
  );
}

async function endsClean(volume: string): Promise<void> {
  await host.ok('volume', 'rm', volume);
  await expectTraces(host, before);
}

describe('on an engine that ends its containers with itself', () => {
  beforeAll(async () => {
    await startHost('counts');
  });

  afterEach(async () => {
    await tidy(host);
  });

  afterAll(async () => {
    await host.close();
  });

  test('pain: the same mount id twice: docker cp both ways at once leaves a container its volume and the count right', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'accounting-'));
    try {
      await createVolume(host, 'db');
      const writer = await startWriter(host, 'busy', 'db');
      await writer.goesOn(1);
      writeFileSync(join(dir, 'in'), 'copied in');
      await inside(host, 'busy', 'echo copied out > /data/out');
      const copies = Array.from({ length: 4 }, (_, round) => [
        host.ok('cp', join(dir, 'in'), `busy:/data/in${String(round)}`),
        host.ok('cp', 'busy:/data/out', join(dir, `out${String(round)}`)),
      ]);
      await Promise.all(copies.flat());
      expect(Object.values(counted())).toEqual([1]);
      for (const round of [0, 1, 2, 3]) {
        expect(readFileSync(join(dir, `out${String(round)}`), 'utf8')).toBe('copied out\n');
        expect(await inside(host, 'busy', `cat /data/in${String(round)}`)).toBe('copied in');
      }
      await writer.goesOn();
      await writer.finish();
      await expectNothingMounted('db');
      await host.ok('rm', 'busy');
      await verifyWritten(host, 'db');
      await endsClean('db');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test('an unmount of an id that holds nothing takes nothing from who holds the volume', async () => {
    await createVolume(host, 'db', { size: '200M' });
    const stray = { Name: 'db', ID: 'of another generation' };
    expect(await driverCall(host, 'Unmount', stray)).toEqual({ Err: '' });
    await startIdle(host, 'user', 'db');
    expect(await driverCall(host, 'Unmount', stray)).toEqual({ Err: '' });
    expect(await mountsHere('db')).toBe(1);
    await inside(host, 'user', 'echo mine > /data/mine; sync /data/mine');
    expect(await runOn(host, 'db', 'cat /data/mine')).toBe('mine');
    await host.ok('rm', '-f', 'user');
    await expectNothingMounted('db');
    await endsClean('db');
  });

  test('a volume that a running container has is never removed, detached or unmounted, though its count was lost', async () => {
    await createVolume(host, 'db');
    const writer = await startWriter(host, 'busy', 'db');
    await writer.goesOn(1);
    for (const content of [undefined, '{"volumes":']) {
      const file = join(host.run, 'openebs/mounts.json');
      if (content === undefined) rmSync(file);
      else writeFileSync(file, content);
      await killAndWait(host);
      expect(await driverCall(host, 'Remove', { Name: 'db' })).toMatchObject({
        Err: expect.stringMatching(/volume db is in use by busy/) as string,
      });
      // What another container does on the volume does not end what the first one has.
      expect(await runOn(host, 'db', 'stat -c %s /data/load')).toBe(String(16 * 1024 ** 2));
      await driverCall(host, 'Unmount', { Name: 'db', ID: 'of nobody' });
      await writer.goesOn(1);
    }
    await waitFor('the mount is counted again', async () => (await mountsHere('db')) === 1, {
      timeoutMs: 60_000,
    });
    expect((await statusOf(host, 'db')).error).toBe('');
    await writer.goesOn(1);
    await writer.finish();
    await expectNothingMounted('db');
    await host.ok('rm', 'busy');
    await verifyWritten(host, 'db');
    await endsClean('db');
  });

  test.skipIf(liveRestore)(
    'pain: reference counts drift: after the engine was killed, stopped, or the plugin disabled, all counts return to nothing',
    async () => {
      await createVolume(host, 'db');
      await startIdle(host, 'service', 'db', '--restart', 'always');
      await startIdle(host, 'once', 'db');
      const [, once = ''] = Object.keys(counted());
      await inside(host, 'service', 'echo kept > /data/kept; sync /data/kept');
      const back = (): Promise<true> =>
        waitFor(
          'the service has its data',
          async () => (await inside(host, 'service', 'cat /data/kept')) === 'kept',
        );
      // An engine that was killed mounts again under the id that it had, without the unmount between: that is found
      // out in its time. With each orderly start the mount has another id. The other container stays down.
      const countedOnce = (): Promise<true> =>
        waitFor(
          'the mount of the service is counted once',
          () => {
            const now = Object.entries(counted()).filter(([id]) => id !== once);
            if (now.length === 1 && now[0]?.[1] === 1) return true;
            throw new Error(JSON.stringify(now));
          },
          { timeoutMs: 120_000, everyMs: 1000 },
        );

      await host.stopEngine({ signal: 'SIGKILL' });
      await host.startEngine();
      await back();
      await countedOnce();
      await host.stopEngine();
      await host.startEngine();
      await back();
      await countedOnce();
      await host.stopEngine({ signal: 'SIGKILL' });
      await host.startEngine();
      await back();
      await countedOnce();
      await host.ok('plugin', 'disable', '-f', 'openebs');
      expect(await inside(host, 'service', 'cat /data/kept')).toBe('kept');
      await host.ok('plugin', 'enable', 'openebs');
      await countedOnce();
      expect(await inside(host, 'service', 'cat /data/kept')).toBe('kept');
      expect(await runOn(host, 'db', 'cat /data/kept')).toBe('kept');
      await host.ok('restart', '-t', '1', 'service');
      await back();
      await countedOnce();
      await host.ok('rm', '-f', 'service', 'once');
      await expectNothingMounted('db');
      await endsClean('db');
    },
    600_000,
  );

  test('a volume whose count is too high is removed at once when its containers are gone', async () => {
    await createVolume(host, 'db', { size: '200M' });
    await startIdle(host, 'user', 'db');
    await driverCall(host, 'Mount', { Name: 'db', ID: 'whose answer was lost' });
    await host.ok('rm', '-f', 'user');
    expect(await mountsHere('db')).toBe(1);
    // Of a mount that it has just answered the plugin cannot know that nobody heard it: a container may be starting.
    expect((await driverCall(host, 'Remove', { Name: 'db' }))['Err']).toMatch(/was mounted .* try again in/);
    await killAndWait(host);
    await endsClean('db');
    expect(counted()).toEqual({});
  });
});

describe('on an engine with live-restore', () => {
  let writer: Writer;

  beforeAll(async () => {
    await startHost('restore', liveRestore ? [] : ['--live-restore']);
    await createVolume(host, 'db');
    writer = await startWriter(host, 'busy', 'db');
    await writer.goesOn(1);
  });

  afterAll(async () => {
    await host.close();
  });

  test.each(['SIGTERM', 'SIGKILL'] as const)(
    'a container writes on while the engine is away after %s, and others share its volume',
    async (signal) => {
      await host.stopEngine({ signal });
      const seen = await host.shellOk('cat /sys/block/loop*/stat | md5sum');
      await waitFor(
        'it writes on',
        async () => (await host.shellOk('cat /sys/block/loop*/stat | md5sum')) !== seen,
      );
      await host.startEngine();
      await writer.goesOn();
      expect(await mountsHere('db')).toBe(1);
      expect(await runOn(host, 'db', 'stat -c %s /data/load')).toBe(String(16 * 1024 ** 2));
      await writer.goesOn(1);
    },
  );

  test('a container writes on when engine and plugin die together, and the count is right when its end comes', async () => {
    const pid = await host.pluginPid();
    await host.stopEngine({ signal: 'SIGKILL' });
    await host.shellOk(`kill -KILL ${String(pid)}`);
    await host.startEngine();
    await writer.goesOn();
    expect(await runOn(host, 'db', 'stat -c %s /data/load')).toBe(String(16 * 1024 ** 2));
    await writer.goesOn(1);
    expect(await mountsHere('db')).toBe(1);
    await writer.finish();
    await expectNothingMounted('db');
    await host.ok('rm', 'busy');
    await verifyWritten(host, 'db');
    await endsClean('db');
  });
});
