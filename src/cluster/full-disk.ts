/**
 * An etcd whose disk is full ends with its next write, and all that its callers see is that it cannot be reached. The
 * disk is on this host, so who is told that etcd is away is told why as well.
 */
import { statfs } from 'node:fs/promises';
import type { HostPaths } from '../dataplane/host-paths.js';
import { AppError, hasCode } from '../errors.js';
import type { State } from '../state/state.js';

/** etcd makes its log in files of this size. Source: SegmentSizeBytes in its package wal. */
const LEAST_FREE_BYTES = 64 * 2 ** 20;

type FreeBytes = (directory: string) => Promise<number>;

export function namingFullDisk(state: State, paths: HostPaths, freeBytes: FreeBytes = readFree): State {
  const explained = <T>(answer: Promise<T>): Promise<T> =>
    answer.catch(async (reason: unknown) => {
      throw await explain(reason, paths, freeBytes);
    });
  return {
    get: (ctx, key) => explained(state.get(ctx, key)),
    range: (ctx, prefix) => explained(state.range(ctx, prefix)),
    transact: (ctx, transaction) => explained(state.transact(ctx, transaction)),
    watch: (prefix, listener) => state.watch(prefix, listener),
    lease: (ctx, ttlMs, id) => explained(state.lease(ctx, ttlMs, id)),
    close: () => state.close(),
  };
}

/** The same error, with the state of the disk behind it where that is the likely cause. */
async function explain(reason: unknown, paths: HostPaths, freeBytes: FreeBytes): Promise<unknown> {
  if (!hasCode(reason, 'unavailable', 'deadline_exceeded')) return reason;
  const free = await freeBytes(paths.view(paths.etcdData)).catch(() => Infinity);
  if (free >= LEAST_FREE_BYTES) return reason;
  const full = `its disk is full: less than 64 MiB are free at ${paths.etcdData}, free some space there`;
  return new AppError(reason.code, `${reason.message} (${full})`, { cause: reason });
}

async function readFree(directory: string): Promise<number> {
  const space = await statfs(directory);
  return space.bavail * space.bsize;
}
