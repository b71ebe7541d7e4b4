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
import type { FileSystems, MountObservation } from '../dataplane/file-system.js';
import { findFreePort, type PortRange } from '../dataplane/free-port.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { Initiator, InitiatorSpec } from '../dataplane/initiator.js';
import type { Targets, TargetSpec } from '../dataplane/target.js';
import { AppError, hasCode } from '../errors.js';
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../state/records.js';
import type { MountCounts } from './mount-counts.js';
import { plan, type Observed, type Step, type Wanted } from './plan.js';
import type { VolumeRecords } from './volume-records.js';

export interface ConvergeDeps {
  readonly node: string;
  readonly records: VolumeRecords;
  readonly counts: MountCounts;
  readonly targets: Targets;
  readonly initiator: Initiator;
  readonly fileSystems: FileSystems;
  readonly paths: HostPaths;
  readonly ports: PortRange;
  readonly engineAnswers: (ctx: Ctx) => Promise<boolean>;
}

interface Situation {
  readonly wanted: Wanted;
  readonly observed: Observed;
  /** The initiator's device, if it has one. */
  readonly device: string | null;
}

const MAX_ROUNDS = 20;
const PORT_ATTEMPTS = 5;

export class Converger {
  readonly #deps: ConvergeDeps;
  readonly #executors: Readonly<Record<Step, (ctx: Ctx, situation: Situation) => Promise<void>>>;

