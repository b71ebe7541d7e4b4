/**
 * The volumes of this host, as the edges ask for them: each call changes what is wanted (the records, the mount
 * counts) and lets the one convergence do the rest.
 *
 * INVARIANTS
 * - get and list answer from the replica. A name is "not found" only when etcd said so, or when the replica is
 *   whole: Docker can only lose what it knows, and what Docker here knows came through this replica.
 * - A failed create or mount leaves nothing of itself behind, or the timer takes it away.
 * - An unmount succeeds as soon as nothing here counts on the volume: what cannot be given back now (etcd or
 *   the engine is away, as at the host's shutdown) is given back by the timer or after the next start.
 */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { findFreePort } from '../dataplane/free-port.js';
import { DATA_DIRECTORY } from '../dataplane/file-system.js';
import { AppError, hasCode } from '../errors.js';
import type { VolumeRecord } from '../state/records.js';
import { claimAttachment } from './claim.js';
import { checkRemovable } from './data-check.js';
import { isRemovedElsewhere, nameIsTaken, untilMade, untilRemoved } from './elsewhere.js';
import { describeDifference, parseOptions, type OptionDefaults, type VolumeSpec } from './options.js';
import { newTargetRecord, newVolumeRecord } from './volume.js';
import { parseVolumeName } from './volume-name.js';
import type { VolumeService, VolumeView } from './volume-service.js';
import { beingRemoved } from './volume-records.js';
import { isDrained } from './drained.js';
import { mountFailure } from './mount-failure.js';
import type { RepairLog } from './repair-log.js';
import { viewUnreadable, viewVolume } from './volume-view.js';
import type { VolumeWork, VolumeWorkDeps } from './volume-work.js';

export interface ServiceDeps extends VolumeWorkDeps {
  readonly work: VolumeWork;
  readonly defaults: OptionDefaults;
  readonly mountTimeoutMs: number;
  readonly repairs: Pick<RepairLog, 'of'>;
}

const LOOKUP_MS = 2000;
/**
 * Without the cache nothing is known before etcd is up, which at boot comes up beside who asks. The engine repeats a
 * Get that was dropped, but without its name: this is its one chance.
 */
const BLIND_LOOKUP_MS = 10_000;
const CREATE_MS = 60_000;
const REMOVE_MS = 50_000;
const UNMOUNT_MS = 50_000;
const ROLLBACK_MS = 8000;
/**
 * How much later than MOUNT_TIMEOUT a mount may answer: by default 28 s in all, as the engine waits 30 s for a plugin that
 * was enabled by hand. What is not undone by then is left to the timer.
 */
const LATE_MS = 3000;

export class LocalVolumeService implements VolumeService {
  readonly #deps: ServiceDeps;
  readonly #work: VolumeWork;

  constructor(deps: ServiceDeps) {
    this.#deps = deps;
    this.#work = deps.work;
  }

