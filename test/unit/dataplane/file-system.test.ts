import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createFileSystems, isReadOnly } from '../../../src/dataplane/file-system.js';
import { parseMountInfo } from '../../../src/dataplane/mount-info.js';
import { isHeld } from '../../../src/dataplane/held-device.js';
import { createLog } from '../../../src/log.js';

const ctx = (signal = new AbortController().signal): Ctx => ({
  log: createLog('silent'),
  signal,
  requestId: 'test',
});
const fileSystems = createFileSystems();
let directory: string;
let disk: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'disk-'));
  disk = join(directory, 'disk.img');
  writeFileSync(disk, '');
  truncateSync(disk, 400 * 2 ** 20);
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** As mkfs.xfs leaves it when it is killed. */
function unfinish(): void {
  const file = openSync(disk, 'r+');
  writeSync(file, Uint8Array.of(1), 0, 1, 126);
  closeSync(file);
}

describe('a disk', () => {
  it('without anything on it is blank', async () => {
    expect(await fileSystems.probe(ctx(), disk)).toBeNull();
  });

  it('that cannot be read is not taken for blank', async () => {
    await expect(fileSystems.probe(ctx(), join(directory, 'none'))).rejects.toThrow('none cannot be read');
    await expect(fileSystems.probe(ctx(), directory)).rejects.toThrow('cannot be read');
  });

  it.each(['ext4', 'xfs', 'btrfs'] as const)('with %s on it says so', async (type) => {
    await fileSystems.make(ctx(), disk, type, []);
    expect(await fileSystems.probe(ctx(), disk)).toBe(type);
  });

  it('with what is no file system of ours is not blank', async () => {
    execFileSync('mkswap', [disk], { stdio: 'ignore' });
    expect(await fileSystems.probe(ctx(), disk)).toBe('swap');
  });

  it('whose xfs was cut off in the making is blank, and is made then', async () => {
    await fileSystems.make(ctx(), disk, 'xfs', []);
    unfinish();
    expect(await fileSystems.probe(ctx(), disk)).toBeNull();
    await fileSystems.make(ctx(), disk, 'xfs', []);
    expect(await fileSystems.probe(ctx(), disk)).toBe('xfs');
  });

  it('with a whole xfs on it is not made again', async () => {
    await fileSystems.make(ctx(), disk, 'xfs', []);
    await expect(fileSystems.make(ctx(), disk, 'xfs', [])).rejects.toThrow('mkfs.xfs failed');
  });

  it('is made to the end, also when the caller has left', async () => {
    const making = fileSystems.make(ctx(AbortSignal.abort()), disk, 'ext4', []);
    await expect(making).rejects.toThrow(/is being made \(mkfs\).*it goes on/);
    // Who comes next waits for it.
    expect(await fileSystems.probe(ctx(), disk)).toBe('ext4');
  });
});

it('a mount that fails leaves no directory to mount on', async () => {
  const mountpoint = join(directory, 'mnt/v1');
  const owner = { uid: 0, gid: 0, mode: 0o700 };
  const device = join(directory, 'none');
  const mounting = fileSystems.mount(ctx(), { device, mountpoint, type: 'xfs', options: [], owner });
  await expect(mounting).rejects.toThrow('mount failed');
  expect(existsSync(mountpoint)).toBe(false);
});

describe('a device', () => {
  it('that is not there is not held', async () => {
    expect(await isHeld(join(directory, 'none'))).toBe(false);
  });

  it('of which nothing can be told counts as an error, not as free', async () => {
    await expect(isHeld(join(disk, 'below-a-file'))).rejects.toMatchObject({ code: 'unavailable' });
  });
});

it.each([
  ['rw,relatime', false],
  ['ro,errors=remount-ro', true],
  ['rw,emergency_ro', true],
])('a file system with the options %s is read-only: %s', (options, expected) => {
  const line = `64 38 7:0 / /mnt/v1 rw,relatime shared:1 - ext4 /dev/loop0 ${options}\n`;
  expect(parseMountInfo(line).map(isReadOnly)).toEqual([expected]);
});
