/**
 * What driver calls and the upkeep share: the turn of each volume, its convergence and what that failed with, and
 * the mounts that it counts.
 */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { AppError, hasCode } from '../errors.js';
import type { VolumeRecord } from '../state/records.js';
import type { Started } from '../docker/containers.js';
import type { Log } from '../log.js';
import type { ConvergeDeps, Converger, ConvergeOptions } from './converge.js';
import { VolumeLocks } from './volume-locks.js';

export interface VolumeWorkDeps extends ConvergeDeps {
  readonly converger: Converger;
  /** Containers that have the volume mounted now, by the engine's word; once for each mount. @throws `unavailable` */
  readonly usersOf: (ctx: Ctx, volume: string) => Promise<string[]>;
  /** Starts containers whose start failed for the want of these volumes. @throws `unavailable` */
  readonly startUnmounted: (ctx: Ctx, volumes: ReadonlySet<string>) => Promise<Started>;
  /** For work that goes on after its call has been answered. */
  readonly background: Ctx;
}

/**
 * Between a mount's answer and the start of its container the engine's list does not show it yet. That holds for
 * mounts of this process only: those of an earlier one have their container by the time of the first pass, or never.
 */
const QUIET_MS = 60_000;
/**
 * The timer waits longer: a copy-up of much data has a mount, and no container that runs. What it forgets then was
 * answered to nobody.
 */
export const FORGOTTEN_MS = 600_000;

/** Of a container whose volumes work: an engine that has lost track of it never starts it again. */
const MAX_STARTS = 3;
const OF_MOUNT = 'VolumeDriver.Mount';

export class VolumeWork {
  readonly locks = new VolumeLocks();
  readonly #deps: VolumeWorkDeps;
  /** Volume name -> when it was last mounted, by the monotonic clock. */
  readonly #mountedAt = new Map<string, number>();
  /** Volume name -> why its last convergence failed. */
  readonly #problems = new Map<string, string>();

  /** Names of volumes that could not be found or mounted when they were wanted. */
  readonly #missed = new Set<string>();
  /** Until all volumes were made up for once: what an earlier process missed is known to the engine alone. */
  #isFirst = true;
  #isMakingUp = false;
  /** Container -> how often the engine could not start it, though its volumes work. */
  readonly #failures = new Map<string, number>();

  constructor(deps: VolumeWorkDeps) {
    this.#deps = deps;
  }

  /** With the volume's turn in hand. @throws what a step throws; it is kept for Status. */
  async converge(ctx: Ctx, name: string, options: ConvergeOptions = {}): Promise<void> {
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
  async settle(name: string, timeoutMs: number, options: ConvergeOptions = {}): Promise<void> {
    const ctx = withDeadline(this.#deps.background, timeoutMs);
    await this.converge(ctx, name, options).catch((err: unknown) => {
      ctx.log.warn({ volume: name, err }, 'the volume was not given back yet: it is tried again');
    });
  }

  /**
   * A mount whose answer never reached the engine (this process was killed, the engine was) is counted here and
   * nowhere else. The engine's own list of containers settles it. @throws `in_use`, `unavailable`
   */
  async dropStaleCounts(ctx: Ctx, volume: VolumeRecord): Promise<void> {
    const users = await this.#deps.usersOf(ctx, volume.name);
    if (users.length > 0) {
      const names = [...new Set(users)].join(', ');
      throw new AppError('in_use', `volume ${volume.name} is in use by ${names}: stop it first`);
    }
    if (this.#deps.counts.total(volume.id) === 0) return;
    this.#mustBeQuiet(volume);
    ctx.log.warn({ volume: volume.name }, 'mounts that no container holds any more: forgotten');
    await this.#deps.counts.clear(volume.id);
  }

  /** More is counted than so many containers hold, and none of them may be starting. */
  isBeyond({ name, id }: VolumeRecord, holders: number): boolean {
    return this.#deps.counts.total(id) > holders && this.quietMs(name) > QUIET_MS;
  }

  #mustBeQuiet({ name, id }: VolumeRecord): void {
    const quietMs = this.quietMs(name);
    if (!this.#deps.counts.hasOwn(id) || quietMs > QUIET_MS) return;
    const seconds = (ms: number) => String(Math.ceil(ms / 1000));
    throw new AppError(
      'in_use',
      `volume ${name} was mounted ${seconds(quietMs)} s ago and not unmounted since: stop the container that ` +
        `starts with it, or try again in ${seconds(QUIET_MS - quietMs)} s`,
    );
  }

  /** After a failure: an engine that starts, or that restarts a container, tries each once. */
  missed(name: string, reason: unknown): never {
    // What another host uses is not for the plugin to wait for: its user may be the same service, moved there.
    if (!hasCode(reason, 'in_use')) this.#missed.add(name);
    throw AppError.from(reason);
  }

  /**
   * Starts what the engine could not start again for the want of its volumes, once they work. Not with a volume's turn in
   * hand: the engine mounts it in answer. What fails is tried again by the next call.
   */
  async makeUp({ log, ...rest }: Ctx): Promise<void> {
    if (this.#isMakingUp) return;
    const { complete } = this.#deps.records;
    const volumes = this.#madeGood(complete);
    if (volumes.size === 0) return;
    this.#isMakingUp = true;
    // What is missed from now on is for the next time.
    for (const name of volumes) this.#missed.delete(name);
    try {
      const { started, failed } = await this.#deps.startUnmounted({ log, ...rest }, volumes);
      if (complete) this.#isFirst = false;
      for (const container of started) this.#failures.delete(container);
      if (started.length > 0) log.warn({ containers: started }, 'started what waited for its volume');
      for (const failure of failed) this.#startFailed(log, failure);
    } catch (err) {
      for (const name of volumes) this.#missed.add(name);
      log.warn({ volumes: [...volumes].slice(0, 10), err }, 'containers still wait for their volume');
    } finally {
      this.#isMakingUp = false;
    }
  }

  /** What was missed and works now. */
  #madeGood(complete: boolean): Set<string> {
    const { records } = this.#deps;
    if (this.#isFirst) for (const { name } of records.volumes()) this.#missed.add(name);
    const works = (name: string) =>
      this.problem(name) === null && (complete || records.volumes().some((volume) => volume.name === name));
    return new Set([...this.#missed].filter(works));
  }

  /** A mount that failed has been noted as missed, or is another host's; anything else is the engine's matter. */
  #startFailed(log: Log, { container, volumes, reason }: Started['failed'][number]): void {
    log.warn({ container, reason }, 'a container that waited for its volume could not be started');
    if (reason.includes(OF_MOUNT)) return;
    const failures = (this.#failures.get(container) ?? 0) + 1;
    this.#failures.set(container, failures);
    if (failures < MAX_STARTS) for (const name of volumes) this.#missed.add(name);
  }

  problem(name: string): string | null {
    return this.#problems.get(name) ?? null;
  }

  tell(name: string, problem: string): void {
    this.#problems.set(name, problem);
  }

  solved(name: string): void {
    this.#problems.delete(name);
  }

  mountBegins(name: string): void {
    this.#mountedAt.set(name, performance.now());
  }

  /** Since its last mount began; large when there was none. */
  quietMs(name: string): number {
    return performance.now() - (this.#mountedAt.get(name) ?? 0);
  }

  forget(name: string): void {
    this.#problems.delete(name);
    this.#mountedAt.delete(name);
    this.#missed.delete(name);
  }
}
