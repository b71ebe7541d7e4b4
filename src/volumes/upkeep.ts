/** What goes on with this host's volumes while nobody calls: the watch of the records, and the timers. */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { eachOf } from '../lib/each-of.js';
import type { VolumeRecord } from '../state/records.js';
import { findDataProblem } from './data-check.js';
import { dropOrphans } from './orphans.js';
import { FORGOTTEN_MS, type VolumeWork, type VolumeWorkDeps } from './volume-work.js';

export interface UpkeepDeps extends VolumeWorkDeps {
  readonly work: VolumeWork;
  readonly mountTimeoutMs: number;
  /** Changes with what is read from a device or written to it; null: nobody can tell. */
  readonly activityOf: (device: string) => Promise<string | null>;
  /** What serves volumes is being taken away for good: nothing is brought back. Absent: never. */
  readonly isEnding?: () => boolean;
}

const YIELD_MS = 2000;
/**
 * How long a device must be idle before a mount without a container is forgotten. The engine copies what an image has at the
 * mountpoint into a new volume before there is a container in its list. ext4 writes its log every 5 s; what else has changed
 * is written when it is 30 s old.
 */
const IDLE_MS: Readonly<Record<VolumeRecord['fs'], number>> = { ext4: 10_000, xfs: 40_000, btrfs: 40_000 };
/** A volume that is stuck takes its whole time: the others do not wait for it. */
const RECONCILED_AT_ONCE = 4;

export class Upkeep {
  readonly #deps: UpkeepDeps;
  /** Volume id -> what its device had done, and since when it is idle. */
  readonly #activities = new Map<string, { readonly seen: string; readonly since: number }>();

  constructor(deps: UpkeepDeps) {
    this.#deps = deps;
  }

