import { readdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import type { HostPaths } from './host-paths.js';

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