  async create(caller: Ctx, name: string, options: Readonly<Record<string, string>>): Promise<void> {
    parseVolumeName(name);
    const spec = parseOptions(options, this.#deps.defaults);
    const ctx = withDeadline(caller, CREATE_MS);
    await this.#work.locks.run(ctx, name, async () => {
      const isNew = await this.#ensureRecord(ctx, name, spec);
      await this.#work.converge(ctx, name).catch(async (reason: unknown) => {
        if (isNew) await this.#undoCreate(name);
        throw reason;
      });
      await untilMade(ctx, this.#deps, name);
      // Who made it may have failed and taken it back meanwhile.
      if (this.#deps.records.volume(name)?.status !== 'ready') throw beingRemoved(name);
    });
    caller.log.info({ volume: name }, 'volume created');
  }

  async remove(caller: Ctx, name: string): Promise<void> {
    const ctx = withDeadline(caller, REMOVE_MS);
    const { records, counts, node } = this.#deps;
    await this.#work.locks.run(ctx, name, async () => {
      const volume = records.volume(name) ?? (await records.fetch(ctx, name));
      if (!volume) return;
      const attachedHere = records.attachment(volume.id)?.node === node;
      // Counted or not: a count can be lost, and who has it mounted is known to the engine.
      if (attachedHere || counts.total(volume.id) > 0) await this.#work.dropStaleCounts(ctx, volume);
      // A leftover of a detach that could not finish is finished first: it is ours, and nobody counts on it.
      if (attachedHere) await this.#work.converge(ctx, name, { insist: true });
      await this.#takeFromDead(ctx, volume);
      await checkRemovable(this.#deps, volume);
      await records.markRemoving(ctx, name);
      await this.#work.converge(ctx, name);
      await untilRemoved(ctx, this.#deps, volume);
    });
    this.#work.forget(name);
    caller.log.info({ volume: name }, 'volume removed');
  }

  async mount(caller: Ctx, name: string, mountId: string): Promise<string> {
    const ctx = withDeadline(caller, this.#deps.mountTimeoutMs);
    const { records, counts, paths } = this.#deps;
    const answerBy = performance.now() + this.#deps.mountTimeoutMs + LATE_MS;
    const mounting = this.#work.locks.run(ctx, name, async () => {
      const volume = records.volume(name) ?? (await records.fetch(ctx, name));
      if (!volume) throw new AppError('not_found', `volume ${name} does not exist`);
      if (volume.status === 'removing') throw nameIsTaken(this.#deps, volume);
      // Begun by an earlier process of ours: nobody else can finish it while this call has the turn.
      if (volume.status === 'creating' && records.target(volume.id)?.node === this.#deps.node)
        await this.#work.converge(ctx, name);
      await untilMade(ctx, this.#deps, name);
      this.#work.mountBegins(name);
      await counts.add(volume.id, mountId);
      try {
        await this.#work.converge(ctx, name, { newMount: mountId });
        ctx.signal.throwIfAborted();
        this.#mustBeReady(volume);
      } catch (reason) {
        await counts.drop(volume.id, mountId);
        const leftMs = Math.round(answerBy - performance.now());
        await this.#work.settle(name, Math.min(ROLLBACK_MS, leftMs), { insist: true });
        throw mountFailure(reason, caller, {
          name,
          timeoutMs: this.#deps.mountTimeoutMs,
          problem: this.#work.problem(name),
        });
      }
      caller.log.info({ volume: name, mountId }, 'volume mounted');
      return `${paths.mountpoint(volume.id)}/${DATA_DIRECTORY}`;
    });
    return mounting.catch((reason: unknown) => this.#work.missed(name, reason));
  }

  async unmount(caller: Ctx, name: string, mountId: string): Promise<void> {
    const ctx = withDeadline(caller, UNMOUNT_MS);
    const { records, counts } = this.#deps;
    await this.#work.locks.run(ctx, name, async () => {
      const volume = records.volume(name);
      if (!volume) return;
      const held = await counts.drop(volume.id, mountId);
      if (!held) ctx.log.warn({ volume: name, mountId }, 'unmount of an id that held nothing');
      if (counts.total(volume.id) === 0) await this.#work.settle(name, UNMOUNT_MS);
    });
    caller.log.info({ volume: name, mountId }, 'volume unmounted');
  }

  async get(caller: Ctx, name: string): Promise<VolumeView> {
    const { records } = this.#deps;
    const known = this.#viewKnown(name);
    if (known) return known;
    try {
      await records.fetch(withDeadline(caller, records.complete ? LOOKUP_MS : BLIND_LOOKUP_MS), name);
    } catch (reason) {
      const unreadable = this.#viewKnown(name);
      if (unreadable) return unreadable;
      if (!records.complete) return this.#work.missed(name, reason);
      const text = `volume ${name} is not known here, and etcd cannot be asked (${AppError.from(reason).message})`;
      throw new AppError('not_found', text, { cause: reason });
    }
    const found = this.#viewKnown(name);
    if (found) return found;
    throw new AppError('not_found', `volume ${name} does not exist`);
  }

  list(): readonly VolumeView[] {
    const { records } = this.#deps;
    return [
      ...records
        .volumes()
        .filter((volume) => !isRemovedElsewhere(this.#deps, volume))
        .map((volume) => this.#view(volume)),
      ...records.unreadableVolumes().map(viewUnreadable),
    ];
  }

  #viewKnown(name: string): VolumeView | null {
    const { records } = this.#deps;
    try {
      const volume = records.volume(name);
      return volume && !isRemovedElsewhere(this.#deps, volume) ? this.#view(volume) : null;
    } catch {
      const unreadable = records.unreadableVolumes().find((volume) => volume.name === name);
      return unreadable ? viewUnreadable(unreadable) : null;
    }
  }

  /** Answers whether the record is new. The name is the key: of several creates at once one makes it. */
  async #ensureRecord(ctx: Ctx, name: string, spec: VolumeSpec): Promise<boolean> {
    const { records, node, targetAddress: address, ports } = this.#deps;
    let existing = records.volume(name) ?? (await records.fetch(ctx, name));
    if (!existing) {
      records.checkCluster();
      if (records.isDrained(node)) throw isDrained(name, records.nodeName(node), node);
      const volume = newVolumeRecord(name, spec);
      const isNew = await this.#work.locks
        .choosePort(ctx, async () => {
          const taken = new Set(records.targetsOn(node).map((target) => target.port));
          const port = await findFreePort(address, ports, taken);
          return records.insert(ctx, volume, newTargetRecord(volume, { node, address, port }));
        })
        .catch((reason: unknown) => this.#insertedAfterAll(ctx, volume, reason));
      if (isNew) return true;
      existing = await records.fetch(ctx, name);
    }
    if (existing?.status === 'removing') throw nameIsTaken(this.#deps, existing);
    const difference = existing && describeDifference(existing, spec);
    if (difference != null) throw new AppError('conflict', `volume ${name} exists already: ${difference}`);
    if (existing) return false;
    throw beingRemoved(name);
  }

  /** What a node that is away has attached is nobody's: it is taken over as for a mount, and given back. */
  async #takeFromDead(ctx: Ctx, { name, id }: VolumeRecord): Promise<void> {
    const { records, liveness, failoverAfterMs } = this.#deps;
    const holder = records.attachment(id)?.node;
    if (holder === undefined || liveness.awayMs(holder) < failoverAfterMs) return;
    await claimAttachment(ctx, this.#deps, name);
    await this.#work.converge(ctx, name, { insist: true });
  }

  /** The answer of a write can be lost, not the write: what is there now tells, if etcd tells anything. */
  async #insertedAfterAll(ctx: Ctx, { name, id }: VolumeRecord, reason: unknown): Promise<boolean> {
    if (!hasCode(reason, 'unavailable', 'deadline_exceeded', 'no_leader')) throw reason;
    const found = await this.#deps.records.fetch(ctx, name).catch(() => null);
    if (found?.id === id) return true;
    throw reason;
  }

  /** A convergence may end without a mount: the volume went away meanwhile. */
  #mustBeReady({ name, id }: VolumeRecord): void {
    const now = this.#deps.records.volume(name);
    if (now?.id !== id || now.status !== 'ready') throw beingRemoved(name);
  }

  async #undoCreate(name: string): Promise<void> {
    const ctx = withDeadline(this.#deps.background, CREATE_MS);
    try {
      await this.#deps.records.markRemoving(ctx, name);
      await this.#work.converge(ctx, name);
      this.#work.solved(name);
    } catch (err) {
      ctx.log.warn({ volume: name, err }, 'a failed create was not undone yet: it is tried again');
    }
  }

  #view(volume: VolumeRecord): VolumeView {
    const { counts, paths, node, repairs } = this.#deps;
    return viewVolume({
      volume,
      ...this.#belongings(volume),
      mounts: counts.total(volume.id),
      mountpoint: `${paths.mountpoint(volume.id)}/${DATA_DIRECTORY}`,
      node,
      repaired: repairs.of(volume.name),
    });
  }

  /** A damaged record is told in the Status of its volume, and hides no other. */
  #belongings({ name, id }: VolumeRecord) {
    const { records } = this.#deps;
    try {
      const problem = this.#work.problem(name);
      return { target: records.target(id), attachment: records.attachment(id), problem };
    } catch (reason) {
      return { target: null, attachment: null, problem: AppError.from(reason).message };
    }
  }
}