  /** One pass of the timer over all that this host has to do with; a failure is kept in the volume's Status. */
  async reconcile(ctx: Ctx, which: 'all' | 'urgent' = 'all'): Promise<void> {
    const devices = new Set(await this.#deps.initiator.present());
    const wanted = which === 'all' ? () => true : (volume: VolumeRecord) => this.#isUrgent(volume);
    await eachOf(this.#deps.records.volumes(), RECONCILED_AT_ONCE, async ({ name }) => {
      if (!ctx.signal.aborted) await this.#reconcileNamed(ctx, name, { devices, wanted });
    });
    // Not waited for: a container's start may take as long as the volumes of another host, which is away.
    this.#deps.work.makeUp(ctx).catch((err: unknown) => {
      ctx.log.warn({ err }, 'nobody can tell which containers wait for their volume');
    });
    // Last: it waits for etcd.
    if (which === 'all') await dropOrphans(ctx, this.#deps, devices);
  }

  /**
   * The watch: what another host changes in the records is done here at once, not at the timer's next pass. While
   * the engine starts (`isSettled` says no) that is only what others have attached: they wait for our targets.
   */
  follow(ctx: Ctx, isSettled: () => boolean = () => true): void {
    const { records, initiator } = this.#deps;
    const look = async (names: readonly string[]): Promise<void> => {
      const devices = new Set(await initiator.present());
      const wanted = isSettled() ? () => true : (volume: VolumeRecord) => this.#isElsewhere(volume);
      await Promise.all(names.map((name) => this.#reconcileNamed(ctx, name, { devices, wanted })));
    };
    records.onChange((names) => {
      look(names).catch((err: unknown) => {
        ctx.log.warn({ err }, 'a change of the records is looked at with the next pass only');
      });
    });
  }

  hasMounts(): boolean {
    return this.#deps.counts.volumes().length > 0;
  }

  /** Often: what an engine that is starting or stopping waits for. */
  async yieldDevices(ctx: Ctx): Promise<void> {
    const { records, counts, converger, work, node } = this.#deps;
    // Counted or not: a count can be lost, and then nobody sends the unmount.
    const mounted = records
      .volumes()
      .filter(({ id }) => counts.total(id) > 0 || isAttachedTo(records, id, node));
    // Looked at from the start on, so that the first pass knows.
    const ofEarlier = mounted.filter(({ id }) => !counts.hasOwn(id));
    await Promise.allSettled([
      ...ofEarlier.map(({ id }) => this.#idleMs(withDeadline(ctx, YIELD_MS), id)),
      ...mounted.map(({ name }) => {
        const limited = withDeadline(ctx, YIELD_MS);
        return work.locks.run(limited, name, () => converger.yieldDevice(limited, name));
      }),
    ]);
  }

  /** Never throws: not for a record that is damaged or of a newer version either, which is told in Status. */
  async #reconcileNamed(
    ctx: Ctx,
    name: string,
    { devices, wanted }: { devices: ReadonlySet<string>; wanted: (volume: VolumeRecord) => boolean },
  ): Promise<void> {
    try {
      if (this.#deps.isEnding?.() === true) return;
      const volume = this.#deps.records.volume(name);
      if (!volume || !wanted(volume) || !(devices.has(volume.id) || this.#concernsUs(volume))) return;
      const limited = withDeadline(ctx, this.#deps.mountTimeoutMs);
      await this.#deps.work.locks.run(limited, name, () => this.#reconcileOne(limited, name));
    } catch (err) {
      ctx.log.debug({ volume: name, err }, 'volume not settled yet');
    }
  }

  #concernsUs({ id }: VolumeRecord): boolean {
    const { records, counts, node, converger } = this.#deps;
    if (counts.total(id) > 0 || converger.deadDevices.has(id)) return true;
    return records.target(id)?.node === node || records.attachment(id)?.node === node;
  }

  /**
   * What does not wait until the engine has settled, as nobody here has it mounted: what another host waits for, and
   * what an earlier process began and died over, what is served where others no longer look for it. The engine takes a volume that is half made for made once Get
   * knows it, and asks for it no more.
   */
  #isUrgent(volume: VolumeRecord): boolean {
    return volume.status !== 'ready' || this.#isElsewhere(volume) || this.#deps.converger.isMovedAway(volume);
  }

  #isElsewhere({ id }: VolumeRecord): boolean {
    const attachment = this.#deps.records.attachment(id);
    return attachment !== null && attachment.node !== this.#deps.node;
  }

  async #reconcileOne(ctx: Ctx, name: string): Promise<void> {
    const { records, work, converger, counts } = this.#deps;
    const volume = records.volume(name);
    if (!volume) return;
    // What is counted of a volume that another node has is void: nobody need be asked, and nothing is taken for it.
    if (!this.#isElsewhere(volume)) {
      if (!(await this.#recount(ctx, volume))) return;
    } else if (counts.total(volume.id) > 0) await counts.clear(volume.id);
    await work.converge(ctx, name);
    const problem =
      (await findDataProblem(this.#deps, volume)) ?? (await converger.deadDevices.problemOf(volume));
    if (problem !== null) work.tell(name, problem);
  }

  /**
   * Compares what is counted with the engine's containers: a count without a container is stale, a container
   * without a count has lost it. Answers false when nobody can tell whether the volume is still held.
   */
  async #recount(ctx: Ctx, volume: VolumeRecord): Promise<boolean> {
    const { records, counts, usersOf, node, engineAnswers } = this.#deps;
    const isCounted = counts.total(volume.id) > 0;
    if (!isCounted && records.attachment(volume.id)?.node !== node) return true;
    // A starting engine takes the question and lets it wait, and with it the mounts that it waits for itself.
    const users = (await engineAnswers(ctx)) ? await usersOf(ctx, volume.name).catch(() => null) : null;
    if (users === null) return isCounted;
    if (users.length > 0) await this.#countHolders(volume, users.length);
    else if (isCounted && (await this.#isForgotten(ctx, volume))) {
      ctx.log.warn({ volume: volume.name }, 'mounts that no container holds any more: forgotten');
      this.#activities.delete(volume.id);
      await counts.clear(volume.id);
    }
    return true;
  }

  async #isForgotten(ctx: Ctx, { id, name, fs }: VolumeRecord): Promise<boolean> {
    const { counts, work } = this.#deps;
    if (counts.hasOwn(id) && work.quietMs(name) <= FORGOTTEN_MS) return false;
    return (await this.#idleMs(ctx, id)) >= IDLE_MS[fs];
  }

  /** For how long nothing has been read from its device or written to it, as far as it was looked at. */
  async #idleMs(ctx: Ctx, id: string): Promise<number> {
    const { activityOf, initiator } = this.#deps;
    const device = (await initiator.observe(ctx, id)).status?.device;
    const seen = device == null ? null : await activityOf(device);
    if (seen === null) return Infinity;
    const now = performance.now();
    const before = this.#activities.get(id);
    if (before?.seen === seen) return now - before.since;
    this.#activities.set(id, { seen, since: now });
    return 0;
  }

  async #countHolders(volume: VolumeRecord, holders: number): Promise<void> {
    const { counts, work } = this.#deps;
    // An engine that was killed mounts again under the same id, without an unmount between.
    // If that start failed, its unmount took back one of the two, and the next start has another id.
    if (work.isBeyond(volume, holders)) await counts.clearEarlier(volume.id, holders);
    counts.adopt(volume.id, holders);
  }
}

/** A damaged record is told elsewhere; here it must not keep the others from their turn. */
function isAttachedTo(records: UpkeepDeps['records'], volumeId: string, node: string): boolean {
  try {
    return records.attachment(volumeId)?.node === node;
  } catch {
    return false;
  }
}
