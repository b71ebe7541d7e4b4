/** The end of this host's part in taking its cluster down: by a start of the plugin that begins nothing else. */
import { readdir, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../../context.js';
import type { HostPaths } from '../../dataplane/host-paths.js';
import type { RoleContainers } from '../../dataplane/role-container.js';
import { writeFileAtomic } from '../../lib/atomic-file.js';
import { failPoint } from '../../lib/fail-points.js';
import { untilDone } from '../../lib/until-done.js';
import { endTransition, type Transition } from '../formation/transition.js';

export interface CarryOutParts {
  readonly paths: HostPaths;
  readonly roles: Pick<RoleContainers, 'list' | 'remove'>;
  /** The plugin that this process is. */
  readonly disable: (ctx: Ctx) => Promise<void>;
}

/** etcd writes what it has. */
const GRACE_SECONDS = 10;

/** Never resolves: the engine ends this process. @throws before it is done, to be tried again */
export async function carryOutEnd(
  ctx: Ctx,
  { ending, purge, cluster }: Extract<Transition, { kind: 'end' }>,
  { paths, roles, disable }: CarryOutParts,
): Promise<never> {
  for (const name of await roles.list()) await roles.remove(ctx, name, GRACE_SECONDS);
  await failPoint('after ending engine');
  if (purge) await removeState(paths);
  else await writeFileAtomic(paths.view(paths.ended), JSON.stringify({ ending }));
  await failPoint('after ending files');
  await endTransition(paths);
  ctx.log.warn({ cluster, purge }, 'the cluster is taken down: the plugin disables itself');
  await untilDone(ctx, 'disable the plugin', () => disable(ctx));
  return new Promise<never>((_, reject) => {
    const end = () => {
      reject(ctx.signal.reason as Error);
    };
    if (ctx.signal.aborted) end();
    else ctx.signal.addEventListener('abort', end, { once: true });
  });
}

/** What is no volume of the cluster stays in its pool: what nobody has a record of, and what people keep there. */
async function removeState(paths: HostPaths): Promise<void> {
  const own = [
    ...[paths.containers, paths.etcdData, paths.etcdIncarnation, paths.membership, paths.ended],
    ...[paths.identity, paths.backups, paths.localState, paths.keptIn, paths.certificates, paths.cache],
  ];
  for (const one of own) await rm(paths.view(one), { recursive: true, force: true });
  const pools = paths.view(paths.pools);
  for (const pool of await readdir(pools).catch(() => [])) await removeEmpty(path.join(pools, pool));
  await removeEmpty(pools);
}

async function removeEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch(() => undefined);
}
