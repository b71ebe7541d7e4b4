/**
 * Data of a member that runs elsewhere: a machine was cloned, or a directory was restored on the wrong host. Two processes
 * with the number of one member would break what a majority has promised, so a copy is never run, and the members are
 * never told that it has moved.
 */
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import type { HostPaths } from '../../dataplane/host-paths.js';
import { AppError } from '../../errors.js';
import type { Members, MemberStatus } from '../../state/members.js';
import type { Incarnation } from './incarnation.js';
import { readLogOwner } from './log-owner.js';
import { isLoopback } from './membership.js';

export interface CopyDeps {
  readonly members: Pick<Members, 'list' | 'status'>;
  readonly paths: HostPaths;
}

export interface Suspect {
  readonly member: NonNullable<Incarnation['member']>;
  /** Client URL at which this host itself may answer. */
  readonly own: string;
  /** Client URLs of members, as far as this host knows. */
  readonly known: readonly string[];
}

const LIST_MS = 2000;

/**
 * The log names its member. One that is not this host's was put in its place by hand: the member would run twice, or one
 * would answer for another.
 * @throws AppError `conflict` for such a log
 */
export async function refuseStranger(
  paths: HostPaths,
  { member, clusterId }: Pick<Incarnation, 'member' | 'clusterId'>,
): Promise<void> {
  const found = await readLogOwner(paths.view(paths.etcdData));
  if (found === null || member === undefined) return;
  if (found.member === member && (clusterId === undefined || found.clusterId === clusterId)) return;
  throw new AppError(
    'conflict',
    `the etcd data on this host is of member ${found.member} of etcd cluster ${found.clusterId}, but by ${paths.etcdIncarnation} ` +
      `this host is member ${member}${clusterId === undefined ? '' : ` of ${clusterId}`}. It is not started: put back the ` +
      `${paths.etcdData}/member that belongs to that file`,
  );
}

/**
 * To be asked while no member runs here: then whoever answers with its number is another. Where a member that is known
 * follows a leader the list tells too where this one should be. Hosts without power cost two seconds.
 * @throws AppError `conflict` when one does
 */
export async function refuseCopy(ctx: Ctx, deps: CopyDeps, suspect: Suspect): Promise<void> {
  const answers = await refuseTwin(ctx, deps, suspect);
  if (!answers.some(({ leader }) => leader !== null)) return;
  const list = await deps.members.list(withDeadline(ctx, LIST_MS)).catch(() => null);
  const listed = list?.members.find(({ id }) => id === suspect.member);
  if (listed) await refuseTwin(ctx, deps, { ...suspect, known: listed.clientUrls });
}

/**
 * @returns what those of the known URLs answer that are not of this host
 * @throws AppError `conflict` when the member itself does
 */
export async function refuseTwin(
  ctx: Ctx,
  { members, paths }: Pick<CopyDeps, 'paths'> & { readonly members: Pick<Members, 'status'> },
  { member, own, known }: Suspect,
): Promise<MemberStatus[]> {
  const others = known.filter((url) => url !== own && !isLoopback(url));
  const answers = await Promise.all(
    others.map(async (url) => {
      const status = await members.status(ctx, url).catch(() => null);
      if (status?.id === member)
        throw new AppError(
          'conflict',
          `the etcd data on this host is a copy: its member answers at ${url}. It is not used: move ${paths.etcdData}/member ` +
            `and ${paths.etcdIncarnation} away, and this host gets a member of its own when one is needed`,
        );
      return status;
    }),
  );
  return answers.filter((status) => status !== null);
}
