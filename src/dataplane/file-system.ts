/**
 * File systems on attached devices: probe, make, check, mount, unmount.
 *
 * What a container gets is the `data` directory inside the file system: ext4's lost+found at the root would
 * break copy-up and databases that want an empty directory.
 */
import { chmod, chown, mkdir, readFile, rename, rmdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { mustRun, runCommand } from './command.js';
import { parseMountInfo, type MountEntry } from './mount-info.js';

export type FileSystemType = 'ext4' | 'xfs' | 'btrfs';

export interface RootOwner {
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

export interface MountRequest {
  readonly device: string;
  readonly mountpoint: string;
  readonly type: FileSystemType;
  readonly options: readonly string[];
  /** Given to `data` when it is made, not after: what users change inside the volume is theirs. */
  readonly owner: RootOwner;
}

export interface FileSystems {
  /** What blkid finds on the device, or null when it is blank. */
  probe(ctx: Ctx, device: string): Promise<string | null>;
  /** mkfs. The tools refuse a device that holds something: that is the second guard, so no force option here. */
  make(ctx: Ctx, device: string, type: FileSystemType, options: readonly string[]): Promise<void>;
  /** Checks, mounts and prepares; answers the directory to hand out. */
  mount(ctx: Ctx, request: MountRequest): Promise<string>;
  /** Idempotent. */
  unmount(ctx: Ctx, mountpoint: string): Promise<void>;
  observe(mountpoint: string): Promise<MountObservation | null>;
}

export interface MountObservation {
  /** Path of the block device, as it was when it was mounted. */
  readonly device: string;
  readonly readOnly: boolean;
}

export const DATA_DIRECTORY = 'data';

/** No discard at mkfs: on a big thin volume it takes longer than Docker waits, and the blocks are free anyway. */
const MAKE_ARGS: Record<FileSystemType, readonly string[]> = {
  ext4: ['-q', '-m', '0', '-E', 'nodiscard,lazy_itable_init=1'],
  xfs: ['-q', '-K'],
  btrfs: ['-q', '-K'],
};
/** blkid -p: 2 = nothing found; anything else but 0 is a failure. */
const BLKID_NOTHING = 2;
/** e2fsck: 0 clean, 1 repaired. */
const FSCK_REPAIRED = 1;

export function createFileSystems(): FileSystems {
  return {
    async probe(ctx, device) {
      const result = await runCommand(ctx, 'blkid', ['-p', '-o', 'value', '-s', 'TYPE', device]);
      if (result.code === BLKID_NOTHING) return null;
      if (result.code !== 0)
        throw new AppError('internal', `blkid failed on ${device}: ${result.stderr.trim()}`);
      return result.stdout.trim() || 'unknown';
    },
    async make(ctx, device, type, options) {
      await mustRun(ctx, `mkfs.${type}`, [...MAKE_ARGS[type], ...options, device]);
    },
    mount,
    async unmount(ctx, mountpoint) {
      while (await entryOf(mountpoint)) await mustRun(ctx, 'umount', [mountpoint]);
      await rmdir(mountpoint).catch(() => undefined);
    },
    async observe(mountpoint) {
      const entry = await entryOf(mountpoint);
      return entry && { device: entry.source, readOnly: entry.superOptions.includes('ro') };
    },
  };
}

async function mount(ctx: Ctx, { device, mountpoint, type, options, owner }: MountRequest): Promise<string> {
  if (type === 'ext4') await check(ctx, device);
  await mkdir(mountpoint, { recursive: true, mode: 0o700 });
  const withOptions = options.length > 0 ? ['-o', options.join(',')] : [];
  await mustRun(ctx, 'mount', ['-t', type, ...withOptions, device, mountpoint]);
  const data = path.join(mountpoint, DATA_DIRECTORY);
  if (!(await isDirectory(data))) await makeData(data, owner);
  return data;
}

/** The owner goes on under another name first: a crash in between never leaves a `data` with the wrong one. */
async function makeData(data: string, owner: RootOwner): Promise<void> {
  const fresh = `${data}.new`;
  await mkdir(fresh, { recursive: true });
  await chown(fresh, owner.uid, owner.gid);
  await chmod(fresh, owner.mode);
  await rename(fresh, data);
}

/** Replays the journal and repairs what is safe to repair; a clean file system costs a few milliseconds. */
async function check(ctx: Ctx, device: string): Promise<void> {
  const result = await runCommand(ctx, 'e2fsck', ['-p', device]);
  if (result.code <= FSCK_REPAIRED) return;
  throw new AppError(
    'unavailable',
    `the file system on ${device} is damaged beyond automatic repair (e2fsck exit ${String(result.code)}): ` +
      `${result.stdout.trim().split('\n').at(-1) ?? ''}; repair it by hand with e2fsck`,
  );
}

async function entryOf(mountpoint: string): Promise<MountEntry | null> {
  const entries = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
  return entries.findLast((entry) => entry.mountpoint === mountpoint) ?? null;
}

async function isDirectory(file: string): Promise<boolean> {
  return stat(file).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
