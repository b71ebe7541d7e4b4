/**
 * Brings one volume on this host to what is wanted: observe, plan, do, until the plan is empty.
 *
 * INVARIANTS
 * - One convergence per volume at a time (the caller holds the volume's lock).
 * - Every step may be done again: a crash between two steps, or in one, is continued by the next convergence,
 *   whoever calls it: a driver call, the watch of the records, or the timer.
 * - Steps are tied to their executors by type: a step without one does not compile.
 */
import type { Ctx } from '../context.js';
import type { FileSystems } from '../dataplane/file-system.js';
import { findFreePort, type PortRange } from '../dataplane/free-port.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { Initiator } from '../dataplane/initiator.js';
import type { RoleObservation } from '../dataplane/role-container.js';
import type { TargetObservation, Targets } from '../dataplane/target.js';
import { AppError, hasCode } from '../errors.js';
import { failPoint } from '../lib/fail-points.js';
import type { VolumeRecord } from '../state/records.js';
import { claimAttachment, whereAway, type ClaimDeps } from './claim.js';
import { deleteData, namingPool } from './data-check.js';
import { DeadDevices } from './dead-devices.js';
import { Detachable } from './detachable.js';
import { isThere, judgeMount } from './judge.js';
import type { MountCounts } from './mount-counts.js';
import { plan, type Observed, type Step, type Wanted } from './plan.js';
import { initiatorSpec, isOfFormerEpoch, known, targetSpec } from './specs.js';

export interface ConvergeDeps extends ClaimDeps {
  readonly counts: MountCounts;
  readonly targets: Targets;
  readonly initiator: Initiator;
  readonly fileSystems: FileSystems;
  readonly paths: HostPaths;
  readonly ports: PortRange;
  /** Where this host's targets listen. */
  readonly targetAddress: string;
  readonly engineAnswers: (ctx: Ctx) => Promise<boolean>;
}

interface Situation {
  readonly options: ConvergeOptions;
  readonly wanted: Wanted;
  readonly observed: Observed;
  /** The initiator's device, if it has one. */
  readonly device: string | null;
  /** The device that our own mount is on. */
  readonly mountedOn: string | null;
}

export interface ConvergeOptions {
  /** Of the mounts that are counted, the one that this call itself made. */
  readonly newMount?: string;
  /** The caller knows that the engine is not stopping: while its API answers, the device may be taken away. */
  readonly insist?: boolean;
}

const MAX_ROUNDS = 20;
const PORT_ATTEMPTS = 5;

export class Converger {
  readonly deadDevices = new DeadDevices();
  readonly #deps: ConvergeDeps;
  readonly #detachable: Detachable;
  readonly #executors: Readonly<Record<Step, (ctx: Ctx, situation: Situation) => Promise<void>>>;

