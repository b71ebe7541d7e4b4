/** What another node has to do before a call here can be answered. */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';
import type { VolumeRecord } from '../state/records.js';
import type { ClaimDeps } from './claim.js';
import { beingRemoved } from './volume-records.js';

type Deps = Pick<ClaimDeps, 'node' | 'records' | 'liveness'>;

const POLL_MS = 25;

/** Until the node that was chosen has made it. @throws `unavailable` when that takes longer than this call may. */
export async function untilMade(ctx: Ctx, { records, liveness }: Deps, name: string): Promise<void> {
  for (;;) {
    const volume = records.volume(name);
    if (volume?.status !== 'creating') return;
    const node = records.target(volume.id)?.node ?? '';
    const away = liveness.awayMs(node) > 0;
    if (away || ctx.signal.aborted) {
      const why = away ? 'is away' : 'is still at it';
      const text = `volume ${name} is not made yet: node ${records.nodeName(node)} ${why}; try again`;
      throw new AppError('unavailable', text);
    }
    await sleep(POLL_MS, ctx.signal);
  }
}

/**
 * Until the node with its data has removed it. One that is away does so when it is back: there is no way back for
 * the volume, so it counts as removed. @throws `unavailable` when that takes longer than this call may.
 */
export async function untilRemoved(ctx: Ctx, deps: Deps, { name, id }: VolumeRecord): Promise<void> {
  const { records, liveness } = deps;
  for (;;) {
    const volume = records.volume(name);
    const node = records.target(id)?.node;
    if (volume?.id !== id || node === deps.node) return;
    if (node !== undefined && liveness.awayMs(node) > 0) {
      ctx.log.warn({ volume: name, node }, 'the data is removed when its node is back');
      return;
    }
    if (ctx.signal.aborted) {
      const text = `volume ${name} is being removed: node ${records.nodeName(node ?? '')} has not finished yet`;
      throw new AppError('unavailable', text);
    }
    await sleep(POLL_MS, ctx.signal);
  }
}

/** For this host it is gone: nothing of it is here, and nobody can have it back. */
export function isRemovedElsewhere({ records, node }: Deps, { id, status }: VolumeRecord): boolean {
  if (status !== 'removing') return false;
  const target = records.target(id);
  return target !== null && target.node !== node && records.attachment(id)?.node !== node;
}

export function nameIsTaken({ records, node, liveness }: Deps, { id, name }: VolumeRecord): AppError {
  const target = records.target(id);
  const away = target && target.node !== node && liveness.awayMs(target.node) > 0;
  return beingRemoved(name, away ? records.nodeName(target.node) : undefined);
}
