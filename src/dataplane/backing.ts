/** The file that holds a volume's blocks, in its pool. */
import { constants } from 'node:fs';
import { lstat, mkdir, open, rm } from 'node:fs/promises';
import { AppError } from '../errors.js';
import { failPoint } from '../lib/fail-points.js';
import type { HostPaths } from './host-paths.js';
import { checkPool, poolError } from './pools.js';

export interface Backing {
  readonly pool: string;
  readonly volumeId: string;
  readonly sizeBytes: number;
}

/** Never through a link: what is made for a volume lies in its pool. */
const MAKE_OR_GROW = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;

async function refuseLink(directory: string, shown: string): Promise<void> {
  if ((await lstat(directory)).isDirectory()) return;
  throw new AppError(
    'conflict',
    `${shown} is a symbolic link: the data of a volume lies in its pool; remove it`,
  );
}

export async function createBacking(paths: HostPaths, { pool, volumeId, sizeBytes }: Backing): Promise<void> {
  await checkPool(paths, pool);
  // Not with its parents: the pool is never made here, and Node calls a read-only one missing then.
  await mkdir(paths.view(paths.backing(pool, volumeId)), { mode: 0o700 }).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code !== 'EEXIST') throw poolError(reason, pool);
  });
  await refuseLink(paths.view(paths.backing(pool, volumeId)), paths.backing(pool, volumeId));
  const file = paths.view(paths.backingFile(pool, volumeId));
  const handle = await open(file, MAKE_OR_GROW, 0o600).catch((reason: unknown) => {
    throw poolError(reason, pool);
  });
  try {
    await failPoint('before backing size');
    await handle.truncate(sizeBytes);
    await handle.sync();
  } catch (reason) {
    if ((reason as NodeJS.ErrnoException).code === 'EFBIG') {
      throw new AppError(
        'invalid_argument',
        `pool ${pool} cannot hold one file of ${String(sizeBytes)} bytes: its file system's limit is lower`,
      );
    }
    throw poolError(reason, pool);
  } finally {
    await handle.close();
  }
}

/** Its bytes; null when there is none. @throws `conflict` for what is no file, `unavailable` when it cannot be told. */
export async function readBacking(paths: HostPaths, pool: string, volumeId: string): Promise<number | null> {
  const file = paths.backingFile(pool, volumeId);
  const found = await lstat(paths.view(file)).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw AppError.from(reason, 'unavailable', `cannot look at ${file}`);
  });
  if (found === null) return null;
  if (found.isFile()) return found.size;
  const what = found.isSymbolicLink() ? 'a symbolic link' : found.isDirectory() ? 'a directory' : 'a device';
  throw new AppError('conflict', `the volume's data ${file} is ${what}, not a file: put the file back there`);
}

export async function deleteBacking(
  paths: HostPaths,
  { pool, volumeId }: Omit<Backing, 'sizeBytes'>,
): Promise<void> {
  await rm(paths.view(paths.backing(pool, volumeId)), { recursive: true, force: true }).catch(
    (reason: unknown) => {
      throw poolError(reason, pool);
    },
  );
}
