/**
 * A change of the cluster that this host belongs to: decided while the plugin runs, written to one file, and carried out
 * by the next start before anything else looks at the old cluster. Each step may be repeated, so a start that dies in
 * the middle is followed by one that begins again.
 */
import { readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { Ctx } from '../../context.js';
import type { HostPaths } from '../../dataplane/host-paths.js';
import type { RoleContainers } from '../../dataplane/role-container.js';
import { AppError } from '../../errors.js';
import { writeFileAtomic } from '../../lib/atomic-file.js';
import { failPoint } from '../../lib/fail-points.js';
import { takeAuthority } from '../certificates.js';
import { ETCD_CONTAINER } from '../own-etcd.js';
import { putAside } from './incarnation.js';
import { writeMembership } from './membership.js';

const shape = z.discriminatedUnion('kind', [
  z.object({
    /** Becomes a host of another cluster. */
    kind: z.literal('join'),
    cluster: z.string().min(1),
    incarnation: z.int().nonnegative(),
    authority: z.string().min(1),
    authorityKey: z.string().min(1),
    advertise: z.string().min(1),
    endpoints: z.array(z.string()).min(1).readonly(),
  }),
  /** Begins anew, with a cluster of its own. */
  z.object({ kind: z.literal('leave'), cluster: z.string().min(1) }),
  /** Begins its own cluster anew with one member, from a backup or from what this host's member had. */
  z.object({
    kind: z.literal('recover'),
    cluster: z.string().min(1),
    backup: z.string().nullable(),
    /** Of the backup that is made of the member's data. */
    rescue: z.string().regex(/^[A-Za-z0-9.-]+$/),
  }),
  /** Ends: no container is left, and with `purge` no data. */
  z.object({
    kind: z.literal('end'),
    cluster: z.string().min(1),
    ending: z.string().min(1),
    purge: z.boolean(),
  }),
]);
export type Transition = z.infer<typeof shape>;
export type Move = Exclude<Transition, { kind: 'recover' | 'end' }>;
export type Recovery = Extract<Transition, { kind: 'recover' }>;

export interface TransitionParts {
  readonly paths: HostPaths;
  readonly roles: Pick<RoleContainers, 'remove'>;
  /** Keeps the identity of the cluster that this host belongs to from now on. */
  readonly keepCluster: (cluster: string) => Promise<void>;
}

export async function decideTransition(paths: HostPaths, transition: Transition): Promise<void> {
  await writeFileAtomic(paths.view(paths.transition), JSON.stringify(transition));
}

export async function readTransition(paths: HostPaths): Promise<Transition | null> {
  try {
    return shape.parse(JSON.parse(await readFile(paths.view(paths.transition), 'utf8')));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AppError(
      'internal',
      `${paths.transition}, which says what cluster this host is to join or to leave, is damaged: remove it, and ` +
        'join or leave once more',
      { cause },
    );
  }
}

export async function carryOutMove(ctx: Ctx, transition: Move, parts: TransitionParts): Promise<void> {
  const { paths, roles, keepCluster } = parts;
  ctx.log.info({ kind: transition.kind, cluster: transition.cluster }, 'this host changes its cluster');
  await failPoint('before transition');
  await roles.remove(ctx, ETCD_CONTAINER, 0);
  await failPoint('after transition engine');
  await putAside(paths);
  const certificates = paths.view(paths.certificates);
  if (transition.kind === 'join') await takeAuthority(certificates, transition);
  else await rm(certificates, { recursive: true, force: true });
  await rm(path.join(paths.view(paths.cache), 'records.json'), { force: true });
  await keepCluster(transition.cluster);
  if (transition.kind === 'join') {
    const { advertise, endpoints, incarnation } = transition;
    await writeMembership(paths, { schema: 1, advertise, endpoints, incarnation });
  } else await rm(paths.view(paths.membership), { force: true });
  await failPoint('after transition files');
  await endTransition(paths);
}

export async function endTransition(paths: HostPaths): Promise<void> {
  await rm(paths.view(paths.transition), { force: true });
}
