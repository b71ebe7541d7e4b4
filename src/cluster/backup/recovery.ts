/**
 * A new etcd of one member from what is left: a backup, or the data of this host's member when the majority is gone for
 * good. Everything else of the old one is put aside, so no old vote can ever meet a new one.
 *
 * INVARIANTS
 * - What a member had is read from a copy of its data, by an etcd that is alone on loopback and ends after it. The flag
 *   that makes it answer alone (--force-new-cluster) never touches the data itself, and is never given twice to one.
 * - The record of the cluster is written last, with the next incarnation: a load that was cut off is begun again.
 * - Numbers, token and log are new. What other hosts still have of the old cluster yields to the higher incarnation.
 */
import { cp, mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import type { HostPaths } from '../../dataplane/host-paths.js';
import { AppError } from '../../errors.js';
import { failPoint } from '../../lib/fail-points.js';
import { keys } from '../../state/keys.js';
import { records } from '../../state/records.js';
import type { Entry, Operation, Snapshot, State } from '../../state/state.js';
import { hasLog } from '../formation/incarnation.js';
import { readBackup, writeBackup } from './backups.js';
import type { Backup } from './format.js';

const OPERATIONS = 100;
const PART_BYTES = 512 * 1024;
const LOAD_TIMEOUT_MS = 300_000;
const RESCUE = 'rescue';

export interface Rescue {
  readonly paths: HostPaths;
  /** An etcd of its own over this directory of the host, that answers alone; and its end. */
  readonly runAlone: (
    ctx: Ctx,
    directory: string,
  ) => Promise<{ readonly state: State; end(): Promise<void> }>;
}

/** What this host's member has, as a backup; answers its path. Done once, however often it is begun. */
export async function rescue(ctx: Ctx, name: string, { paths, runAlone }: Rescue): Promise<string> {
  const file = path.join(paths.backups, name);
  const done = await readBackup(paths, file).catch(() => null);
  if (done) return file;
  if (!(await hasLog(paths)))
    throw new AppError(
      'not_found',
      `${paths.etcdData} has no data of a member: recover on a host that has, or from a backup`,
    );
  const copy = path.join(paths.etcdData, RESCUE);
  await rm(paths.view(copy), { recursive: true, force: true });
  await mkdir(paths.view(copy), { recursive: true, mode: 0o700 });
  await cp(path.join(paths.view(paths.etcdData), 'member'), path.join(paths.view(copy), 'member'), {
    recursive: true,
  });
  const alone = await runAlone(ctx, copy);
  try {
    const snapshot: Snapshot = await alone.state.range(withDeadline(ctx, LOAD_TIMEOUT_MS), keys.root);
    await writeBackup(paths, snapshot, name);
  } finally {
    await alone.end();
    await rm(paths.view(copy), { recursive: true, force: true });
  }
  return file;
}

/**
 * Fills an etcd that has nothing yet.
 * @param known the incarnation that this host knows: that of an old backup is lower
 * @returns the incarnation that the cluster has now
 */
export async function load(
  ctx: Ctx,
  { head, entries }: Backup,
  state: Pick<State, 'get' | 'transact'>,
  known: number,
): Promise<number> {
  const limited = withDeadline(ctx, LOAD_TIMEOUT_MS);
  const incarnation = Math.max(head.incarnation, known) + 1;
  if (incarnationOf(await state.get(limited, keys.cluster)) >= incarnation) return incarnation;
  const kept = entries.filter(([key]) => !isOver(key));
  for (const part of partsOf(kept)) {
    await failPoint('before recovery load');
    const then = part.map(([key, value]): Operation => ({ put: key, value, common: true }));
    await state.transact(limited, { if: [], then });
  }
  const [, value = ''] = entries.find(([key]) => key === keys.cluster) ?? [];
  const record = { ...records.cluster.decode(keys.cluster, value), incarnation };
  await putRecord(limited, state, records.cluster.encode(record), incarnation);
  return incarnation;
}

/** As many entries as one transaction takes: etcd refuses a request of more than 1.5 MiB. One alone was taken before. */
function* partsOf(entries: Backup['entries']): Generator<Backup['entries'][number][]> {
  let part: Backup['entries'][number][] = [];
  let bytes = 0;
  for (const entry of entries) {
    const size = Buffer.byteLength(entry[0]) + Buffer.byteLength(entry[1]);
    if (part.length === OPERATIONS || (part.length > 0 && bytes + size > PART_BYTES)) {
      yield part;
      [part, bytes] = [[], 0];
    }
    part.push(entry);
    bytes += size;
  }
  if (part.length > 0) yield part;
}

/**
 * Members and their manager are of the old etcd. That a cluster was being taken down when it was backed up is no wish of
 * who brings it back: the hosts would do it once more. The cluster's own record is written last.
 */
function isOver(key: string): boolean {
  const one: readonly string[] = [keys.cluster, keys.manager, keys.ending];
  return one.includes(key) || key.startsWith(keys.duties) || key.startsWith(keys.allEnded);
}

const ATTEMPTS = 20;

/**
 * Hosts that have not heard of it yet reach this etcd as well. To one whose volumes have the same revisions as before,
 * as after a second load of the same keys, the record is one that somebody has deleted: it puts back what it knows.
 */
async function putRecord(
  ctx: Ctx,
  state: Pick<State, 'get' | 'transact'>,
  value: string,
  incarnation: number,
): Promise<void> {
  const key = keys.cluster;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const found = await state.get(ctx, key);
    if (incarnationOf(found) >= incarnation) return;
    const same = found ? { key, modRevision: found.modRevision } : ({ key, absent: true } as const);
    const { ok } = await state.transact(ctx, { if: [same], then: [{ put: key, value }] });
    if (ok) return;
  }
  throw new AppError('conflict', 'the record of the cluster keeps changing while it is recovered');
}

/** -1: there is no record. */
function incarnationOf(entry: Entry | null): number {
  return entry === null ? -1 : (records.cluster.decode(entry.key, entry.value).incarnation ?? 0);
}
