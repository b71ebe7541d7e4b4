/**
 * File systems on attached devices: probe, make, check, mount, unmount.
 *
 * What a container gets is the `data` directory inside the file system: ext4's lost+found at the root would
 * break copy-up and databases that want an empty directory.
 */
import { constants } from 'node:fs';
import { lstat, mkdir, open, readFile, rename, rmdir } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { failPoint } from '../lib/fail-points.js';
import { mustRun, mustSucceed, runCommand } from './command.js';
import { createChecks } from './file-system-check.js';
import { createLongCommands } from './long-command.js';
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
  /** What blkid finds on the device, or null when it is blank. @throws when the device cannot be read. */
  probe(ctx: Ctx, device: string): Promise<string | null>;
  /** mkfs, on what `probe` has just found blank: mkfs.ext4 itself asks nobody. It goes on when its caller gives up. */
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
  /** Mounted so, or nothing can be written to it any more: made read-only by the kernel, or shut down. */
  readonly readOnly: boolean;
  /** The directory to hand out is there: false when a mount was cut off before it was made. */
  readonly prepared: boolean;
}

export const DATA_DIRECTORY = 'data';

/** No discard at mkfs: on a big thin volume it takes longer than Docker waits, and the blocks are free anyway. */
const MAKE_ARGS: Record<FileSystemType, readonly string[]> = {
  ext4: ['-q', '-m', '0', '-E', 'nodiscard,lazy_itable_init=1'],
  xfs: ['-q', '-K'],
  btrfs: ['-q', '-K'],
};
/**
 * Without dioread_lock ext4 marks blocks as written when their data is on the device. When a pool is full that fails, and
 * (measured, Linux 6.18) what is written to them later, flushed and acknowledged, reads as zeros after the next mount:
 * PostgreSQL lost pages of an index it had recovered. With it they are marked first.
 */
const MOUNT_OPTIONS: Record<FileSystemType, readonly string[]> = {
  ext4: ['dioread_lock'],
  xfs: [],
  btrfs: [],
};
/** blkid -p: 2 = nothing found; anything else but 0 is a failure. */
const BLKID_NOTHING = 2;
/** As far as the superblocks of ext4, xfs and btrfs reach. */
const HEAD_BYTES = 128 * 1024;
/** sb_inprogress. */
const XFS_IN_PROGRESS_OFFSET = 126;
export function createFileSystems(): FileSystems {
  const checks = createChecks();
  const makings = createLongCommands('is being made (mkfs)');
  return {
    async probe(ctx, device) {
      await makings.wait(ctx, device);
      const head = await readHead(device);
      const result = await runCommand(ctx, 'blkid', ['-p', '-o', 'value', '-s', 'TYPE', device]);
      if (result.code === BLKID_NOTHING || isUnfinishedXfs(head)) return null;
      if (result.code !== 0)
        throw new AppError('internal', `blkid failed on ${device}: ${result.stderr.trim()}`);
      return result.stdout.trim() || 'unknown';
    },
    async make(ctx, device, type, options) {
      const again = type === 'xfs' && isUnfinishedXfs(await readHead(device)) ? ['-f'] : [];
      const program = `mkfs.${type}`;
      const args = [...MAKE_ARGS[type], ...again, ...options, device];
      mustSucceed(program, await makings.run(ctx, device, program, args));
    },
    async mount(ctx, request) {
      if (request.type === 'ext4') await checks.check(ctx, request.device);
      return mount(ctx, request);
    },
    async unmount(ctx, mountpoint) {
      while (await entryOf(mountpoint)) await mustRun(ctx, 'umount', [mountpoint]);
      await failPoint('before mountpoint remove');
      await removeMountpoint(mountpoint);
    },
    async observe(mountpoint) {
      const entry = await entryOf(mountpoint);
      if (!entry) return null;
      const data = await lookAt(path.join(mountpoint, DATA_DIRECTORY));
      const readOnly = isReadOnly(entry) || data === 'shut down';
      return { device: entry.source, readOnly, prepared: data !== 'missing' };
    },
  };
}

