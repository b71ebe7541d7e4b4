/**
 * What is left on this host of volumes that were removed elsewhere while it was away: initiators, mounts and counts.
 * Their data is gone, or was never here; what holds data and has no record is told and left alone (strays.ts).
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
  readonly records: Pick<VolumeRecords, 'complete' | 'speaksOf' | 'isGone'>;
  readonly counts: Pick<MountCounts, 'volumes' | 'clear'>;
  readonly initiator: Pick<Initiator, 'observe' | 'detach' | 'forfeit'>;
  readonly fileSystems: Pick<FileSystems, 'unmount'>;
  readonly paths: Pick<HostPaths, 'mountpoint'>;
}

const AT_ONCE = 4;
const TIMEOUT_MS = 25_000;

/**
 * `devices`: ids of the volumes that have an initiator here. One that containers still use is left to them, and told as
 * a stray; it goes with the first pass after the last of them.
 */
export async function dropOrphans(ctx: Ctx, deps: OrphansDeps, devices: ReadonlySet<string>): Promise<void> {
  const { records, counts } = deps;
  if (!records.complete) return;
  const unspoken = [...new Set([...devices, ...counts.volumes()])].filter(
    (id) => VOLUME_ID.test(id) && !records.speaksOf(id),
  );
  await eachOf(unspoken, AT_ONCE, async (id) => {
    const limited = withDeadline(ctx, TIMEOUT_MS);
    try {
      // The replica may be the one of an earlier process, while etcd is away.
      if (!(await records.isGone(limited, id)) || !(await dropDevice(limited, deps, id))) return;
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

/** Answers false for one that nobody can tell anything of now. @throws `in_use` */
async function dropDevice(ctx: Ctx, deps: OrphansDeps, volumeId: string): Promise<boolean> {
  const { initiator, fileSystems, paths } = deps;
  const { present, status } = await initiator.observe(ctx, volumeId);
  if (present && status === null) return false;
  if (status?.state === 'starting') {
    // It has no device that anybody could use.
    await initiator.forfeit(ctx, volumeId);
    return true;
  }
  // Ours alone: each container has a mount of its own, which keeps the device.
  await fileSystems.unmount(ctx, paths.mountpoint(volumeId));
  if (present) await initiator.detach(ctx, volumeId);
  return true;
}
