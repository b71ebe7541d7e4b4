/**
 * Containers that the engine finished making after the plugin that had asked for them was killed, and their volume
 * removed: they were never started, and what they would read is gone.
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
  engine: Pick<Engine, 'answers' | 'removeUnstarted'>,
  paths: Pick<HostPaths, 'view' | 'container'>,
): Promise<void> {
  if (!(await engine.answers(ctx))) return;
  const removed = await engine.removeUnstarted(
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
