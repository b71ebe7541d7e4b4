import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';
import { runCommand } from './command.js';
import { isHeld } from './held-device.js';
import type { RoleContainer, RoleContainers, RoleObservation } from './role-container.js';
import type { Admission } from './target.js';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** Of losetup: device number of the file system that holds the backing file. */
const BACKING = 'BACK-MAJ:MIN';

/** The LUN to log in to, and as whom. Copies will be a list of portals; one volume has one copy today. */
export interface InitiatorSpec {
  readonly volume: string;
  readonly volumeId: string;
  readonly iqn: string;
  readonly portal: string;
  readonly sizeBytes: number;
  readonly account: Admission;
}

/**
 * The seam that turns an iSCSI LUN into a block device of this host. The LUN holds the bare file system at
 * offset 0, so any adapter can attach what another has written.
 */
export interface Initiator {
  observe(ctx: Ctx, volumeId: string): Promise<RoleObservation>;
  matches(spec: InitiatorSpec, observed: RoleObservation): boolean;
  /**
   * Answers the path of the block device, whose size is sizeBytes. Idempotent. @throws `in_use` when the device
   * of another account or portal is still mounted.
   */
  attach(ctx: Ctx, spec: InitiatorSpec): Promise<string>;
  /**
   * Idempotent. @throws `in_use` while the device is mounted in any mount namespace of the host, e.g. by a
   * container: taking it away then would turn that container's file system into errors. A container that has ended
   * holds it for a while longer: that is waited for, unless patienceMs says otherwise.
   */
  detach(ctx: Ctx, volumeId: string, patienceMs?: number): Promise<void>;
  /**
   * Takes the device away at once, whoever has it mounted: who does gets I/O errors. Idempotent. @throws
   * `unavailable` when the device is gone and only its container waits for the engine.
   */
  forfeit(ctx: Ctx, volumeId: string): Promise<void>;
  /** Ids of the volumes that have a device here, usable or not. */
  present(): Promise<string[]>;
  /** Whether the engine has its container, in whatever state. @throws `unavailable` */
  hasContainer(ctx: Ctx, volumeId: string): Promise<boolean>;
}

export interface UserspaceInitiatorOptions {
  readonly roles: RoleContainers;
  readonly image: string;
  readonly cluster: string;
  readonly drainSeconds: number;
  /** Whether anybody on the host has the device mounted. */
  readonly isHeld?: (device: string) => Promise<boolean>;
}

/** A container that ends frees its mount namespace after Docker calls it stopped: on a busy host seconds later. */
const RELEASE_PATIENCE_MS = 10_000;
const RELEASE_POLL_MS = 20;

export function initiatorName(volumeId: string): string {
  return `openebs-initiator-${volumeId}`;
}

/** qemu-storage-daemon, FUSE and a loop device in a container: needs no kernel iSCSI and no package on the host. */
export function createUserspaceInitiator(options: UserspaceInitiatorOptions): Initiator {
  const { roles } = options;

  /** Never under a mounted file system: its containers would get I/O errors, and lose what they wrote last. */
  async function removeUnused(
    ctx: Ctx,
    volumeId: string,
    { status }: RoleObservation,
    patienceMs = RELEASE_PATIENCE_MS,
  ): Promise<void> {
    if (typeof status?.device === 'string')
      await waitUnused(ctx, status.device, options.isHeld ?? isHeld, patienceMs);
    const last = await detaching(ctx, volumeId);
    await roles.remove(ctx, initiatorName(volumeId), options.drainSeconds, last);
  }

  /** A loop device whose initiator died stays bound: it goes before the note that tells of it. */
  async function detaching(ctx: Ctx, volumeId: string): Promise<() => Promise<void>> {
    const noted = await roles.readNote(initiatorName(volumeId), 'device');
    return async () => {
      if (noted !== null) await detachDead(ctx, volumeId, noted);
    };
  }

  return {
    observe: (ctx, volumeId) => roles.observe(ctx, initiatorName(volumeId)),
    matches: (spec, observed) =>
      observed.status?.state === 'ready' &&
      observed.status.generation === observed.generation &&
      isSameSession(spec, observed),
    async attach(ctx, spec) {
      const before = await roles.observe(ctx, initiatorName(spec.volumeId));
      // A session cannot change its account or portal: another epoch's initiator is replaced, not reloaded.
      const applied = before.status === null || before.status.generation === before.generation;
      if (before.present && !(applied && isSameSession(spec, before))) {
        await removeUnused(ctx, spec.volumeId, before);
      }
      const status = await roles.ensure(ctx, container(options, spec)).catch((reason: unknown) => {
        throw namedDevice(reason);
      });
      if (typeof status.device === 'string') return status.device;
      throw new AppError('internal', `${initiatorName(spec.volumeId)} is ready without a device`);
    },
    async detach(ctx, volumeId, patienceMs) {
      await removeUnused(ctx, volumeId, await roles.observe(ctx, initiatorName(volumeId)), patienceMs);
    },
    async forfeit(ctx, volumeId) {
      await roles.discard(ctx, initiatorName(volumeId), await detaching(ctx, volumeId));
    },
    async present() {
      const prefix = initiatorName('');
      return (await roles.list()).filter((it) => it.startsWith(prefix)).map((it) => it.slice(prefix.length));
    },
    hasContainer: (ctx, volumeId) => roles.hasContainer(ctx, initiatorName(volumeId)),
  };
}

