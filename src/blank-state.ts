/**
 * A host whose state directory is blank, but whose engine has containers of ours, is no new host: the directory is on a
 * disk that is not mounted, or not yet. To begin there would make a second cluster, which knows none of the volumes.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from './context.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { Engine } from './docker/engine.js';
import { AppError } from './errors.js';

/** @throws `unavailable` for such a host, and while the engine does not answer on a host that may be new. */
export async function refuseBlankState(
  ctx: Ctx,
  paths: HostPaths,
  engine: Pick<Engine, 'withLabel'>,
): Promise<void> {
  if (!(await isBlank(paths))) return;
  const names = await engine.withLabel(ctx, 'openebs.role');
  if (names.length === 0) return;
  const some = names.slice(0, 3).join(', ') + (names.length > 3 ? ', ...' : '');
  throw new AppError(
    'unavailable',
    `${paths.state} is empty, but this host has containers of the plugin (${some}): mount its disk, or restore it. If ` +
      'its data is gone for good and this host shall begin anew, remove them: ' +
      'docker rm -f $(docker ps -aq --filter label=openebs.role)',
  );
}

/** As made by `makeDirectories`, or nothing at all. */
async function isBlank(paths: HostPaths): Promise<boolean> {
  for (const directory of [paths.containers, paths.etcdData, paths.certificates, paths.cache]) {
    if ((await entries(paths.view(directory))).length > 0) return false;
  }
  const made = [paths.pools, paths.containers, paths.etcdData, paths.cache].map((directory) =>
    path.basename(directory),
  );
  return (await entries(paths.view(paths.state))).every((name) => made.includes(name));
}

async function entries(directory: string): Promise<string[]> {
  return readdir(directory).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw reason;
  });
}
