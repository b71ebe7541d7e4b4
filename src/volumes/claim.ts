/**
 * The right to have a volume attached: free, ours, another node's, or left behind by a node that is away.
 *
 * INVARIANTS
 * - Nothing is taken from a node that is alive: the transaction that takes it compares that. So with etcd away
 *   nothing is taken at all.
 * - Who is wrong about a node (it is only cut off from etcd) costs that node its volume, and no data: the target
 *   admits the new epoch only, and has ended all of the old one's sessions before (Target.pm).
 */
import { isIP } from 'node:net';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../state/records.js';
import type { Liveness } from './liveness.js';
import { inUse, type VolumeRecords } from './volume-records.js';

export interface ClaimDeps {
  readonly node: string;
  readonly records: VolumeRecords;
  readonly liveness: Pick<Liveness, 'awayMs'>;
  /** How long a node must be away before what it has attached is taken over. */
  readonly failoverAfterMs: number;
}

const POLL_MS = 250;

/** @throws `in_use` while another node has it, `unavailable` or `conflict` when its target cannot be reached. */
export async function claimAttachment(ctx: Ctx, deps: ClaimDeps, name: string): Promise<void> {
  for (;;) {
    const holder = holderOf(deps, name);
    try {
      if (await tryToClaim(ctx, deps, name)) return;
    } catch (reason) {
      if (!ctx.signal.aborted || holder === undefined) throw reason;
    }
    await sleep(POLL_MS, ctx.signal);
    if (!ctx.signal.aborted) continue;
    if (holder !== undefined) throw stillHeld(deps, name, holder);
    const volume = deps.records.volume(name);
    const local = volume && behindLoopback(deps, volume);
    if (local) throw servedOnLoopback(deps, name, local);
  }
}

function holderOf({ records }: ClaimDeps, name: string): string | undefined {
  const volume = records.volume(name);
  return volume ? records.attachment(volume.id)?.node : undefined;
}

/** False when its time has not come yet. */
async function tryToClaim(ctx: Ctx, deps: ClaimDeps, name: string): Promise<boolean> {
  const { records, node, liveness } = deps;
  const volume = records.volume(name);
  const holder = volume && (await findHolder(ctx, deps, volume));
  if (holder && liveness.awayMs(holder.node) === 0) throw inUse(name, records.nodeName(holder.node));
  if (holder) checkTargetIsThere(deps, volume);
  if (volume && !isReachable(deps, volume)) return false;
  if (holder) return takeOver(ctx, deps, name, holder);
  await records.attach(ctx, name, node);
  return true;
}

/** False while its holder has not been away for long enough, or is back. */
async function takeOver(
  ctx: Ctx,
  { records, liveness, failoverAfterMs, node }: ClaimDeps,
  name: string,
  holder: AttachmentRecord,
): Promise<boolean> {
  if (liveness.awayMs(holder.node) < failoverAfterMs) return false;
  if (!(await records.takeOver(ctx, name, node, holder))) return false;
  ctx.log.warn({ volume: name, from: holder.node }, 'attachment taken over from a node that is away');
  return true;
}

/** The other node that has it. What the replica says of another node's doings is asked again before it counts. */
async function findHolder(ctx: Ctx, deps: ClaimDeps, volume: VolumeRecord): Promise<AttachmentRecord | null> {
  const { records, node } = deps;
  const known = records.attachment(volume.id);
  if (!known || known.node === node) return null;
  await records.fetch(ctx, volume.name);
  const now = records.attachment(volume.id);
  return now && now.node !== node ? now : null;
}

function stillHeld(
  { records, liveness, failoverAfterMs }: ClaimDeps,
  name: string,
  holder: string,
): AppError {
  const awayMs = liveness.awayMs(holder);
  if (awayMs === 0) return inUse(name, records.nodeName(holder));
  const text =
    `volume ${name} is attached to node ${records.nodeName(holder)}, which has been away for ${seconds(awayMs)}: ` +
    `it is taken over after ${seconds(failoverAfterMs)}, try again then`;
  return new AppError('in_use', text);
}

/** The target that only its own host reaches; null when this host reaches it. */
function behindLoopback({ records, node }: ClaimDeps, { id }: VolumeRecord): TargetRecord | null {
  const target = records.target(id);
  return target && target.node !== node && isLoopback(target.address) ? target : null;
}

/**
 * False while that is a matter of a moment: a host that has just begun a cluster serves its volumes anew where the
 * others reach them, and nobody need do a thing.
 * @throws `conflict` when it takes somebody to do it
 */
function isReachable(deps: ClaimDeps, volume: VolumeRecord): boolean {
  const { records, liveness } = deps;
  const local = behindLoopback(deps, volume);
  if (local && records.isAdvertised(local.node) && liveness.awayMs(local.node) === 0) return false;
  if (local) throw servedOnLoopback(deps, volume.name, local);
  return true;
}

function servedOnLoopback({ records }: ClaimDeps, name: string, { node, address }: TargetRecord): AppError {
  return new AppError(
    'conflict',
    `volume ${name} is served on loopback (${address}) of node ${records.nodeName(node)}: set TARGET_ADDRESS there to ` +
      'an address that the other nodes reach, and stop the containers that use it there',
  );
}

/** A volume whose only data is away cannot be used here either: its attachment is left where it is. */
function checkTargetIsThere(deps: ClaimDeps, { id, name }: VolumeRecord): void {
  const target = deps.records.target(id);
  const away = target && whereAway(deps, target);
  if (away) throw new AppError('unavailable', `volume ${name} cannot be reached: ${away}`);
}

/** What to tell when the node that keeps the data is away; null while it is alive, as far as anybody can tell. */
export function whereAway({ node, records, liveness }: ClaimDeps, target: TargetRecord): string | null {
  const awayMs = target.node === node ? 0 : liveness.awayMs(target.node);
  if (awayMs === 0) return null;
  const where = records.nodeName(target.node);
  return `its data is on node ${where}, which has been away for ${seconds(awayMs)}: bring that node back`;
}

export function isLoopback(address: string): boolean {
  return isIP(address) === 4 ? address.startsWith('127.') : address === '::1';
}

function seconds(ms: number): string {
  return `${String(Math.round(ms / 1000))} s`;
}