/**
 * Only what the session is made of decides whether a device is the wanted one. All else in the spec (how long to
 * drain, what a later version adds) and the image itself may be of another time: it is applied at the next attach,
 * as a device that containers have mounted cannot be made anew below them.
 */
function isSameSession(spec: InitiatorSpec, { settings }: RoleObservation): boolean {
  return sessionOf(spec).every(([key, value]) => settings.get(key) === value);
}

function sessionOf({ iqn, portal, sizeBytes, account }: InitiatorSpec): [key: string, value: string][] {
  return [
    ['iqn', iqn],
    ['portal', portal],
    ['size', String(sizeBytes)],
    ['initiator', account.initiatorIqn],
    ['user', account.chapUser],
  ];
}

/** A loop device whose initiator was killed stays bound to an export that is gone. */
async function detachDead(ctx: Ctx, volumeId: string, note: string): Promise<void> {
  const [device = '', ...identity] = note.trim().split(' ');
  if (!/^\/dev\/loop\d+$/.test(device)) return;
  const ours =
    identity[0] === 'wanted'
      ? await isWanted(device, volumeId, identity[1])
      : await isStill(ctx, device, identity);
  if (!ours) return;
  const result = await runCommand(ctx, 'losetup', ['--detach', device]);
  ctx.log.info({ device, code: result.code }, 'detached a loop device whose export had died');
}

/** What the initiator noted before it attached; it was killed before it could note how. */
async function isWanted(device: string, volumeId: string, boot: string | undefined): Promise<boolean> {
  const backing = await read(path.join('/sys/block', path.basename(device), 'loop/backing_file'));
  return boot === (await read(BOOT_ID)) && (backing ?? '').includes(`/run/lun-${volumeId}`);
}

/**
 * Whether the device is bound now, and as it was when it was noted: names and backing devices are given to the next
 * volume at once, but the kernel numbers each use of a device (since Linux 5.15; without the number, its backing device
 * is the noted one, or nobody can tell it any more). What is bound so stays bound until somebody detaches it.
 */
async function isStill(
  ctx: Ctx,
  device: string,
  [backing = '', sequence, boot]: readonly string[],
): Promise<boolean> {
  const sys = path.join('/sys/block', path.basename(device));
  if ((await read(path.join(sys, 'loop/backing_file'))) === null) return false;
  if (sequence !== undefined)
    return sequence === (await read(path.join(sys, 'diskseq'))) && boot === (await read(BOOT_ID));
  const listed = await runCommand(ctx, 'losetup', ['--noheadings', '--list', '--output', BACKING, device]);
  return listed.code === 0 && ['', backing].includes(listed.stdout.trim());
}

function read(file: string): Promise<string | null> {
  return readFile(file, 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
}

/** The engine's own words for a device that the host lacks tell nobody what to do. */
function namedDevice(reason: unknown): AppError {
  const failure = AppError.from(reason);
  const device = /\/dev\/(fuse|loop-control)/.exec(failure.message);
  if (!device) return failure;
  const module = device[1] === 'fuse' ? 'fuse' : 'loop';
  const text = `this host has no ${device[0]}, which volumes need: load the kernel module ${module} (modprobe ${module})`;
  return new AppError('unavailable', text, { cause: reason });
}

async function waitUnused(
  ctx: Ctx,
  device: string,
  held: (device: string) => Promise<boolean>,
  patienceMs: number,
): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (await held(device)) {
    if (ctx.signal.aborted || performance.now() > deadline) {
      throw new AppError('in_use', `${device} is still mounted by a container: stop it to detach the volume`);
    }
    await sleep(RELEASE_POLL_MS, ctx.signal);
  }
}

function container(options: UserspaceInitiatorOptions, spec: InitiatorSpec): RoleContainer {
  const { account } = spec;
  return {
    container: {
      name: initiatorName(spec.volumeId),
      image: options.image,
      command: ['initiator'],
      labels: {
        'openebs.role': 'initiator',
        'openebs.cluster': options.cluster,
        'openebs.volume': spec.volume,
      },
      // Loop devices are made while we run: only the host's own /dev shows them.
      binds: [{ source: '/dev', target: '/dev' }],
      // mount(2) of the FUSE export, and the loop ioctls.
      capabilities: ['SYS_ADMIN'],
      devices: ['/dev/fuse', '/dev/loop-control'],
      deviceRules: ['b 7:* rwm'],
      // docker-default forbids mount(2) whatever the capabilities.
      securityOptions: ['apparmor=unconfined', 'label=disable', 'no-new-privileges'],
      stopTimeoutSeconds: options.drainSeconds + 15,
    },
    spec: {
      lines: [
        ['volume', spec.volumeId],
        ...sessionOf(spec),
        ['secret', 'secret'],
        ['drain', String(options.drainSeconds)],
      ],
      secrets: { secret: account.chapSecret },
    },
  };
}
