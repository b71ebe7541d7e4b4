import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { createBacking, deleteBacking, readBacking } from './backing.js';
import { BACKING_FILE, type HostPaths } from './host-paths.js';
import { checkPool, checkPoolHolds } from './pools.js';
import { type RoleContainer, type RoleContainers, type RoleObservation } from './role-container.js';
import { generationOf } from './role-spec.js';

/** Who may log in: one initiator name, with the account of one epoch. */
export interface Admission {
  readonly initiatorIqn: string;
  readonly chapUser: string;
  readonly chapSecret: string;
  readonly epoch: number;
}

/** One VSM: a container with a tgtd that exports one volume's file. */
export interface TargetSpec {
  readonly volume: string;
  readonly volumeId: string;
  readonly pool: string;
  readonly sizeBytes: number;
  readonly iqn: string;
  readonly address: string;
  readonly port: number;
  readonly admit: Admission | null;
}

export interface TargetObservation extends RoleObservation {
  /** Bytes of the backing file; null when there is none. */
  readonly backingBytes: number | null;
}

export interface Targets {
  observe(ctx: Ctx, pool: string, volumeId: string): Promise<TargetObservation>;
  /** Makes the sparse backing file if there is none. @throws `no_space`, `unavailable` for the pool. */
  createBacking(spec: Pick<TargetSpec, 'pool' | 'volumeId' | 'sizeBytes'>): Promise<void>;
  /** @throws `unavailable` for a pool that is missing, `no_space` for one that is full. */
  checkPool(pool: string): Promise<void>;
  /**
   * @throws `unavailable` for a pool that is missing, and for one without a single volume: what is recorded
   * in it is then on a disk that is not mounted, as far as anybody can tell.
   */
  checkPoolHolds(pool: string): Promise<void>;
  /** @throws `unavailable` or `conflict` when the file of a volume that was made is not what its record says. */
  checkBacking(spec: Pick<TargetSpec, 'pool' | 'volumeId' | 'sizeBytes'>): Promise<void>;
  /** Serves at exactly this spec, admission included. @throws `conflict` when the port is taken. */
  ensure(ctx: Ctx, spec: TargetSpec): Promise<void>;
  /** Of another image than this plugin's, and nobody is logged in: making it anew costs nobody a stall. */
  isRenewable(observed: TargetObservation): boolean;
  /** As `ensure`, in a new container of this plugin's image. */
  renew(ctx: Ctx, spec: TargetSpec): Promise<void>;
  /** True when what is observed already is this spec. */
  matches(spec: TargetSpec, observed: TargetObservation): boolean;
  remove(ctx: Ctx, volumeId: string): Promise<void>;
  /** Idempotent. Whether the disk of the pool is mounted is for the caller to know: what is not there counts as deleted. */
  deleteBacking(pool: string, volumeId: string): Promise<void>;
}

export interface TargetOptions {
  readonly roles: RoleContainers;
  readonly paths: HostPaths;
  readonly image: string;
  readonly cluster: string;
  readonly drainSeconds: number;
  /** False while the records that specs are made from may be older than what was served before. */
  readonly recordsAreCurrent: () => boolean;
}

export function targetName(volumeId: string): string {
  return `openebs-target-${volumeId}`;
}

