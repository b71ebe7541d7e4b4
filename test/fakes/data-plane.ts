/**
 * A host's data plane in memory: files, target and initiator containers, file systems. It outlives the service
 * that uses it, as the real one does, and refuses what the real one would refuse. `fail` makes the n-th effect
 * throw before or after it is done, as a crash or an error would.
 */
import type { FileSystems, FileSystemType } from '../../src/dataplane/file-system.js';
import type { Initiator, InitiatorSpec } from '../../src/dataplane/initiator.js';
import type { RoleObservation } from '../../src/dataplane/role-container.js';
import type { TargetObservation, Targets, TargetSpec } from '../../src/dataplane/target.js';
import { AppError } from '../../src/errors.js';

export interface FakeDataPlane {
  readonly targets: Targets;
  readonly initiator: Initiator;
  readonly fileSystems: FileSystems;
  readonly world: World;
  /** Effects in order, e.g. `serve v1`. */
  readonly effects: string[];
  /** The effect with this number (from 0, counted from now) throws: before it is done, or after. */
  failAt(effect: number, when: 'before' | 'after', reason?: AppError): void;
  /** The process dies at this effect: it and all that follow throw, until `revive`. */
  dieAt(effect: number, when: 'before' | 'after', onDeath: () => void): void;
  revive(): void;
}

export interface World {
  /** volume id -> bytes */
  readonly backing: Map<string, number>;
  readonly targets: Map<string, TargetSpec>;
  readonly initiators: Map<string, InitiatorSpec & { device: string }>;
  /** mountpoint -> device */
  readonly mounts: Map<string, string>;
  /** volume id -> file system on its disk */
  readonly formatted: Map<string, FileSystemType>;
  /** Devices that a container has mounted itself. */
  readonly heldDevices: Set<string>;
  readonly takenPorts: Set<number>;
  /** The pool's disk is not mounted. */
  emptyPool: boolean;
  /** Devices whose file system the kernel made read-only after an I/O error. */
  readonly readOnlyDevices: Set<string>;
  /** Mountpoints whose mount was cut off before the directory to hand out was made. */
  readonly unprepared: Set<string>;
  /** Volume ids whose initiator was asked to stop and waits for its last user. */
  readonly draining: Set<string>;
  /** Volume ids whose initiator looks for its target in vain. */
  readonly starting: Set<string>;
  /** Volume ids whose initiator does not answer, as it is paused. */
  readonly silent: Set<string>;
  /** Volume ids whose initiator was removed by its container's name. */
  readonly removedByHand: Set<string>;
}

const same = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);

