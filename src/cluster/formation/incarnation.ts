/**
 * Who the etcd member in this host's data directory is. Kept outside of that directory, so that a directory that is
 * missing, swapped or of another time is noticed before etcd starts from it.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { HostPaths } from '../../dataplane/host-paths.js';
import { AppError } from '../../errors.js';
import { writeFileAtomic } from '../../lib/atomic-file.js';

const shape = z.object({
  /** Of the cluster as it was formed: a fresh one each time. */
  token: z.string().min(1),
  /** It was up once. From then on a missing data directory is a lost member, never a new one. */
  formed: z.boolean(),
  /** What etcd calls it. */
  name: z.string().min(1).default('openebs'),
  /** Of one that joins others: all members as they were then. */
  initialCluster: z.string().optional(),
  /** etcd's numbers, once they are known. */
  member: z.string().optional(),
  clusterId: z.string().optional(),
});
export type Incarnation = z.infer<typeof shape>;

/** How many former data directories are kept. */
const KEPT = 3;

export async function readIncarnation(paths: HostPaths): Promise<Incarnation | null> {
  const file = paths.view(paths.etcdIncarnation);
  try {
    return shape.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AppError('internal', `${file} is damaged: restore it before etcd can start`, { cause });
  }
}

export async function writeIncarnation(paths: HostPaths, incarnation: Incarnation): Promise<void> {
  await writeFileAtomic(paths.view(paths.etcdIncarnation), JSON.stringify(incarnation));
}

/** A cluster of one, to be formed. @throws AppError `conflict` when there is data of which nobody knows whose it is */
export async function beginIncarnation(paths: HostPaths): Promise<Incarnation> {
  await refuseData(paths);
  const incarnation = { token: `openebs-${randomBytes(8).toString('hex')}`, formed: false, name: 'openebs' };
  await writeIncarnation(paths, incarnation);
  return incarnation;
}

export async function refuseData(paths: HostPaths): Promise<void> {
  const hasData = await stat(path.join(paths.view(paths.etcdData), 'member')).then(
    () => true,
    () => false,
  );
  if (!hasData) return;
  throw new AppError(
    'conflict',
    `${paths.etcdData} holds the data of an etcd member, but ${paths.state}/etcd-incarnation.json, which says ` +
      'whose, is missing: restore that file, or move the data away to begin anew',
  );
}

/** Whether there is a log to start from; etcd takes a directory without one for a new member's. */
export async function hasLog(paths: HostPaths): Promise<boolean> {
  const names = await readdir(path.join(paths.view(paths.etcdData), 'member', 'wal')).catch(() => []);
  return names.some((name) => name.endsWith('.wal'));
}

function nameNow(): string {
  return new Date().toISOString().replace(/[:.]/g, '-');
}

/**
 * The member is over: its data is put aside, never deleted but for those before the last three. The directory first: a
 * crash in between leaves an incarnation without data, which is a lost member, and put aside again. `name`: of what is tried
 * again and again, and puts aside once; it sorts by time.
 */
export async function putAside(paths: HostPaths, name = nameNow()): Promise<void> {
  const root = paths.view(paths.etcdData);
  const former = path.join(root, 'former');
  await mkdir(former, { recursive: true, mode: 0o700 });
  const [member, aside] = [path.join(root, 'member'), path.join(former, name)];
  // What was begun anew since then under this name has nothing that anybody was told of.
  if ((await readdir(former)).includes(name)) await rm(member, { recursive: true, force: true });
  else
    await rename(member, aside).catch((reason: unknown) => {
      if ((reason as NodeJS.ErrnoException).code !== 'ENOENT') throw reason;
    });
  await rm(paths.view(paths.etcdIncarnation), { force: true });
  const kept = (await readdir(former)).toSorted().slice(0, -KEPT);
  for (const name of kept) await rm(path.join(former, name), { recursive: true, force: true });
}
