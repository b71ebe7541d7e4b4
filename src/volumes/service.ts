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
import { AppError } from '../errors.js';
import type { VolumeRecord } from '../state/records.js';
import type { ConvergeDeps, ConvergeOptions, Converger } from './converge.js';
import { describeDifference, parseOptions, type OptionDefaults, type VolumeSpec } from './options.js';
import { newTargetRecord, newVolumeRecord } from './volume.js';
import { VolumeLocks } from './volume-locks.js';
import { parseVolumeName } from './volume-name.js';
import type { VolumeService, VolumeView } from './volume-service.js';
import { beingRemoved } from './volume-records.js';
import { mountFailure } from './mount-failure.js';
import { viewVolume } from './volume-view.js';

export interface ServiceDeps extends ConvergeDeps {
  readonly converger: Converger;
  readonly defaults: OptionDefaults;
  readonly targetAddress: string;
  readonly mountTimeoutMs: number;
  /** Containers that have the volume mounted now, by the engine's word. @throws `unavailable` */
  readonly usersOf: (ctx: Ctx, volume: string) => Promise<string[]>;
  /** For work that goes on after its call has been answered. */
  readonly background: Ctx;
}

const LOOKUP_MS = 2000;
const CREATE_MS = 60_000;
const REMOVE_MS = 50_000;
const UNMOUNT_MS = 50_000;
const ROLLBACK_MS = 8000;
/** Between a mount's answer and the start of its container the engine's list does not show it yet. */
const QUIET_MS = 60_000;

export class LocalVolumeService implements VolumeService {
  readonly #deps: ServiceDeps;
  readonly #locks = new VolumeLocks();
  /** Volume name -> when it was last mounted, by the monotonic clock. */
  readonly #lastCall = new Map<string, number>();
  /** Volume name -> why its last convergence failed. */
  readonly #problems = new Map<string, string>();

  constructor(deps: ServiceDeps) {
    this.#deps = deps;
  }

