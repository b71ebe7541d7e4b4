/** Backups on this host: made by request and by time, the newest kept. */
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import type { HostPaths } from '../../dataplane/host-paths.js';
import { AppError } from '../../errors.js';
import { writeFileAtomic } from '../../lib/atomic-file.js';
import { sleep } from '../../lib/sleep.js';
import { keys } from '../../state/keys.js';
import type { Snapshot, State } from '../../state/state.js';
import { type Backup, type BackupHead, decodeBackup, encodeBackup } from './format.js';

export interface BackupFile extends Pick<BackupHead, 'cluster' | 'createdAt' | 'keys' | 'revision'> {
  /** Path on the host. */
  readonly file: string;
  readonly bytes: number;
}

export interface Backups {
  make(ctx: Ctx): Promise<BackupFile>;
  /** The newest first; what cannot be read is left out. */
  list(): Promise<BackupFile[]>;
  /** Makes one as often as is set, until the signal aborts. */
  run(ctx: Ctx): Promise<void>;
}

export interface BackupsDeps {
  readonly paths: HostPaths;
  readonly state: Pick<State, 'range'>;
  /** 0: only by request. */
  readonly everyMs: number;
  /** How many are kept. */
  readonly keep: number;
  /** Whether this host has data of the cluster to keep: a spare has none. */
  readonly isKeeper: () => Promise<boolean>;
}

export const BACKUP_SUFFIX = '.openebs-backup.gz';
const MAKE_TIMEOUT_MS = 120_000;
const LOOK_MS = 60_000;
const FIRST_MS = 30_000;

export function createBackups(deps: BackupsDeps): Backups {
  const { paths, state, keep, everyMs } = deps;
  const list = () => listBackups(paths);
  async function make(ctx: Ctx): Promise<BackupFile> {
    const made = await writeBackup(paths, await state.range(withDeadline(ctx, MAKE_TIMEOUT_MS), keys.root));
    for (const { file } of (await list()).slice(keep)) await rm(paths.view(file), { force: true });
    return made;
  }
  return {
    make,
    list,
    async run(ctx) {
      if (everyMs === 0) return;
      await sleep(FIRST_MS, ctx.signal);
      while (!ctx.signal.aborted) {
        // A clock that was set back makes the newest one of the future: then it counts as due.
        const [newest] = await list().catch(() => []);
        const ageMs = newest ? Math.abs(Date.now() - Date.parse(newest.createdAt)) : Infinity;
        if (ageMs >= everyMs && (await deps.isKeeper()))
          await make(ctx).catch((err: unknown) => {
            if (!ctx.signal.aborted) ctx.log.warn({ err }, 'no backup could be made');
          });
        await sleep(Math.min(LOOK_MS, everyMs), ctx.signal);
      }
    },
  };
}

/** @param name of the file; by default what it holds and when */
export async function writeBackup(paths: HostPaths, snapshot: Snapshot, name?: string): Promise<BackupFile> {
  await mkdir(paths.view(paths.backups), { recursive: true, mode: 0o700 });
  const now = new Date();
  const content = await encodeBackup(snapshot, now);
  const stamp = now.toISOString().replace(/[:.]/g, '-');
  const file = path.join(paths.backups, name ?? `${stamp}-r${String(snapshot.revision)}${BACKUP_SUFFIX}`);
  await writeFileAtomic(paths.view(file), content);
  return fileOf(file, content.length, (await decodeBackup(file, content)).head);
}

/** @throws AppError `not_found`, `invalid_argument` */
export async function readBackup(paths: HostPaths, file: string): Promise<Backup> {
  const inside = file.startsWith('/var/lib/') && !file.split('/').includes('..');
  if (!inside)
    throw new AppError('invalid_argument', `${file}: the plugin sees only files of the host below /var/lib`);
  const content = await readFile(paths.view(file)).catch((cause: unknown) => {
    throw new AppError('not_found', `${file} cannot be read: ${AppError.from(cause).message}`, { cause });
  });
  return decodeBackup(file, content);
}

async function listBackups(paths: HostPaths): Promise<BackupFile[]> {
  const directory = paths.view(paths.backups);
  const names = (await readdir(directory).catch(() => [])).filter((name) => name.endsWith(BACKUP_SUFFIX));
  const found = await Promise.all(
    names.map(async (name) => {
      const file = path.join(paths.backups, name);
      try {
        const { head } = await readBackup(paths, file);
        return [fileOf(file, (await stat(paths.view(file))).size, head)];
      } catch {
        return [];
      }
    }),
  );
  return found.flat().toSorted((one, other) => other.createdAt.localeCompare(one.createdAt));
}

function fileOf(
  file: string,
  bytes: number,
  { cluster, createdAt, keys: count, revision }: BackupHead,
): BackupFile {
  return { file, bytes, cluster, createdAt, keys: count, revision };
}
