import { readdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../errors.js';
import { linkOn } from './host-links.js';
import type { HostPaths } from './host-paths.js';

/** Below this a file system could not even be made. */
const LEAST_FREE_BYTES = 64 * 2 ** 20;
/** The form of a volume's id (volumes/volume.ts), which its directory has for a name. */
const VOLUME_DIRECTORY = /^v[a-z0-9]{9}$/;

export interface PoolSpace {
  readonly sizeBytes: number;
  readonly freeBytes: number;
}

/** Space of every pool of this host; a pool that cannot be looked at now is left out. */
export async function readPools(paths: HostPaths): Promise<Record<string, PoolSpace>> {
  const names = await readdir(paths.view(paths.pools), { withFileTypes: true });
  const spaces = await Promise.all(
    names
      .filter((entry) => entry.isDirectory())
      .map(async ({ name }): Promise<[string, PoolSpace] | null> => {
        const space = await statfs(path.join(paths.view(paths.pools), name)).catch(() => null);
        if (!space) return null;
        return [name, { sizeBytes: space.blocks * space.bsize, freeBytes: space.bavail * space.bsize }];
      }),
  );
  return Object.fromEntries(spaces.filter((entry) => entry !== null));
}

/**
 * A pool is never made here: a directory that is missing may be a disk that is not mounted.
 * @throws `unavailable` for a pool that is missing, `no_space` for one that is full.
 */
export async function checkPool(paths: HostPaths, pool: string): Promise<void> {
  const { freeBytes } = await mustExist(paths, pool);
  if (freeBytes >= LEAST_FREE_BYTES) return;
  throw new AppError(
    'no_space',
    `pool ${pool} is full: ${paths.pool(pool)} has less than 64 MiB free; free some space or choose another pool`,
  );
}

/** @throws `unavailable` for a pool that is missing. */
export async function mustExist(paths: HostPaths, pool: string): Promise<PoolSpace> {
  const directory = paths.pool(pool);
  const link = await linkOn(paths, directory);
  if (link !== null) throw new AppError('unavailable', `pool ${pool} cannot be used: ${link}`);
  const space = await statfs(paths.view(directory)).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') {
      // Not `not_found`, which a driver call takes for the volume that is gone.
      throw new AppError(
        'unavailable',
        `pool ${pool} does not exist: ${directory} is missing on this host; make it, or mount its disk there`,
      );
    }
    throw poolError(reason, pool);
  });
  return { sizeBytes: space.blocks * space.bsize, freeBytes: space.bavail * space.bsize };
}

/** For a pool in which volumes are recorded. @throws `unavailable` when there is not one of them in it. */
export async function checkPoolHolds(paths: HostPaths, pool: string): Promise<void> {
  await mustExist(paths, pool);
  const directory = paths.pool(pool);
  const names = await readdir(paths.view(directory)).catch((reason: unknown) => {
    throw poolError(reason, pool);
  });
  if (names.some((name) => VOLUME_DIRECTORY.test(name))) return;
  throw new AppError(
    'unavailable',
    `pool ${pool} is empty, although volumes are recorded in it: mount its disk at ${directory}, and if it is ` +
      'mounted already, disable and enable the plugin. If the data is lost for good, make an empty directory with ' +
      'the id of a volume there; then the volumes can be removed',
  );
}

export function poolError(reason: unknown, pool: string): AppError {
  const { code = '' } = reason as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new AppError('no_space', `pool ${pool} is full`, { cause: reason });
  }
  if (code === 'EROFS') {
    // The plugin's copy of the mount keeps the flags that it had at the plugin's start.
    const text =
      `pool ${pool} is on a file system that is mounted read-only: mount it read-write, and if it is already, ` +
      'disable and enable the plugin';
    return new AppError('unavailable', text, { cause: reason });
  }
  return AppError.from(reason, 'unavailable', `pool ${pool} cannot be used`);
}
