/**
 * How often each mount id holds each volume on this host.
 *
 * Docker sends the same id twice at once (`docker cp` into a running container) and expects two unmounts, so a
 * set of ids will not do; and it sends an id again after it was killed, without an unmount between, so a count
 * that outlives the boot never returns to zero. Hence: a count per (volume, id), in a directory that dies with
 * the boot.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { writeFileAtomic } from '../lib/atomic-file.js';
import type { Log } from '../log.js';

const shape = z.object({
  bootId: z.string(),
  volumes: z.record(z.string(), z.record(z.string(), z.int().positive())),
});

export interface MountCounts {
  /** What cannot be written is not counted: the caller fails, and nobody would ever drop it. */
  add(volumeId: string, mountId: string): Promise<void>;
  /** Answers false when the id did not hold the volume. */
  drop(volumeId: string, mountId: string): Promise<boolean>;
  /** Forgets all ids of the volume. */
  clear(volumeId: string): Promise<void>;
  total(volumeId: string): number;
  volumes(): string[];
}

/** Starts empty when the file is of another boot, missing or damaged. */
export async function loadMountCounts(file: string, bootId: string, log: Log): Promise<MountCounts> {
  const volumes = await read(file, bootId, log);
  let writing = Promise.resolve();

  function save(): Promise<void> {
    const text = JSON.stringify({
      bootId,
      volumes: Object.fromEntries([...volumes].map(([id, mounts]) => [id, Object.fromEntries(mounts)])),
    });
    writing = writing.catch(() => undefined).then(() => writeFileAtomic(file, text));
    return writing;
  }

  function take(volumeId: string, mountId: string): boolean {
    const mounts = volumes.get(volumeId);
    const count = mounts?.get(mountId);
    if (!mounts || count === undefined) return false;
    if (count > 1) mounts.set(mountId, count - 1);
    else mounts.delete(mountId);
    if (mounts.size === 0) volumes.delete(volumeId);
    return true;
  }

  return {
    async add(volumeId, mountId) {
      const mounts = volumes.get(volumeId) ?? new Map<string, number>();
      volumes.set(volumeId, mounts.set(mountId, (mounts.get(mountId) ?? 0) + 1));
      try {
        await save();
      } catch (reason) {
        take(volumeId, mountId);
        throw AppError.from(reason, 'unavailable', `cannot note the mount in ${file}`);
      }
    },
    async drop(volumeId, mountId) {
      if (!take(volumeId, mountId)) return false;
      // It is over, noted or not: who starts from an older file asks the engine who is left (service.ts).
      await save().catch((err: unknown) => {
        log.warn({ err, file }, 'an unmount could not be noted');
      });
      return true;
    },
    async clear(volumeId) {
      if (volumes.delete(volumeId)) await save();
    },
    total: (volumeId) => [...(volumes.get(volumeId)?.values() ?? [])].reduce((sum, count) => sum + count, 0),
    volumes: () => [...volumes.keys()],
  };
}

async function read(file: string, bootId: string, log: Log): Promise<Map<string, Map<string, number>>> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  try {
    const stored = shape.parse(JSON.parse(await readFile(file, 'utf8')));
    if (stored.bootId !== bootId) return new Map();
    return new Map(
      Object.entries(stored.volumes).map(([id, mounts]) => [id, new Map(Object.entries(mounts))]),
    );
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ENOENT') {
      log.warn({ err, file }, 'mount counts are damaged: starting from what is mounted');
      await rm(file, { force: true });
    }
    return new Map();
  }
}