/** The kernel keeps one that is mounted on. */
async function removeMountpoint(mountpoint: string): Promise<void> {
  await rmdir(mountpoint).catch(() => undefined);
}

async function mount(ctx: Ctx, { device, mountpoint, type, options, owner }: MountRequest): Promise<string> {
  await mkdir(mountpoint, { recursive: true, mode: 0o700 });
  const all = [...MOUNT_OPTIONS[type], ...options];
  const withOptions = all.length > 0 ? ['-o', all.join(',')] : [];
  await failPoint('before mount');
  await mustRun(ctx, 'mount', ['-t', type, ...withOptions, device, mountpoint]).catch(
    async (reason: unknown) => {
      await removeMountpoint(mountpoint);
      throw reason;
    },
  );
  const data = path.join(mountpoint, DATA_DIRECTORY);
  await failPoint('before data directory');
  if (!(await hasData(data))) await makeData(data, owner);
  return data;
}

/** The owner goes on under another name first: a crash in between never leaves a `data` with the wrong one. */
async function makeData(data: string, owner: RootOwner): Promise<void> {
  const fresh = `${data}.new`;
  await mkdir(fresh, { mode: 0o700 }).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code !== 'EEXIST') throw reason;
  });
  const handle = await open(fresh, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW).catch(
    (reason: unknown) => {
      throw hostile(fresh, reason);
    },
  );
  try {
    await handle.chown(owner.uid, owner.gid);
    await handle.chmod(owner.mode);
  } finally {
    await handle.close();
  }
  await rename(fresh, data);
}

async function entryOf(mountpoint: string): Promise<MountEntry | null> {
  const entries = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
  return entries.findLast((entry) => entry.mountpoint === mountpoint) ?? null;
}

/** Since Linux 6.15 ext4 leaves `rw` standing after an error, and says `emergency_ro` beside it. */
export function isReadOnly({ superOptions }: MountEntry): boolean {
  return superOptions.includes('ro') || superOptions.includes('emergency_ro');
}

/** A disk image may be anybody's: a link in the place of `data` would hand a directory of the host out. */
async function hasData(data: string): Promise<boolean> {
  const found = await lstat(data).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw AppError.from(reason, 'unavailable', `cannot look at ${data}`);
  });
  if (found === null) return false;
  if (found.isDirectory()) return true;
  throw hostile(data);
}

function hostile(file: string, cause?: unknown): AppError {
  return new AppError(
    'conflict',
    `${path.basename(file)} at the root of the volume's file system is not a directory, and nothing of ours made it ` +
      'so: the file system is not handed out. Look at it by hand, with the volume used by no container',
    { cause },
  );
}

/**
 * When it cannot be told, as on a dead device, it is there: what is mounted is not taken for unprepared by mistake. An xfs that
 * shut itself down after an error is mounted as before, and answers nothing but EIO.
 */
async function lookAt(data: string): Promise<'there' | 'missing' | 'shut down'> {
  return lstat(data).then(
    (found) => (found.isDirectory() ? 'there' : 'missing'),
    (reason: unknown) => {
      const { code } = reason as NodeJS.ErrnoException;
      if (code === 'EIO') return 'shut down';
      return code === 'ENOENT' ? 'missing' : 'there';
    },
  );
}

/** blkid calls a device that it cannot read blank; so it is read here first, and a failure is one. */
async function readHead(device: string): Promise<Buffer> {
  try {
    const handle = await open(device, 'r');
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES), 0, HEAD_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (reason) {
    throw AppError.from(reason, 'unavailable', `${device} cannot be read`);
  }
}

/** mkfs.xfs says so in the superblock until it is done. blkid takes it for a file system; nothing can be in it. */
function isUnfinishedXfs(head: Buffer): boolean {
  return head.subarray(0, 4).toString('latin1') === 'XFSB' && head[XFS_IN_PROGRESS_OFFSET] === 1;
}
