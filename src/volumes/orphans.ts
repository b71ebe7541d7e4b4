/**
 * What is left on this host of volumes that were removed elsewhere while it was away: initiators, mounts and counts.
 * Their data is gone, or was never here; what holds data and has no record is told and left alone (strays.ts).
 *
 * A volume that was taken from this host before it was removed has no target any more, and who uses its device hangs,
 * to the point that the engine cannot kill it: that device is forfeited. Without an eviction on record (etcd was set
 * back to an older backup, say) the target may well serve: then what containers use is left to them.
 */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import type { FileSystems } from '../dataplane/file-system.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { Initiator } from '../dataplane/initiator.js';
import { eachOf } from '../lib/each-of.js';
import type { MountCounts } from './mount-counts.js';
import { VOLUME_ID } from './volume.js';
import type { VolumeRecords } from './volume-records.js';

export interface OrphansDeps {
  readonly node: string;
  readonly records: Pick<
    VolumeRecords,
    'complete' | 'speaksOf' | 'isGone' | 'evictedFrom' | 'forgetEviction'
  >;
  readonly counts: Pick<MountCounts, 'volumes' | 'clear'>;
  readonly initiator: Pick<Initiator, 'observe' | 'detach' | 'forfeit'>;
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
  try {
    await dropAll(withDeadline(ctx, TIMEOUT_MS), deps, devices);
  } catch (err) {
    ctx.log.debug({ err }, 'what is left of volumes that were removed elsewhere is not known now');
  }
}

async function dropAll(ctx: Ctx, deps: OrphansDeps, devices: ReadonlySet<string>): Promise<void> {
  const { node, records, counts } = deps;
  if (!records.complete) return;
  const evicted = await records.evictedFrom(ctx, node);
  for (const id of evicted) if (!devices.has(id)) await records.forgetEviction(ctx, node, id);
  const unspoken = [...new Set([...devices, ...counts.volumes()])].filter(
    (id) => VOLUME_ID.test(id) && !records.speaksOf(id),
  );
  await eachOf(unspoken, AT_ONCE, async (id) => {
    try {
      // The replica may be the one of an earlier process, while etcd is away.
      if (!(await records.isGone(ctx, id)) || !(await dropOne(ctx, deps, id, evicted.has(id)))) return;
      await counts.clear(id);
      ctx.log.info({ volumeId: id }, 'its volume was removed elsewhere: what was left of it here is removed');
    } catch (err) {
      ctx.log.debug(
        { volumeId: id, err },
        'what is left of a volume that was removed elsewhere is still in use',
      );
    }
  });
}

/** Answers false for one that nobody can tell anything of now. @throws `in_use` while containers use its device. */
async function dropOne(ctx: Ctx, deps: OrphansDeps, volumeId: string, evicted: boolean): Promise<boolean> {
  const { initiator, fileSystems, paths } = deps;
  const { present, status } = await initiator.observe(ctx, volumeId);
  if (present && status === null) return false;
  // One that starts has no device that anybody could use.
  const useless = evicted || status?.state === 'starting';
  if (present && useless) await initiator.forfeit(ctx, volumeId);
  // Ours alone: each container has a mount of its own, which keeps the device. After its end the unmount waits for none.
  await fileSystems.unmount(ctx, paths.mountpoint(volumeId));
  if (present && !useless) await initiator.detach(ctx, volumeId);
  return true;
}