export function createTargets(options: TargetOptions): Targets {
  const { roles, paths } = options;
  return {
    async observe(ctx, pool, volumeId) {
      const [role, backingBytes] = await Promise.all([
        roles.observe(ctx, targetName(volumeId)),
        readBacking(paths, pool, volumeId),
      ]);
      return { ...role, backingBytes };
    },
    checkPool: (pool) => checkPool(paths, pool),
    checkPoolHolds: (pool) => checkPoolHolds(paths, pool),
    checkBacking: async ({ pool, volumeId, sizeBytes }) => {
      const found = await readBacking(paths, pool, volumeId);
      if (found === sizeBytes) return;
      const file = paths.backingFile(pool, volumeId);
      const what =
        found === null ? 'is missing' : `has ${String(found)} bytes instead of ${String(sizeBytes)}`;
      throw new AppError(
        found === null ? 'unavailable' : 'conflict',
        `the volume's data ${file} ${what}: restore it. Its target serves what it has open for as long as it runs`,
      );
    },
    createBacking: (spec) => createBacking(paths, spec),
    matches: (spec, { status, generation }) => {
      const wanted = generationOf(container(options, spec).spec);
      // What it serves, and what it would serve after a restart.
      return status?.state === 'ready' && status.generation === wanted && generation === wanted;
    },
    isRenewable: ({ status }) =>
      status?.state === 'ready' && status.image !== options.image && status.initiators?.length === 0,
    async ensure(ctx, spec) {
      await refuseOlder(options, spec);
      await namingPort(roles.ensure(ctx, container(options, spec)));
    },
    async renew(ctx, spec) {
      await refuseOlder(options, spec);
      await namingPort(roles.renew(ctx, container(options, spec)));
    },
    // Nothing is logged in any more when a target goes: it needs no time to drain.
    remove: (ctx, volumeId) => roles.remove(ctx, targetName(volumeId), 0),
    deleteBacking: (pool, volumeId) => deleteBacking(paths, { pool, volumeId }),
  };
}

async function namingPort(serving: Promise<unknown>): Promise<void> {
  try {
    await serving;
  } catch (reason) {
    if (reason instanceof AppError && reason.message.includes('port taken')) {
      throw new AppError('conflict', reason.message, { cause: reason });
    }
    throw reason;
  }
}

/**
 * Epochs only grow, unless etcd was restored from a backup. A host that starts without etcd knows its records from a cache that may be older than what its
 * target serves already: going by it would let in a node from which the volume was taken over.
 */
async function refuseOlder(
  { roles, recordsAreCurrent }: TargetOptions,
  { volume, volumeId, admit }: TargetSpec,
): Promise<void> {
  if (recordsAreCurrent()) return;
  const served = await roles.readNote(targetName(volumeId), 'spec');
  const epoch = Number(/^admit \S+ \S+ secret-(\d+)$/m.exec(served ?? '')?.[1] ?? '0');
  if (!admit || admit.epoch >= epoch) return;
  throw new AppError(
    'unavailable',
    `volume ${volume} was attached anew (epoch ${String(epoch)}) since the records that this host knows ` +
      `(epoch ${String(admit.epoch)}): it waits for etcd`,
  );
}

function container(options: TargetOptions, spec: TargetSpec): RoleContainer {
  const { admit } = spec;
  const secretFile = admit ? `secret-${String(admit.epoch)}` : '';
  return {
    container: {
      name: targetName(spec.volumeId),
      image: options.image,
      command: ['target'],
      labels: {
        'openebs.role': 'target',
        'openebs.cluster': options.cluster,
        'openebs.volume': spec.volume,
      },
      binds: [{ source: options.paths.backing(spec.pool, spec.volumeId), target: '/pool' }],
      // None: tgtd opens files of its own user and listens above port 1023.
      capabilities: [],
      devices: [],
      deviceRules: [],
      securityOptions: ['label=disable', 'no-new-privileges'],
      stopTimeoutSeconds: options.drainSeconds + 5,
    },
    spec: {
      lines: [
        ['volume', spec.volumeId],
        ['iqn', spec.iqn],
        ['address', spec.address],
        ['port', String(spec.port)],
        ['size', String(spec.sizeBytes)],
        ['file', BACKING_FILE],
        ['drain', String(options.drainSeconds)],
        ...(admit ? [['admit', `${admit.initiatorIqn} ${admit.chapUser} ${secretFile}`] as const] : []),
      ],
      secrets: admit ? { [secretFile]: admit.chapSecret } : {},
    },
  };
}
