/**
 * A host whose state directory has nothing of ours, but whose engine has containers of ours, is no new host: the
 * directory is on a disk that is not mounted, or not yet. To begin there would make a second cluster, which knows none
 * of the volumes.
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
    `${paths.state} has nothing of the plugin, but this host has its containers (${some}): mount its disk, or restore it. If ` +
      'its data is gone for good and this host shall begin anew, remove them: ' +
      'docker rm -f $(docker ps -aq --filter label=openebs.role)',
  );
}

/**
 * Nothing that the plugin keeps is there. Other names say nothing: a disk's lost+found is there before any state is,
 * and so is what somebody put beside it.
 */
async function isBlank(paths: HostPaths): Promise<boolean> {
  const kept = await Promise.all(
    [paths.containers, paths.etcdData, paths.certificates, paths.cache, paths.localState, paths.backups].map(
      (directory) => entries(paths.view(directory)),
    ),
  );
  if (kept.some((names) => names.length > 0)) return false;
  const files = [
    paths.identity,
    paths.etcdIncarnation,
    paths.membership,
    paths.transition,
    paths.ended,
    paths.keptIn,
  ];
  const names = await entries(paths.view(paths.state));
  return !files.some((file) => names.includes(path.basename(file)));
}

async function entries(directory: string): Promise<string[]> {
  return readdir(directory).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw reason;
  });
}