  constructor(deps: ConvergeDeps) {
    this.#deps = deps;
    this.#detachable = new Detachable(deps);
    const { records, targets, initiator, fileSystems, paths, node } = deps;
    this.#executors = {
      createBacking: async (_ctx, { wanted: { volume } }) => {
        if (records.isPoolUsed(node, volume.pool)) await targets.checkPoolHolds(volume.pool);
        await targets.createBacking({ ...volume, volumeId: volume.id });
      },
      serveTarget: (ctx, situation) => this.#serve(ctx, situation),
      renewTarget: (ctx, { wanted }) => targets.renew(ctx, targetSpec(wanted, wanted.attachment)),
      markReady: (ctx, { wanted }) =>
        records.change(ctx, wanted.volume, (volume) =>
          volume.status === 'creating' ? { ...volume, status: 'ready' } : volume,
        ),
      claimAttachment: (ctx, { wanted }) => claimAttachment(ctx, deps, wanted.volume.name),
      attachDevice: async (ctx, { wanted }) => {
        await initiator.attach(ctx, initiatorSpec(wanted)).catch((reason: unknown) => {
          throw this.#namingTarget(wanted, reason);
        });
      },
      forfeitDevice: (ctx, situation) => this.#forfeit(ctx, situation),
      makeFileSystem: (ctx, situation) => this.#makeFileSystem(ctx, situation),
      mountFileSystem: async (ctx, { wanted: { volume }, device }) => {
        const mounted = fileSystems.mount(ctx, {
          device: known(device, 'device'),
          mountpoint: paths.mountpoint(volume.id),
          type: volume.fs,
          options: volume.mountOptions,
          owner: volume,
        });
        await mounted.catch((reason: unknown) => this.deadDevices.explain(volume, reason));
      },
      unmountFileSystem: async (ctx, { wanted, observed, mountedOn }) => {
        const died = wanted.mounted && observed.mount?.current === false;
        if (died && mountedOn !== null) await this.deadDevices.note(wanted.volume.id, mountedOn);
        await fileSystems.unmount(ctx, paths.mountpoint(wanted.volume.id));
      },
      detachDevice: (ctx, { wanted }) => initiator.detach(ctx, wanted.volume.id),
      closeTarget: (ctx, situation) => this.#serve(ctx, situation, 'nobody'),
      releaseAttachment: (ctx, { wanted }) => records.release(ctx, wanted.volume.id, node),
      stopTarget: (ctx, { wanted }) => targets.remove(ctx, wanted.volume.id),
      deleteBacking: (ctx, { wanted: { volume } }) => deleteData(ctx, deps, volume),
      deleteRecords: (ctx, { wanted }) => records.delete(ctx, wanted.volume),
    };
  }

  /** @throws whatever a step throws; nothing is undone here, the next convergence goes on from what is there. */
  async converge(ctx: Ctx, name: string, options: ConvergeOptions = {}): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const situation = await this.#look(ctx, name, options);
      if (!situation) return;
      this.#refuseBroken(situation);
      const steps = plan(situation.wanted, situation.observed);
      if (steps.length === 0) return;
      for (const step of steps) {
        ctx.log.debug({ volume: name, step }, 'step');
        await failPoint(`before ${step}`);
        // A step may need what the step before it has changed in the records.
        await this.#executors[step](ctx, { ...situation, wanted: this.#wanted(name) ?? situation.wanted });
        await failPoint(`after ${step}`);
      }
    }
    throw new AppError(
      'internal',
      `volume ${name} does not settle: its state keeps changing while it is brought up`,
    );
  }

  /**
   * Gives up our own mount of a device whose initiator was asked to stop, so that it ends with its last
   * container: after an engine that was killed nobody else sends the unmount.
   */
  async yieldDevice(ctx: Ctx, name: string): Promise<void> {
    const situation = await this.#look(ctx, name, {});
    if (!situation?.observed.initiator.draining || !situation.observed.mount) return;
    ctx.log.info({ volume: name }, 'the initiator is stopping: file system unmounted');
    await this.#executors.unmountFileSystem(ctx, situation);
  }

  /** The setting has changed since the target was made. Who has it attached knows the address it had. */
  isMovedAway({ id }: VolumeRecord): boolean {
    const { node, records, targetAddress } = this.#deps;
    const target = records.target(id);
    return target?.node === node && records.attachment(id) === null && target.address !== targetAddress;
  }

  #wanted(name: string): Wanted | null {
    const { records, counts, node } = this.#deps;
    const volume = records.volume(name);
    if (!volume) return null;
    return {
      node,
      volume,
      target: records.target(volume.id),
      attachment: records.attachment(volume.id),
      mounted: counts.total(volume.id) > 0,
    };
  }

  async #look(ctx: Ctx, name: string, options: ConvergeOptions): Promise<Situation | null> {
    const { targets, initiator, fileSystems, paths } = this.#deps;
    const wanted = this.#wanted(name);
    if (!wanted) return null;
    const { volume } = wanted;
    const [target, initiatorNow, mount] = await Promise.all([
      targets.observe(ctx, volume.pool, volume.id),
      initiator.observe(ctx, volume.id),
      fileSystems.observe(paths.mountpoint(volume.id)),
    ]);
    const device = initiatorNow.status?.device ?? null;
    const { usable, serving } = this.#judge(wanted, target, initiatorNow);
    const renewable = targets.isRenewable(target) && (await this.#deps.engineAnswers(ctx));
    return {
      options,
      wanted,
      device,
      mountedOn: mount?.device ?? null,
      observed: {
        backing: isThere(volume, target),
        target: { present: target.present, serving, renewable },
        initiator: {
          present: initiatorNow.present,
          usable,
          draining: initiatorNow.status?.state === 'draining',
          lost: isOfFormerEpoch(volume, initiatorNow),
        },
        detachable: await this.#detachable.is(ctx, wanted, initiatorNow, options.insist),
        mount: mount && judgeMount(mount, device, volume),
      },
    };
  }

  #judge(wanted: Wanted, target: TargetObservation, initiator: RoleObservation) {
    if (wanted.target === null) return { usable: false, serving: false };
    const matches = this.#deps.targets.matches(targetSpec(wanted, wanted.attachment), target);
    const serving = matches && !this.isMovedAway(wanted.volume);
    if (wanted.attachment === null) return { usable: false, serving };
    return { usable: this.#deps.initiator.matches(initiatorSpec(wanted), initiator), serving };
  }

  /** In a network the words of the initiator alone do not say which host to look at. */
  #namingTarget({ volume, target }: Wanted, reason: unknown): AppError {
    const failure = AppError.from(reason);
    const away = target && whereAway(this.#deps, target);
    if (!away) return failure;
    const text = `volume ${volume.name} cannot be reached: ${away} (${failure.message})`;
    return new AppError(failure.code, text, { cause: reason });
  }

  /** Containers that still have it mounted get errors until they end; their unmounts find nothing to give back. */
  async #forfeit(ctx: Ctx, { wanted: { volume }, device, options }: Situation): Promise<void> {
    ctx.log.warn(
      { volume: volume.name },
      'another node has taken the volume over: its device here is given up',
    );
    if (device !== null)
      await this.deadDevices.note(volume.id, device, 'was given up as another node took over');
    await this.#deps.counts.clear(volume.id, options.newMount);
    await this.#deps.initiator.forfeit(ctx, volume.id);
  }

  /**
   * Holders of a file system that the kernel made read-only, or shut down, keep it so: no new mount of its device can cure
   * it beside them. What another node has taken over is given up all the same.
   */
  #refuseBroken({ wanted: { volume }, observed, options: { newMount } }: Situation): void {
    if (observed.mount?.readOnly !== true || observed.initiator.lost) return;
    if (this.#deps.counts.total(volume.id) <= (newMount === undefined ? 0 : 1)) return;
    throw new AppError(
      'unavailable',
      `the file system of volume ${volume.name} went read-only, or shut down, after an I/O error (is its pool ` +
        `${volume.pool} full?): stop all containers that use it; the next start checks it and mounts it anew`,
    );
  }

  /** Another process may take the port between our choice and tgtd's bind, or while the host was down. */
  async #serve(
    ctx: Ctx,
    { wanted: { volume }, observed }: Situation,
    admit: 'attached' | 'nobody' = 'attached',
  ): Promise<void> {
    const { records, targets, ports, node } = this.#deps;
    for (let attempt = 1; ; attempt++) {
      if (this.isMovedAway(volume)) {
        await records.moveTarget(ctx, volume.id, { address: this.#deps.targetAddress });
      }
      const wanted = known(this.#wanted(volume.name), 'volume');
      try {
        await targets.ensure(ctx, targetSpec(wanted, admit === 'nobody' ? null : wanted.attachment));
        return;
      } catch (reason) {
        // A session that is mounted knows the port it has; it goes on when the port is free again.
        const movable = hasCode(reason, 'conflict') && !observed.mount && attempt < PORT_ATTEMPTS;
        if (!movable) throw reason;
        const taken = new Set(records.targetsOn(node).map((record) => record.port));
        const port = await findFreePort(known(wanted.target, 'target').address, ports, taken);
        ctx.log.warn(
          { volume: volume.name, port, err: reason },
          'port taken by another process: target moves',
        );
        await records.moveTarget(ctx, volume.id, { port });
      }
    }
  }

  /** Guarded twice: the record says unformatted, and nothing is found on the device. */
  async #makeFileSystem(ctx: Ctx, { wanted: { volume }, device }: Situation): Promise<void> {
    const { records, fileSystems } = this.#deps;
    const blockDevice = known(device, 'device');
    const found = await fileSystems.probe(ctx, blockDevice);
    if (found === null) {
      const making = fileSystems.make(ctx, blockDevice, volume.fs, volume.mkfsOptions);
      await making.catch((reason: unknown) => namingPool(this.#deps, volume, reason));
    } else if (found !== volume.fs) {
      throw new AppError(
        'conflict',
        `volume ${volume.name} should be blank, but its disk holds ${found}: not formatted. Its record and its data ` +
          'do not belong together; restore the right one',
      );
    }
    await records.change(ctx, volume, (record) => ({ ...record, formatted: true }));
  }
}
