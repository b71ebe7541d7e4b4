import { mkdir, open, rm, stat, statfs } from 'node:fs/promises';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { BACKING_FILE, type HostPaths } from './host-paths.js';
import {
  generationOf,
  type RoleContainer,
  type RoleContainers,
  type RoleObservation,
} from './role-container.js';

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
  /** Makes the sparse backing file if there is none. @throws `no_space`, `not_found` for the pool. */
  createBacking(spec: Pick<TargetSpec, 'pool' | 'volumeId' | 'sizeBytes'>): Promise<void>;
  /** @throws `not_found` for a pool that is missing, `no_space` for one that is full. */
  checkPool(pool: string): Promise<void>;
  /** Serves at exactly this spec, admission included. @throws `conflict` when the port is taken. */
  ensure(ctx: Ctx, spec: TargetSpec): Promise<void>;
  /** True when what is observed already is this spec. */
  matches(spec: TargetSpec, observed: TargetObservation): boolean;
  remove(ctx: Ctx, volumeId: string): Promise<void>;
  deleteBacking(pool: string, volumeId: string): Promise<void>;
}

export interface TargetOptions {
  readonly roles: RoleContainers;
  readonly paths: HostPaths;
  readonly image: string;
  readonly cluster: string;
  readonly drainSeconds: number;
}

/** Below this a file system could not even be made. */
const LEAST_FREE_BYTES = 64 * 2 ** 20;

export function targetName(volumeId: string): string {
  return `openebs-target-${volumeId}`;
}

export function createTargets(options: TargetOptions): Targets {
  const { roles, paths } = options;
  return {
    async observe(ctx, pool, volumeId) {
      const [role, backingBytes] = await Promise.all([
        roles.observe(ctx, targetName(volumeId)),
        sizeOf(paths.view(paths.backingFile(pool, volumeId))),
      ]);
      return { ...role, backingBytes };
    },
    checkPool: (pool) => checkPool(paths, pool),
    createBacking: (spec) => createBacking(paths, spec),
    matches: (spec, observed) =>
      observed.status?.state === 'ready' &&
      observed.status.generation === generationOf(container(options, spec).spec),
    async ensure(ctx, spec) {
      try {
        await roles.ensure(ctx, container(options, spec));
      } catch (reason) {
        if (reason instanceof AppError && reason.message.includes('port taken')) {
          throw new AppError('conflict', reason.message, { cause: reason });
        }
        throw reason;
      }
    },
    // Nothing is logged in any more when a target goes: it needs no time to drain.
    remove: (ctx, volumeId) => roles.remove(ctx, targetName(volumeId), 0),
    deleteBacking: (pool, volumeId) =>
      rm(paths.view(paths.backing(pool, volumeId)), { recursive: true, force: true }),
  };
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

async function createBacking(
  paths: HostPaths,
  { pool, volumeId, sizeBytes }: Pick<TargetSpec, 'pool' | 'volumeId' | 'sizeBytes'>,
): Promise<void> {
  await checkPool(paths, pool);
  await mkdir(paths.view(paths.backing(pool, volumeId)), { recursive: true, mode: 0o700 });
  const handle = await open(paths.view(paths.backingFile(pool, volumeId)), 'a', 0o600);
  try {
    await handle.truncate(sizeBytes);
    await handle.sync();
  } catch (reason) {
    if ((reason as NodeJS.ErrnoException).code === 'EFBIG') {
      throw new AppError(
        'invalid_argument',
        `pool ${pool} cannot hold one file of ${String(sizeBytes)} bytes: its file system's limit is lower`,
      );
    }
    throw poolError(reason, pool);
  } finally {
    await handle.close();
  }
}

/** A pool is never made here: a directory that is missing may be a disk that is not mounted. */
async function checkPool(paths: HostPaths, pool: string): Promise<void> {
  const directory = paths.pool(pool);
  const space = await statfs(paths.view(directory)).catch((reason: unknown) => {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new AppError(
        'not_found',
        `pool ${pool} does not exist: ${directory} is missing on this host; make it, or mount its disk there`,
      );
    }
    throw poolError(reason, pool);
  });
  if (space.bavail * space.bsize < LEAST_FREE_BYTES) {
    throw new AppError(
      'no_space',
      `pool ${pool} is full: ${directory} has less than 64 MiB free; free some space or choose another pool`,
    );
  }
}

function poolError(reason: unknown, pool: string): AppError {
  const full = ['ENOSPC', 'EDQUOT'].includes((reason as NodeJS.ErrnoException).code ?? '');
  return full
    ? new AppError('no_space', `pool ${pool} is full`, { cause: reason })
    : AppError.from(reason, 'unavailable', `pool ${pool} cannot be used`);
}

async function sizeOf(file: string): Promise<number | null> {
  try {
    return (await stat(file)).size;
  } catch (reason) {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw AppError.from(reason, 'unavailable', `cannot look at ${file}`);
  }
}
