/**
 * How often each mount id holds each volume on this host.
 *
 * Docker sends the same id twice at once (`docker cp` into a running container) and expects two unmounts, so a
 * set of ids will not do; and it sends an id again after it was killed, without an unmount between, so a count
 * that outlives the boot never returns to zero. Hence: a count per (volume, id), in a directory that dies with
 * the boot; and what is counted is compared with the engine's containers (upkeep.ts), for what was counted and is
 * gone, and for who holds a volume and is not counted.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../errors.js';
import { writeFileAtomic } from '../lib/atomic-file.js';
import { failPoint } from '../lib/fail-points.js';
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
  /** Forgets all ids of the volume, but for one mount of `keep`. */
  clear(volumeId: string, keep?: string): Promise<void>;
  /**
   * Forgets what earlier processes counted: of the ids that this one has counted too, and of all others once it has itself
   * counted as many mounts as containers hold.
   */
  clearEarlier(volumeId: string, holders: number): Promise<void>;
  /**
   * So many containers hold the volume. Those beyond what is counted are counted too, until the next call says
   * otherwise: each gives way to an unmount of an id that is not known.
   */
  adopt(volumeId: string, holders: number): void;
  total(volumeId: string): number;
  /** Whether a mount of this process is among those counted; others are of an earlier one. */
  hasOwn(volumeId: string): boolean;
  volumes(): string[];
}

interface Count {
  total: number;
  /** Of the total, those of this process. */
  own: number;
}
type Mounts = Map<string, Count>;

/** Starts empty when the file is of another boot, missing or damaged. */
export async function loadMountCounts(file: string, bootId: string, log: Log): Promise<MountCounts> {
  const volumes = await read(file, bootId, log);
  const tally = createTally(volumes);
  let writing = Promise.resolve();

  async function write(text: string): Promise<void> {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    await writeFileAtomic(file, text);
  }

  function save(): Promise<void> {
    const counted = Object.fromEntries([...volumes].map(([id, mounts]) => [id, totals(mounts)]));
    const text = JSON.stringify({ bootId, volumes: counted });
    writing = writing.catch(() => undefined).then(() => write(text));
    return writing;
  }

  return {
    ...tally,
    async add(volumeId, mountId) {
      tally.put(volumeId, mountId);
      try {
        await failPoint('before count add');
        await save();
        await failPoint('after count add');
      } catch (reason) {
        tally.take(volumeId, mountId);
        throw AppError.from(reason, 'unavailable', `cannot note the mount in ${file}`);
      }
    },
    async drop(volumeId, mountId) {
      if (!tally.take(volumeId, mountId)) return tally.takeAdopted(volumeId);
      // It is over, noted or not: who starts from an older file asks the engine who is left (upkeep.ts).
      await failPoint('before count drop');
      await save().catch((err: unknown) => {
        log.warn({ err, file }, 'an unmount could not be noted');
      });
      await failPoint('after count drop');
      return true;
    },
    async clear(volumeId, keep) {
      const forgotten = volumes.delete(volumeId);
      if (keep !== undefined) tally.put(volumeId, keep);
      tally.adopt(volumeId, 0);
      if (forgotten) await save();
    },
    async clearEarlier(volumeId, holders) {
      if (tally.dropEarlier(volumeId, holders)) await save();
    },
  };
}

function createTally(volumes: Map<string, Mounts>) {
  /** Volume id -> holders that were found, not counted. Found again after a start, so they are not saved. */
  const adopted = new Map<string, number>();
  const countsOf = (volumeId: string): Count[] => [...(volumes.get(volumeId)?.values() ?? [])];
  const counted = (volumeId: string) => countsOf(volumeId).reduce((sum, { total }) => sum + total, 0);
  const found = (volumeId: string) => adopted.get(volumeId) ?? 0;

  function adopt(volumeId: string, holders: number): void {
    const more = holders - counted(volumeId);
    if (more > 0) adopted.set(volumeId, more);
    else adopted.delete(volumeId);
  }

  return {
    adopt,
    put(volumeId: string, mountId: string): void {
      const mounts: Mounts = volumes.get(volumeId) ?? new Map<string, Count>();
      const { total, own } = mounts.get(mountId) ?? { total: 0, own: 0 };
      volumes.set(volumeId, mounts.set(mountId, { total: total + 1, own: own + 1 }));
    },
    take(volumeId: string, mountId: string): boolean {
      const mounts = volumes.get(volumeId);
      const count = mounts?.get(mountId);
      if (!mounts || !count) return false;
      count.total -= 1;
      count.own = Math.max(count.own - 1, 0);
      if (count.total === 0) mounts.delete(mountId);
      if (mounts.size === 0) volumes.delete(volumeId);
      return true;
    },
    dropEarlier(volumeId: string, holders: number): boolean {
      const mounts: Mounts = volumes.get(volumeId) ?? new Map<string, Count>();
      const owned = countsOf(volumeId).reduce((sum, { own }) => sum + own, 0);
      const earlier = [...mounts].filter(
        ([, { total, own }]) => total > own && (own > 0 || (owned > 0 && owned >= holders)),
      );
      for (const [id, count] of earlier) {
        count.total = count.own;
        if (count.total === 0) mounts.delete(id);
      }
      return earlier.length > 0;
    },
    takeAdopted(volumeId: string): boolean {
      const holders = found(volumeId);
      adopt(volumeId, counted(volumeId) + holders - 1);
      return holders > 0;
    },
    total: (volumeId: string) => counted(volumeId) + found(volumeId),
    hasOwn: (volumeId: string) => countsOf(volumeId).some(({ own }) => own > 0),
    volumes: () => [...new Set([...volumes.keys(), ...adopted.keys()])],
  };
}

function totals(mounts: Mounts): Record<string, number> {
  return Object.fromEntries([...mounts].map(([id, { total }]) => [id, total]));
}

async function read(file: string, bootId: string, log: Log): Promise<Map<string, Mounts>> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  try {
    const stored = shape.parse(JSON.parse(await readFile(file, 'utf8')));
    if (stored.bootId !== bootId) return new Map();
    const earlier = (mounts: Record<string, number>): Mounts =>
      new Map(Object.entries(mounts).map(([id, total]) => [id, { total, own: 0 }]));
    return new Map(Object.entries(stored.volumes).map(([id, mounts]) => [id, earlier(mounts)]));
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ENOENT') {
      log.warn({ err, file }, 'mount counts are damaged: starting from what is mounted');
      await rm(file, { force: true });
    }
    return new Map();
  }
}