  constructor(deps: ConvergeDeps) {
    this.#deps = deps;
    const { records, targets, initiator, fileSystems, paths, node } = deps;
    this.#executors = {
      createBacking: (_ctx, { wanted }) =>
        targets.createBacking({ ...wanted.volume, volumeId: wanted.volume.id }),
      serveTarget: (ctx, { wanted }) => this.#serve(ctx, wanted),
      markReady: (ctx, { wanted }) =>
        records.change(ctx, wanted.volume.name, (volume) =>
          volume.status === 'creating' ? { ...volume, status: 'ready' } : volume,
        ),
      claimAttachment: (ctx, { wanted }) => records.attach(ctx, wanted.volume.name, node),
      attachDevice: async (ctx, { wanted }) => {
        await initiator.attach(ctx, initiatorSpec(wanted));
      },
      makeFileSystem: (ctx, situation) => this.#makeFileSystem(ctx, situation),
      mountFileSystem: async (ctx, { wanted: { volume }, device }) => {
        await fileSystems.mount(ctx, {
          device: known(device, 'device'),
          mountpoint: paths.mountpoint(volume.id),
          type: volume.fs,
          options: volume.mountOptions,
          owner: volume,
        });
      },
      unmountFileSystem: (ctx, { wanted }) => fileSystems.unmount(ctx, paths.mountpoint(wanted.volume.id)),
      detachDevice: (ctx, { wanted }) => initiator.detach(ctx, wanted.volume.id),
      closeTarget: (ctx, { wanted }) => targets.ensure(ctx, targetSpec(wanted, null)),
      releaseAttachment: (ctx, { wanted }) => records.release(ctx, wanted.volume.id, node),
      stopTarget: (ctx, { wanted }) => targets.remove(ctx, wanted.volume.id),
      deleteBacking: (_ctx, { wanted }) => targets.deleteBacking(wanted.volume.pool, wanted.volume.id),
      deleteRecords: (ctx, { wanted }) => records.delete(ctx, wanted.volume.name),
    };
  }

  /** @throws whatever a step throws; nothing is undone here, the next convergence goes on from what is there. */
  async converge(ctx: Ctx, name: string): Promise<void> {
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const situation = await this.#look(ctx, name);
      const steps = situation ? plan(situation.wanted, situation.observed) : [];
      if (!situation || steps.length === 0) return;
      for (const step of steps) {
        ctx.log.debug({ volume: name, step }, 'step');
        // A step may need what the step before it has changed in the records.
        await this.#executors[step](ctx, { ...situation, wanted: this.#wanted(name) ?? situation.wanted });
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
    const situation = await this.#look(ctx, name);
    if (!situation?.observed.initiator.draining || !situation.observed.mount) return;
    ctx.log.info({ volume: name }, 'the initiator is stopping: file system unmounted');
    await this.#executors.unmountFileSystem(ctx, situation);
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

  async #look(ctx: Ctx, name: string): Promise<Situation | null> {
    const { targets, initiator, fileSystems, paths, engineAnswers } = this.#deps;
    const wanted = this.#wanted(name);
    if (!wanted) return null;
    const { volume, attachment } = wanted;
    const [target, initiatorNow, mount, engine] = await Promise.all([
      targets.observe(ctx, volume.pool, volume.id),
      initiator.observe(ctx, volume.id),
      fileSystems.observe(paths.mountpoint(volume.id)),
      // Going up asks for the engine only where a container has to be made.
      wanted.mounted || engineAnswers(ctx),
    ]);
    const device = initiatorNow.status?.device ?? null;
    const usable =
      attachment !== null && wanted.target !== null && initiator.matches(initiatorSpec(wanted), initiatorNow);
    const serving = wanted.target !== null && targets.matches(targetSpec(wanted, attachment), target);
    return {
      wanted,
      device,
      observed: {
        backing: target.backingBytes !== null,
        target: { present: target.present, serving },
        initiator: {
          present: initiatorNow.present,
          usable,
          draining: initiatorNow.status?.state === 'draining',
        },
        engine,
        mount: mount && judgeMount(mount, device, volume),
      },
    };
  }

  /** Another process may take the port between our choice and tgtd's bind, or while the host was down. */
  async #serve(ctx: Ctx, { volume, target }: Wanted): Promise<void> {
    const { records, targets, ports, node } = this.#deps;
    for (let attempt = 1; ; attempt++) {
      const wanted = known(this.#wanted(volume.name), 'volume');
      try {
        await targets.ensure(ctx, targetSpec(wanted, wanted.attachment));
        return;
      } catch (reason) {
        if (!hasCode(reason, 'conflict') || attempt === PORT_ATTEMPTS) throw reason;
        const taken = new Set(records.targetsOn(node).map((record) => record.port));
        const port = await findFreePort(known(target, 'target').address, ports, taken);
        ctx.log.warn(
          { volume: volume.name, port, err: reason },
          'port taken by another process: target moves',
        );
        await records.moveTarget(ctx, volume.id, port);
      }
    }
  }

  /** Guarded twice: the record says unformatted, and nothing is found on the device. */
  async #makeFileSystem(ctx: Ctx, { wanted: { volume }, device }: Situation): Promise<void> {
    const { records, fileSystems } = this.#deps;
    const blockDevice = known(device, 'device');
    const found = await fileSystems.probe(ctx, blockDevice);
    if (found === null) await fileSystems.make(ctx, blockDevice, volume.fs, volume.mkfsOptions);
    else if (found !== volume.fs) {
      throw new AppError(
        'conflict',
        `volume ${volume.name} should be blank, but its disk holds ${found}: not formatted. Its record and its data ` +
          'do not belong together; restore the right one',
      );
    }
    await records.change(ctx, volume.name, (record) => ({ ...record, formatted: true }));
  }
}

/** A device that is not known now may come back: what is mounted on it stays until it is known to be another. */
function judgeMount(mount: MountObservation, device: string | null, volume: VolumeRecord): Observed['mount'] {
  return {
    current: device === null || mount.device === device,
    readOnly: mount.readOnly && !volume.mountOptions.includes('ro'),
  };
}

function targetSpec({ volume, target }: Wanted, attachment: AttachmentRecord | null): TargetSpec {
  const { iqn, address, port, pool } = known(target, 'target');
  const { id: volumeId, name, sizeBytes } = volume;
  return { volume: name, volumeId, pool, sizeBytes, iqn, address, port, admit: attachment };
}

function initiatorSpec({ volume, target, attachment }: Wanted): InitiatorSpec {
  const { iqn, address, port } = known<TargetRecord>(target, 'target');
  return {
    volume: volume.name,
    volumeId: volume.id,
    iqn,
    portal: address.includes(':') ? `[${address}]:${String(port)}` : `${address}:${String(port)}`,
    sizeBytes: volume.sizeBytes,
    account: known(attachment, 'attachment'),
  };
}

function known<T>(value: T | null, what: string): T {
  if (value !== null) return value;
  throw new AppError('internal', `a step was planned without its ${what}`);
}
