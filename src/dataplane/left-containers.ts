/**
 * Containers whose volume's directory is gone, which is what they would read: those that the engine finished making after
 * the plugin that had asked for them was killed, and their volume removed; and those of volumes that a restored state
 * directory does not know, which the engine would try in vain at each of its starts.
 */
import { stat } from 'node:fs/promises';
import type { Ctx } from '../context.js';
import type { Engine } from '../docker/engine.js';
import type { HostPaths } from './host-paths.js';

/** Of the containers that belong to volumes; etcd's is always wanted. */
const OF_VOLUME = /^openebs-(?:target|initiator)-/;

/** A container's directory is there before the container is asked for, and until it is removed. */
export async function removeLeftContainers(
  ctx: Ctx,
  engine: Pick<Engine, 'answers' | 'removeEnded'>,
  paths: Pick<HostPaths, 'view' | 'container'>,
): Promise<void> {
  if (!(await engine.answers(ctx))) return;
  const removed = await engine.removeEnded(
    ctx,
    'openebs.role',
    async (name) => OF_VOLUME.test(name) && (await isMissing(paths.view(paths.container(name)))),
  );
  if (removed.length > 0) ctx.log.info({ containers: removed }, 'made for nobody: removed');
}

function isMissing(directory: string): Promise<boolean> {
  return stat(directory).then(
    () => false,
    (reason: unknown) => (reason as NodeJS.ErrnoException).code === 'ENOENT',
  );
}
