/** What a host keeps itself, on disks that are really full, read-only or broken. */
import { mkdirSync, mkdtempSync, rmSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Ctx } from '../../src/context.js';
import { createLog } from '../../src/log.js';
import { openLocalState } from '../../src/state/local-state.js';
import type { State } from '../../src/state/state.js';
import { execOk } from '../support/exec.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let home: string;
let disk: string;
let mounted: string[];
let opened: State[];

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'openebs-disk-'));
  disk = join(home, 'disk');
  mkdirSync(disk);
  [mounted, opened] = [[], []];
});

afterEach(async () => {
  for (const state of opened) await state.close();
  for (const place of mounted.reverse()) await execOk('umount', [place]);
  rmSync(home, { recursive: true });
});

async function mount(place: string, ...args: string[]): Promise<void> {
  await execOk('mount', [...args, place]);
  mounted.push(place);
}

async function start(leastBytes?: number): Promise<State> {
  const directory = join(disk, 'local');
  const state = await openLocalState({
    directory,
    shown: directory,
    log: ctx.log,
    ...(leastBytes === undefined ? {} : { leastBytes }),
  });
  opened.push(state);
  return state;
}

const put = (state: State, key: string, value: string) =>
  state.transact(ctx, { if: [], then: [{ put: key, value }] });

async function contentOf(state: State): Promise<Map<string, string>> {
  const { entries } = await state.range(ctx, '');
  return new Map(entries.map(({ key, value }) => [key, value]));
}

/** Writes until one is refused; answers what was acknowledged, how long the file was then, and why it ended. */
async function fill(state: State, bytes: number) {
  const kept = await contentOf(state);
  let size = 0;
  for (let number = 0; ; number += 1) {
    const [key, value] = [`/fill${String(number)}`, `${String(number)}${'.'.repeat(bytes)}`];
    try {
      await put(state, key, value);
      kept.set(key, value);
      ({ size } = statSync(join(disk, 'local/state')));
    } catch (reason: unknown) {
      return { kept, size, reason };
    }
  }
}

test.each([
  ['of one page each', 4000],
  ['of a few bytes', 50],
])('a full disk refuses writes %s as a whole, and takes them again when there is room', async (_, bytes) => {
  await mount(disk, '-t', 'tmpfs', '-o', 'size=512k', 'none');
  writeFileSync(join(disk, 'ballast'), Buffer.alloc(100 * 1024));
  const state = await start();
  const { kept, size: full, reason } = await fill(state, bytes);
  expect(reason).toMatchObject({
    code: 'no_space',
    message: expect.stringContaining('disk is full') as string,
  });
  expect(statfsSync(disk).bavail).toBeLessThanOrEqual(1);
  expect(await contentOf(state)).toEqual(kept);
  for (let round = 0; round < 3; round += 1) {
    const both = { if: [], then: [{ delete: '/fill0' }, { put: '/both', value: 'x'.repeat(9000) }] };
    await expect(state.transact(ctx, both)).rejects.toMatchObject({ code: 'no_space' });
    await expect(state.lease(ctx, 5000, 'x'.repeat(9000))).rejects.toMatchObject({ code: 'no_space' });
  }
  expect(await contentOf(state)).toEqual(kept);
  // Nothing of what was refused is left for a restart to find.
  expect(statSync(join(disk, 'local/state')).size).toBe(full);
  await state.close();
  // A restart on the full disk has all of it, too.
  const again = await start();
  expect(await contentOf(again)).toEqual(kept);
  rmSync(join(disk, 'ballast'));
  await put(again, '/room', 'x'.repeat(9000));
  await again.close();
  const { size } = statSync(join(disk, 'local/state'));
  const last = await start();
  expect(await contentOf(last)).toEqual(new Map([...kept, ['/room', 'x'.repeat(9000)]]));
  expect(statSync(join(disk, 'local/state')).size).toBe(size);
});

test('on a disk too small for a second file writes go on in the first', async () => {
  await mount(disk, '-t', 'tmpfs', '-o', 'size=256k', 'none');
  const state = await start(1000);
  for (let number = 0; number < 40; number += 1) await put(state, `/key${String(number)}`, '.'.repeat(4000));
  writeFileSync(join(disk, 'ballast'), Buffer.alloc(64 * 1024));
  const { kept, reason } = await fill(state, 10);
  expect(reason).toMatchObject({ code: 'no_space' });
  await state.close();
  expect(await contentOf(await start())).toEqual(kept);
});

test('a disk that is mounted read-only is named, and taken up again when it is not', async () => {
  await mount(disk, '-t', 'tmpfs', '-o', 'size=1m', 'none');
  const state = await start();
  await put(state, '/a', '1');
  await state.close();
  await execOk('mount', ['-o', 'remount,ro', disk]);
  const again = await start();
  const why = { code: 'unavailable', message: expect.stringContaining('mounted read-only') as string };
  await expect(again.get(ctx, '/a')).rejects.toMatchObject(why);
  await expect(put(again, '/a', '2')).rejects.toMatchObject(why);
  await execOk('mount', ['-o', 'remount,rw', disk]);
  await expect
    .poll(
      () =>
        put(again, '/a', '3').then(
          ({ ok }) => ok,
          () => false,
        ),
      { timeout: 5000 },
    )
    .toBe(true);
  expect(await contentOf(again)).toEqual(new Map([['/a', '3']]));
});

test('a disk whose flushes fail has them refused, and loses nothing that was acknowledged', async () => {
  // A file system on a sparse file, on a disk that gets full: what it promised to write fails below it.
  const below = join(home, 'below');
  mkdirSync(below);
  await mount(below, '-t', 'tmpfs', '-o', 'size=8m', 'none');
  const image = join(below, 'image');
  await execOk('truncate', ['-s', '32M', image]);
  await execOk('mkfs.ext4', ['-q', '-O', '^has_journal', '-E', 'lazy_itable_init=1', '-m', '0', image]);
  await mount(disk, '-o', 'loop,errors=continue', image);
  const state = await start();
  for (let number = 0; number < 20; number += 1)
    await put(state, `/early${String(number)}`, '.'.repeat(2000));
  await execOk('sync', ['-f', disk]);
  const room = statfsSync(below);
  writeFileSync(join(below, 'ballast'), Buffer.alloc((room.bavail - 40) * room.bsize));
  const { kept, reason } = await fill(state, 20_000);
  // Not `no_space`: whether it is on the disk, nobody knows.
  expect(reason).toMatchObject({ code: 'unavailable', cause: { syscall: 'fdatasync' } });
  expect(await contentOf(state)).toEqual(kept);
  await expect(put(state, '/late', 'x'.repeat(200_000))).rejects.toThrow('cannot use');
  rmSync(join(below, 'ballast'));
  await expect
    .poll(
      () =>
        put(state, '/back', 'x'.repeat(20_000)).then(
          ({ ok }) => ok,
          () => false,
        ),
      { timeout: 10_000 },
    )
    .toBe(true);
  await state.close();
  const expected = new Map([...kept, ['/back', 'x'.repeat(20_000)]]);
  // From the disk, not from what the kernel remembers of it.
  await execOk('umount', [disk]);
  mounted.pop();
  await mount(disk, '-o', 'loop,errors=continue', image);
  expect(await contentOf(await start())).toEqual(expected);
});
