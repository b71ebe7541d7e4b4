/** The product's own directories on the host. */
import { chmod, mkdir, readdir, rmdir } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { removeUnfinished } from '../lib/atomic-file.js';
import type { HostPaths } from './host-paths.js';
import { linkOn } from './host-links.js';

/**
 * Makes what is missing, closes what is open for others, removes what a crash left half written. A default pool that cannot
 * be had is told by its volumes: the others work.
 * @throws AppError `unavailable` with the directory of the host and what is in its way.
 */
export async function makeDirectories(ctx: Ctx, paths: HostPaths): Promise<void> {
  const own = [paths.state, paths.containers, paths.etcdData, paths.cache, paths.run];
  for (const directory of own) {
    await make(paths, directory);
    // Somebody may have made it before, to mount a pool's disk below.
    await chmod(paths.view(directory), 0o700);
  }
  await make(paths, paths.pool('default')).catch((err: unknown) => {
    ctx.log.error({ err }, 'the pool default cannot be used');
  });
  const written = [paths.state, paths.certificates, paths.cache, paths.run].map((directory) =>
    paths.view(directory),
  );
  const roles = await readdir(paths.view(paths.containers));
  const specs = roles.map((name) => path.join(paths.view(paths.containers), name));
  await Promise.all([...written, ...specs].map((directory) => removeUnfinished(directory)));
  await removeLeftMountpoints(paths);
}

/**
 * Directories whose mount was cut off, was just ended, or went with the power; `isLeft`: of which volume ids. What is
 * mounted, or has files, stays.
 */
export async function removeLeftMountpoints(
  { mountpoint }: Pick<HostPaths, 'mountpoint'>,
  isLeft: (volumeId: string) => boolean = () => true,
): Promise<void> {
  const names = await readdir(path.dirname(mountpoint('any'))).catch(() => []);
  await Promise.all(names.filter(isLeft).map((name) => rmdir(mountpoint(name)).catch(() => undefined)));
}

async function make(paths: HostPaths, directory: string): Promise<void> {
  const failed = await mkdir(paths.view(directory), { recursive: true, mode: 0o700 }).then(
    () => null,
    (cause: unknown) => AppError.from(cause),
  );
  const link = await linkOn(paths, directory);
  if (link === null && failed === null) return;
  const why = link ?? failed?.message ?? '';
  throw new AppError('unavailable', `cannot use ${directory}: ${why}`, { cause: failed });
}
