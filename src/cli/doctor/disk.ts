import { mkdtemp, open, rm, stat, statfs } from 'node:fs/promises';
import path from 'node:path';
import { count, size } from '../table.js';
import { type Check, fail, ok, warn } from './check.js';

const STATE = '/var/lib/openebs';
/** etcd makes its log in files of this size, and ends when it finds no room for one. */
const LEAST_FREE_BYTES = 64 * 2 ** 20;
const SMALL_FREE_BYTES = 2 ** 30;
const TMPFS = 0x01021994;

export async function lookAtStateDirectory(): Promise<Check> {
  const exists = await stat(STATE).then(
    () => true,
    () => false,
  );
  const directory = exists ? STATE : path.dirname(STATE);
  try {
    const { bavail, bsize, type } = await statfs(directory);
    return judgeSpace({ exists, freeBytes: bavail * bsize, isMemory: type === TMPFS });
  } catch (reason) {
    const why = (reason as Error).message;
    return fail(
      'state',
      `${directory}: ${why}`,
      'volumes and records have no place',
      `make ${directory} accessible`,
    );
  }
}

export interface SpaceFacts {
  readonly exists: boolean;
  readonly freeBytes: number;
  readonly isMemory: boolean;
}

export function judgeSpace({ exists, freeBytes, isMemory }: SpaceFacts): Check {
  const where = exists ? STATE : `${STATE}, which the plugin makes at its start`;
  const found = `${size(freeBytes)} free at ${where}`;
  const todo = 'free some space there, or mount a larger disk at /var/lib/openebs';
  if (isMemory) {
    const means = 'it is kept in memory: all volumes are gone with a reboot';
    return fail('state', found, means, 'mount a disk there');
  }
  if (freeBytes < LEAST_FREE_BYTES)
    return fail('state', found, 'etcd ends below 64 MiB, and writes to volumes fail', todo);
  if (freeBytes < SMALL_FREE_BYTES)
    return warn('state', found, 'thin volumes take their space as they are written', todo);
  return ok('state', found);
}

const WRITES = 128;
/** About what etcd writes for a record. */
const WRITE_BYTES = 2300;
const LONGEST_MS = 5000;

/** The way etcd writes its log: a little at a time, each time to the disk. */
export async function lookAtDisk(): Promise<Check> {
  const base = await stat(STATE).then(
    () => STATE,
    () => path.dirname(STATE),
  );
  try {
    return judgeLatency(await measure(base), base);
  } catch (reason) {
    const { code = '', message } = reason as NodeJS.ErrnoException;
    if (code === 'EACCES')
      return warn('disk', `${base} may not be written`, 'its speed is not known', 'run the same as root');
    return fail(
      'disk',
      `${base} cannot be written: ${message}`,
      'no volume can be made',
      'see what is wrong with that disk',
    );
  }
}

async function measure(base: string): Promise<number[]> {
  const folder = await mkdtemp(path.join(base, '.doctor-'));
  const taken: number[] = [];
  try {
    const file = await open(path.join(folder, 'log'), 'w');
    const began = performance.now();
    const block = Buffer.alloc(WRITE_BYTES, 'x');
    while (taken.length < WRITES && performance.now() - began < LONGEST_MS) {
      const before = performance.now();
      await file.write(block);
      await file.datasync();
      taken.push(performance.now() - before);
    }
    await file.close();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return taken;
}

/** What etcd's authors ask of a disk. */
const GOOD_P99_MS = 10;

export function judgeLatency(takenMs: readonly number[], base: string): Check {
  const ascending = [...takenMs].sort((a, b) => a - b);
  const at = (share: number) =>
    ascending[Math.min(ascending.length - 1, Math.floor(share * ascending.length))] ?? 0;
  const p99 = at(0.99);
  const found =
    `${count(takenMs.length, 'flush', 'flushes')} of ${String(WRITE_BYTES)} bytes at ${base}: half within ` +
    `${at(0.5).toFixed(1)} ms, 99 % within ${p99.toFixed(1)} ms`;
  if (p99 < GOOD_P99_MS) return ok('disk', found);
  const means = 'etcd wants 99 % within 10 ms: creates and mounts get slow, and etcd may change its leader';
  return warn(
    'disk',
    found,
    means,
    'look for other load on that disk and try again; else put /var/lib/openebs on a faster one',
  );
}