/** `hosting`: the world of the host whose targets and disks this one attaches. */
export function createFakeDataPlane(hosting?: World): FakeDataPlane {
  const world: World = {
    backing: hosting?.backing ?? new Map<never, never>(),
    targets: hosting?.targets ?? new Map<never, never>(),
    initiators: new Map(),
    mounts: new Map(),
    formatted: hosting?.formatted ?? new Map<never, never>(),
    heldDevices: new Set(),
    readOnlyDevices: new Set(),
    takenPorts: new Set(),
    emptyPool: false,
    draining: new Set(),
    starting: new Set(),
    silent: new Set(),
    removedByHand: new Set(),
    unprepared: new Set(),
  };
  const effects: string[] = [];
  let failure: { left: number; when: 'before' | 'after'; reason: AppError } | null = null;
  let onDeath: (() => void) | null = null;
  let dead = false;
  let devices = 0;

  async function effect(name: string, change: () => void): Promise<void> {
    await Promise.resolve();
    if (dead) throw new AppError('internal', 'this process is dead');
    const fails = failure?.left === 0 ? failure : null;
    if (failure) failure.left -= 1;
    if (fails && onDeath) {
      dead = true;
      onDeath();
    }
    if (fails?.when === 'before') throw fails.reason;
    change();
    effects.push(name);
    if (fails) throw fails.reason;
  }

  const observation = (
    present: boolean,
    ready: boolean,
    device?: string,
    user?: string,
  ): RoleObservation => ({
    present,
    generation: present ? 'g' : null,
    settings: new Map(user === undefined ? [] : [['user', user]]),
    status: ready
      ? {
          role: 'fake',
          state: 'ready',
          error: '',
          generation: 'g',
          ...(device === undefined ? {} : { device }),
        }
      : null,
  });

  const targets: Targets = {
    observe: (_ctx, _pool, volumeId): Promise<TargetObservation> => {
      const present = world.targets.has(volumeId);
      return Promise.resolve({
        ...observation(present, present),
        backingBytes: world.backing.get(volumeId) ?? null,
        // What the real observation says by its generation.
        fakeSpec: world.targets.get(volumeId),
      } as TargetObservation);
    },
    matches: (spec, observed) => same(spec, (observed as { fakeSpec?: TargetSpec }).fakeSpec),
    checkPool: () => Promise.resolve(),
    checkPoolHolds: () =>
      world.emptyPool
        ? Promise.reject(
            new AppError('unavailable', 'pool default is empty, although volumes are recorded in it'),
          )
        : Promise.resolve(),
    checkBacking: () => Promise.resolve(),
    isRenewable: () => false,
    renew: () => Promise.reject(new AppError('internal', 'nothing is renewable here')),
    createBacking: ({ volumeId, sizeBytes }) =>
      effect(`createBacking ${volumeId}`, () => world.backing.set(volumeId, sizeBytes)),
    ensure: (_ctx, spec) => {
      if (world.takenPorts.has(spec.port)) {
        return Promise.reject(new AppError('conflict', `port taken: cannot listen on ${String(spec.port)}`));
      }
      const bytes = world.backing.get(spec.volumeId);
      if (bytes !== spec.sizeBytes) {
        const what = bytes === undefined ? 'is missing from its pool' : `has ${String(bytes)} bytes`;
        return Promise.reject(new AppError('unavailable', `the volume's data disk.img ${what}`));
      }
      return effect(`serve ${spec.volumeId}`, () => world.targets.set(spec.volumeId, spec));
    },
    remove: (_ctx, volumeId) => effect(`stopTarget ${volumeId}`, () => world.targets.delete(volumeId)),
    deleteBacking: (_pool, volumeId) =>
      effect(`deleteBacking ${volumeId}`, () => {
        world.backing.delete(volumeId);
        world.formatted.delete(volumeId);
      }),
  };

  const initiator: Initiator = {
    observe: (_ctx, volumeId) => {
      const attached = world.initiators.get(volumeId);
      const drains = world.draining.has(volumeId);
      const there = attached !== undefined;
      const answers = there && !world.silent.has(volumeId) && !world.removedByHand.has(volumeId);
      const observed = observation(there, answers, attached?.device, attached?.account.chapUser);
      const state = world.starting.has(volumeId) ? 'starting' : drains ? 'draining' : 'ready';
      const status = observed.status && { ...observed.status, state };
      return Promise.resolve({
        ...observed,
        status,
        fakeSpec: drains ? undefined : attached,
      } as RoleObservation);
    },
    matches: (spec, observed) => {
      const attached = (observed as { fakeSpec?: InitiatorSpec & { device: string } }).fakeSpec;
      return attached !== undefined && same(spec, { ...attached, device: undefined });
    },
    attach: async (_ctx, spec) => {
      const admitted = world.targets.get(spec.volumeId)?.admit;
      if (
        admitted?.chapUser !== spec.account.chapUser ||
        admitted.initiatorIqn !== spec.account.initiatorIqn
      ) {
        throw new AppError('unavailable', 'the target admits somebody else');
      }
      const device = `/dev/loop${String(devices++)}`;
      await effect(`attach ${spec.volumeId}`, () => world.initiators.set(spec.volumeId, { ...spec, device }));
      return device;
    },
    detach: (_ctx, volumeId) => {
      const device = world.initiators.get(volumeId)?.device ?? '';
      if ([...world.mounts.values()].includes(device) || world.heldDevices.has(device)) {
        return Promise.reject(new AppError('in_use', `${device} is still mounted by a container`));
      }
      return effect(`detach ${volumeId}`, () => world.initiators.delete(volumeId));
    },
    forfeit: (_ctx, volumeId) => effect(`forfeit ${volumeId}`, () => world.initiators.delete(volumeId)),
    present: () => Promise.resolve([...world.initiators.keys()]),
    hasContainer: (_ctx, volumeId) => Promise.resolve(!world.removedByHand.has(volumeId)),
  };

  const volumeOf = (device: string): string => {
    const found = [...world.initiators].find(([, attached]) => attached.device === device);
    if (!found) throw new AppError('internal', `${device} is no device`);
    return found[0];
  };

  const fileSystems: FileSystems = {
    probe: (_ctx, device) => Promise.resolve(world.formatted.get(volumeOf(device)) ?? null),
    make: (_ctx, device, type) => {
      const id = volumeOf(device);
      if (world.formatted.has(id))
        return Promise.reject(new AppError('internal', 'mkfs on a disk with data'));
      return effect(`mkfs ${id}`, () => world.formatted.set(id, type));
    },
    mount: async (_ctx, { device, mountpoint, type }) => {
      if (world.formatted.get(volumeOf(device)) !== type) throw new AppError('internal', 'wrong file system');
      await effect(`mount ${mountpoint}`, () => world.mounts.set(mountpoint, device));
      return `${mountpoint}/data`;
    },
    unmount: (_ctx, mountpoint) =>
      effect(`unmount ${mountpoint}`, () => {
        world.mounts.delete(mountpoint);
        world.unprepared.delete(mountpoint);
      }),
    observe: (mountpoint) => {
      const device = world.mounts.get(mountpoint);
      return Promise.resolve(
        device === undefined
          ? null
          : {
              device,
              readOnly: world.readOnlyDevices.has(device),
              prepared: !world.unprepared.has(mountpoint),
            },
      );
    },
  };

  return {
    targets,
    initiator,
    fileSystems,
    world,
    effects,
    failAt(effectNumber, when, reason = new AppError('internal', 'injected failure')) {
      failure = { left: effectNumber, when, reason };
    },
    dieAt(effectNumber, when, callback) {
      failure = { left: effectNumber, when, reason: new AppError('internal', 'killed') };
      onDeath = callback;
    },
    revive() {
      failure = onDeath = null;
      dead = false;
    },
  };
}
