import { expect, it } from 'vitest';
import { namingFullDisk } from '../../../src/cluster/full-disk.js';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import { AppError, type ErrorCode } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import type { State } from '../../../src/state/state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const MIB = 2 ** 20;

function failing(code: ErrorCode): State {
  const fail = () => Promise.reject(new AppError(code, 'etcd at X cannot be reached'));
  return { ...createMemoryState(), get: fail, range: fail, transact: fail, lease: fail };
}

/** What each call of the state says when it fails. */
async function saysOf(code: ErrorCode, freeBytes: () => Promise<number>): Promise<string[]> {
  const state = namingFullDisk(failing(code), createHostPaths('/host', '/mnt'), freeBytes);
  const calls = [
    state.get(ctx, 'k'),
    state.range(ctx, 'k'),
    state.transact(ctx, { if: [], then: [] }),
    state.lease(ctx, 5000),
  ];
  return Promise.all(
    calls.map((call) =>
      call.then(
        () => 'no failure',
        (reason: unknown) => AppError.from(reason).code + ': ' + AppError.from(reason).message,
      ),
    ),
  );
}

it('an etcd that does not answer while its disk is full says so, with the same code', async () => {
  for (const code of ['unavailable', 'deadline_exceeded'] as const) {
    const says = await saysOf(code, () => Promise.resolve(63 * MIB));
    const text = `${code}: etcd at X cannot be reached (its disk is full: less than 64 MiB are free at `;
    for (const said of says) expect(said).toContain(`${text}/var/lib/openebs/etcd, free some space there)`);
  }
});

it('nothing is said of a disk with room, of one that cannot be asked, or of another failure', async () => {
  const bare = (code: ErrorCode) => Array.from({ length: 4 }, () => `${code}: etcd at X cannot be reached`);
  expect(await saysOf('unavailable', () => Promise.resolve(64 * MIB))).toEqual(bare('unavailable'));
  expect(await saysOf('unavailable', () => Promise.reject(new Error('gone')))).toEqual(bare('unavailable'));
  expect(await saysOf('conflict', () => Promise.resolve(0))).toEqual(bare('conflict'));
});
