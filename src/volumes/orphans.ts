/**
 * What is left on this host of volumes that were removed elsewhere while it was away: initiators, mounts and counts;
 * and of any that was removed, the directory of a mountpoint that could not be removed then.
 * Their data is gone, or was never here; what holds data and has no record is told and left alone (strays.ts).
 *
 * A volume that was taken from this host before it was removed has no target any more, and who uses its device hangs,
 * to the point that the engine cannot kill it: that device is forfeited. Without an eviction on record (etcd was set
 * back to an older backup, say) the target may well serve: then what containers use is left to them.
 */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { removeLeftMountpoints } from '../dataplane/directories.js';
import type { FileSystems } from '../dataplane/file-system.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { Initiator } from '../dataplane/initiator.js';
import type { RoleObservation } from '../dataplane/role-container.js';
import { eachOf } from '../lib/each-of.js';
import type { MountCounts } from './mount-counts.js';
import { epochOf } from './specs.js';
import { VOLUME_ID } from './volume.js';
import type { VolumeRecords } from './volume-records.js';

export interface OrphansDeps {
  readonly node: string;
  readonly records: Pick<
    VolumeRecords,
    'complete' | 'speaksOf' | 'isGone' | 'evictedFrom' | 'forgetEviction'
  >;
  readonly counts: Pick<MountCounts, 'volumes' | 'clear'>;
  readonly initiator: Pick<Initiator, 'observe' | 'detach' | 'forfeit' | 'hasContainer'>;
  readonly fileSystems: Pick<FileSystems, 'unmount'>;
  readonly paths: Pick<HostPaths, 'mountpoint'>;
}

const AT_ONCE = 4;
const TIMEOUT_MS = 25_000;

/**
 * `devices`: ids of the volumes that have an initiator here. Never throws: what cannot be given up now, or not be told
 * while etcd is away, has its turn with the next pass.
 */
export async function dropOrphans(ctx: Ctx, deps: OrphansDeps, devices: ReadonlySet<string>): Promise<void> {
  const { node, records, counts } = deps;
  if (!records.complete) return;
  try {
    const evicted = await records.evictedFrom(ctx, node);
    for (const [id, epoch] of evicted) {
      if (!devices.has(id) || isLater(await deps.initiator.observe(ctx, id), epoch))
        await records.forgetEviction(ctx, node, id);
    }
    const unspoken = [...new Set([...devices, ...counts.volumes()])].filter(
      (id) => VOLUME_ID.test(id) && !records.speaksOf(id),
    );
    await eachOf(unspoken, AT_ONCE, (id) => drop(withDeadline(ctx, TIMEOUT_MS), deps, id, evicted.get(id)));
    // One that is mounted on stays; of a volume with a record it may be the one that a mount has just made.
    await removeLeftMountpoints(deps.paths, (id) => VOLUME_ID.test(id) && !records.speaksOf(id));
  } catch (err) {
    ctx.log.debug({ err }, 'what is left of volumes that were removed elsewhere is not known now');
  }
}

async function drop(ctx: Ctx, deps: OrphansDeps, volumeId: string, evicted?: number): Promise<void> {
  try {
    // The replica may be the one of an earlier process, while etcd is away.
    if (!(await deps.records.isGone(ctx, volumeId)) || !(await giveUp(ctx, deps, volumeId, evicted))) return;
    await deps.counts.clear(volumeId);
    ctx.log.info({ volumeId }, 'its volume was removed elsewhere: what was left of it here is removed');
  } catch (err) {
    ctx.log.debug({ volumeId, err }, 'what is left of a volume that was removed elsewhere is still in use');
  }
}

/** Answers false for what nobody can tell anything of now. @throws `in_use` while containers use its device. */
async function giveUp(ctx: Ctx, deps: OrphansDeps, volumeId: string, evicted?: number): Promise<boolean> {
  const { initiator, fileSystems, paths } = deps;
  const observed = await initiator.observe(ctx, volumeId);
  const useless = isUseless(observed, evicted);
  if (!useless && !(await canTell(ctx, deps, volumeId, observed))) return false;
  if (observed.present && useless) await initiator.forfeit(ctx, volumeId);
  // Ours alone: each container has a mount of its own, which keeps the device. After its end the unmount waits for none.
  await fileSystems.unmount(ctx, paths.mountpoint(volumeId));
  if (observed.present && !useless) await initiator.detach(ctx, volumeId, 0);
  return true;
}

/** One that starts has no device that anybody could use; the device of one that was evicted hangs. */
function isUseless(observed: RoleObservation, evicted?: number): boolean {
  return observed.status?.state === 'starting' || (evicted !== undefined && !isLater(observed, evicted));
}

/** One that does not answer is paused, perhaps; but one whose container was removed will never answer again. */
async function canTell(
  ctx: Ctx,
  { initiator }: OrphansDeps,
  volumeId: string,
  { present, status }: RoleObservation,
): Promise<boolean> {
  return !present || status !== null || !(await initiator.hasContainer(ctx, volumeId));
}

/** Of an attachment after the one that was taken: admitted, and no business of the eviction. */
function isLater(observed: RoleObservation, epoch: number): boolean {
  return (epochOf(observed) ?? 0) > epoch;
}