  async create(caller: Ctx, name: string, options: Readonly<Record<string, string>>): Promise<void> {
    parseVolumeName(name);
    const spec = parseOptions(options, this.#deps.defaults);
    const ctx = withDeadline(caller, CREATE_MS);
    await this.#locks.run(ctx, name, async () => {
      const isNew = await this.#ensureRecord(ctx, name, spec);
      await this.#converge(ctx, name).catch(async (reason: unknown) => {
        if (isNew) await this.#undoCreate(name);
        throw reason;
      });
    });
    caller.log.info({ volume: name }, 'volume created');
  }

  async remove(caller: Ctx, name: string): Promise<void> {
    const ctx = withDeadline(caller, REMOVE_MS);
    const { records, counts, node } = this.#deps;
    await this.#locks.run(ctx, name, async () => {
      const volume = records.volume(name) ?? (await records.fetch(ctx, name));
      if (!volume) return;
      if (counts.total(volume.id) > 0) await this.#dropStaleCounts(ctx, volume);
      // A leftover of a detach that could not finish is finished first: it is ours, and nobody counts on it.
      if (records.attachment(volume.id)?.node === node) await this.#converge(ctx, name, { insist: true });
      await records.markRemoving(ctx, name);
      await this.#converge(ctx, name);
    });
    this.#problems.delete(name);
    this.#lastCall.delete(name);
    caller.log.info({ volume: name }, 'volume removed');
  }

  async mount(caller: Ctx, name: string, mountId: string): Promise<string> {
    const ctx = withDeadline(caller, this.#deps.mountTimeoutMs);
    const { records, counts, paths } = this.#deps;
    return this.#locks.run(ctx, name, async () => {
      const volume = records.volume(name) ?? (await records.fetch(ctx, name));
      if (!volume) throw new AppError('not_found', `volume ${name} does not exist`);
      if (volume.status === 'removing') throw beingRemoved(name);
      this.#lastCall.set(name, performance.now());
      await counts.add(volume.id, mountId);
      try {
        await this.#converge(ctx, name, { newMounts: 1 });
        ctx.signal.throwIfAborted();
        this.#mustBeReady(volume);
      } catch (reason) {
        await counts.drop(volume.id, mountId);
        await this.#settle(name, ROLLBACK_MS, { insist: true });
        throw mountFailure(reason, caller, {
          name,
          timeoutMs: this.#deps.mountTimeoutMs,
          problem: this.#problems.get(name),
        });
      }
      caller.log.info({ volume: name, mountId }, 'volume mounted');
      return `${paths.mountpoint(volume.id)}/${DATA_DIRECTORY}`;
    });
  }

  async unmount(caller: Ctx, name: string, mountId: string): Promise<void> {
    const ctx = withDeadline(caller, UNMOUNT_MS);
    const { records, counts } = this.#deps;
    await this.#locks.run(ctx, name, async () => {
      const volume = records.volume(name);
      if (!volume) return;
      const held = await counts.drop(volume.id, mountId);
      if (!held) ctx.log.warn({ volume: name, mountId }, 'unmount of an id that held nothing');
      if (counts.total(volume.id) === 0) await this.#settle(name, UNMOUNT_MS);
    });
    caller.log.info({ volume: name, mountId }, 'volume unmounted');
  }

  async get(caller: Ctx, name: string): Promise<VolumeView> {
    const { records } = this.#deps;
    const known = records.volume(name);
    if (known) return this.#view(known);
    let found: VolumeRecord | null;
    try {
      found = await records.fetch(withDeadline(caller, LOOKUP_MS), name);
    } catch (reason) {
      if (!records.complete) throw reason;
      const text = `volume ${name} is not known here, and etcd cannot be asked (${AppError.from(reason).message})`;
      throw new AppError('not_found', text, { cause: reason });
    }
    if (found) return this.#view(found);
    throw new AppError('not_found', `volume ${name} does not exist`);
  }

  list(): readonly VolumeView[] {
    return this.#deps.records.volumes().map((volume) => this.#view(volume));
  }

  /**
   * A mount whose answer never reached the engine (this process was killed, the engine was) is counted here and
   * nowhere else. The engine's own list of containers settles it.
   */
  async #dropStaleCounts(ctx: Ctx, volume: VolumeRecord): Promise<void> {
    const users = await this.#deps.usersOf(ctx, volume.name);
    if (users.length > 0) {
      throw new AppError('in_use', `volume ${volume.name} is in use by ${users.join(', ')}: stop it first`);
    }
    ctx.log.warn({ volume: volume.name }, 'mounts that no container holds any more: forgotten');
    await this.#deps.counts.clear(volume.id);
  }

  /** One pass of the timer over all that this host has to do with; a failure is kept in the volume's Status. */
  async reconcile(ctx: Ctx): Promise<void> {
    for (const { name } of this.#deps.records.volumes()) {
      if (!ctx.signal.aborted) await this.#reconcileNamed(ctx, name);
    }
  }

  /** The watch: what another host changes in the records is done here at once, not at the timer's next pass. */
  follow(ctx: Ctx): void {
    this.#deps.records.onChange((names) => {
      for (const name of names) void this.#reconcileNamed(ctx, name);
    });
  }

  /** Never throws. */
  async #reconcileNamed(ctx: Ctx, name: string): Promise<void> {
    try {
      const volume = this.#deps.records.volume(name);
      if (!volume || !this.#concernsUs(volume)) return;
      const limited = withDeadline(ctx, this.#deps.mountTimeoutMs);
      await this.#locks.run(limited, name, () => this.#reconcileOne(limited, name));
    } catch (err) {
      ctx.log.debug({ volume: name, err }, 'volume not settled yet');
    }
  }

  #concernsUs({ id }: VolumeRecord): boolean {
    const { records, counts, node } = this.#deps;
    if (counts.total(id) > 0) return true;
    return records.target(id)?.node === node || records.attachment(id)?.node === node;
  }

  /** Often: what an engine that is starting or stopping waits for. */
  async yieldDevices(ctx: Ctx): Promise<void> {
    const { records, counts, converger } = this.#deps;
    const mounted = records.volumes().filter(({ id }) => counts.total(id) > 0);
    await Promise.allSettled(
      mounted.map(({ name }) => {
        const limited = withDeadline(ctx, LOOKUP_MS);
        return this.#locks.run(limited, name, () => converger.yieldDevice(limited, name));
      }),
    );
  }

  async #reconcileOne(ctx: Ctx, name: string): Promise<void> {
    const volume = this.#deps.records.volume(name);
    if (!volume) return;
    const quietMs = performance.now() - (this.#lastCall.get(name) ?? 0);
    if (this.#deps.counts.total(volume.id) > 0 && quietMs > QUIET_MS) {
      await this.#dropStaleCounts(ctx, volume).catch(() => undefined);
    }
    await this.#converge(ctx, name);
    if (this.#deps.records.target(volume.id)?.node === this.#deps.node) await this.#checkPool(volume);
  }

  /** A thin volume in a full pool works until it wants a new block: that is told before, and while it lasts. */
  async #checkPool({ name, pool }: VolumeRecord): Promise<void> {
    await this.#deps.targets.checkPool(pool).catch((reason: unknown) => {
      this.#problems.set(name, `${AppError.from(reason).message}; until then writes to this volume may fail`);
    });
  }

  /** Answers whether the record is new. The name is the key: of several creates at once one makes it. */
  async #ensureRecord(ctx: Ctx, name: string, spec: VolumeSpec): Promise<boolean> {
    const { records, node, targetAddress: address, ports } = this.#deps;
    let existing = records.volume(name) ?? (await records.fetch(ctx, name));
    if (!existing) {
      const volume = newVolumeRecord(name, spec);
      const isNew = await this.#locks.choosePort(ctx, async () => {
        const taken = new Set(records.targetsOn(node).map((target) => target.port));
        const port = await findFreePort(address, ports, taken);
        return records.insert(ctx, volume, newTargetRecord(volume, { node, address, port }));
      });
      if (isNew) return true;
      existing = await records.fetch(ctx, name);
    }
    const difference = existing && describeDifference(existing, spec);
    if (difference != null) throw new AppError('conflict', `volume ${name} exists already: ${difference}`);
    if (existing?.status === 'ready' || existing?.status === 'creating') return false;
    throw beingRemoved(name);
  }

  /** A convergence may end without a mount: the volume went away meanwhile, or its node has not made it yet. */
  #mustBeReady({ name, id }: VolumeRecord): void {
    const now = this.#deps.records.volume(name);
    if (now?.id === id && now.status === 'ready') return;
    if (now?.id !== id || now.status === 'removing') throw beingRemoved(name);
    const node = this.#deps.records.target(id)?.node ?? 'its node';
    throw new AppError('unavailable', `volume ${name} is not made yet: ${node} is still at it; try again`);
  }

  async #converge(ctx: Ctx, name: string, options: ConvergeOptions = {}): Promise<void> {
    try {
      await this.#deps.converger.converge(ctx, name, options);
      this.#problems.delete(name);
    } catch (reason) {
      const failure = AppError.from(reason);
      if (failure.code !== 'canceled') this.#problems.set(name, failure.message);
      throw failure;
    }
  }

  /** Brings down what nobody counts on any more; what fails stays for the timer. */
  async #settle(name: string, timeoutMs: number, options: ConvergeOptions = {}): Promise<void> {
    const ctx = withDeadline(this.#deps.background, timeoutMs);
    await this.#converge(ctx, name, options).catch((err: unknown) => {
      ctx.log.warn({ volume: name, err }, 'the volume was not given back yet: it is tried again');
    });
  }

  async #undoCreate(name: string): Promise<void> {
    const ctx = withDeadline(this.#deps.background, CREATE_MS);
    try {
      await this.#deps.records.markRemoving(ctx, name);
      await this.#converge(ctx, name);
      this.#problems.delete(name);
    } catch (err) {
      ctx.log.warn({ volume: name, err }, 'a failed create was not undone yet: it is tried again');
    }
  }

  #view(volume: VolumeRecord): VolumeView {
    const { counts, paths, node } = this.#deps;
    return viewVolume({
      volume,
      ...this.#belongings(volume),
      mounts: counts.total(volume.id),
      mountpoint: `${paths.mountpoint(volume.id)}/${DATA_DIRECTORY}`,
      node,
    });
  }

  /** A damaged record is told in the Status of its volume, and hides no other. */
  #belongings({ name, id }: VolumeRecord) {
    const { records } = this.#deps;
    try {
      const problem = this.#problems.get(name) ?? null;
      return { target: records.target(id), attachment: records.attachment(id), problem };
    } catch (reason) {
      return { target: null, attachment: null, problem: AppError.from(reason).message };
    }
  }
}
