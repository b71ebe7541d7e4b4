/**
 * Whether the engine sees what the plugin mounts. An engine that was killed ends the plugin when it comes up again, drops
 * the plugin's tree of mounts, and starts it anew: the first two at once with the last (HandleExitEvent and restore in
 * moby's plugin/manager.go, 20.10 to 28). Is the tree dropped between its making and the start of the process, that
 * process mounts for itself alone: each Mount succeeds, and no container can start, for the path it was answered is not
 * there for the engine. A new process gets a tree of its own again.
 */
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import type { Engine } from '../docker/engine.js';
import { AppError } from '../errors.js';
import { mustRun } from './command.js';
import type { FileSystems } from './file-system.js';
import type { HostPaths } from './host-paths.js';
import { parseMountInfo } from './mount-info.js';

export interface SeenMounts {
  /**
   * Mounts something for a moment and lets the engine look for it. Answers once for the life of this process, which
   * is ended when the engine does not find it.
   * @throws `unavailable` while the engine does not answer, and when a new process did not help either.
   */
  look(ctx: Ctx): Promise<void>;
  readonly settled: () => boolean;
}

export interface SeenMountsDeps {
  readonly engine: Pick<Engine, 'info' | 'findsDirectory'>;
  readonly paths: HostPaths;
  readonly fileSystems: Pick<FileSystems, 'unmount'>;
  /** Ends this process; the engine starts the next. */
  readonly restart: (why: string) => void;
}

const PROPAGATED = /\/(plugins\/[0-9a-f]{64}\/propagated-mount)$/;

export function createSeenMounts({ engine, paths, fileSystems, restart }: SeenMountsDeps): SeenMounts {
  const note = paths.view(path.join(paths.run, 'unseen-mounts'));
  const probe = paths.mountpoint('probe');
  let settled = false;

  async function finds(ctx: Ctx, directory: string): Promise<boolean> {
    await fileSystems.unmount(ctx, probe);
    await mkdir(probe, { mode: 0o700 });
    try {
      await mustRun(ctx, 'mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'openebs', probe]);
      await mkdir(path.join(probe, 'seen'));
      return await engine.findsDirectory(ctx, path.join(directory, path.basename(probe), 'seen'));
    } finally {
      await fileSystems.unmount(ctx, probe);
    }
  }

  return {
    settled: () => settled,
    async look(ctx) {
      const { dataRoot } = await engine.info(ctx);
      const below = await propagatedMount(path.dirname(probe));
      const seen = below === null || (await finds(ctx, path.join(dataRoot, below)));
      if (seen) {
        settled = true;
        await rm(note, { force: true });
        return;
      }
      if (await isThere(note)) {
        throw new AppError(
          'unavailable',
          'the engine does not see what the plugin mounts, and a new start of the plugin did not change it: no ' +
            'container can start with a volume. Disable it with -f and enable it (docker plugin disable -f openebs; ' +
            'docker plugin enable openebs); if that does not help, restart the engine, with a mount namespace that is shared (systemd: no PrivateMounts, no MountFlags)',
        );
      }
      await writeFile(note, '');
      settled = true;
      restart('the engine does not see what this process mounts');
    },
  };
}

/** Below the engine's data root; null when this is not a managed plugin's tree. */
async function propagatedMount(mountRoot: string): Promise<string | null> {
  const entries = parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
  const root = entries.findLast(({ mountpoint }) => mountpoint === mountRoot)?.root;
  return PROPAGATED.exec(root ?? '')?.[1] ?? null;
}

async function isThere(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
