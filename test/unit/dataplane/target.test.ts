import { expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import type { RoleContainer, RoleContainers } from '../../../src/dataplane/role-container.js';
import { createTargets, type TargetSpec } from '../../../src/dataplane/target.js';
import { createLog } from '../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };

const specOf = (epoch: number | null): TargetSpec => ({
  volume: 'db',
  volumeId: 'vdb0000000',
  pool: 'default',
  sizeBytes: 2 ** 30,
  iqn: 'iqn.2016-09.com.openebs:vdb0000000',
  address: '127.0.0.1',
  port: 13_260,
  admit:
    epoch === null
      ? null
      : { initiatorIqn: 'iqn.node', chapUser: `vdb-${String(epoch)}`, chapSecret: 's3cr3t', epoch },
});

/** Role containers that only keep the spec that was written last. */
function start(current = false) {
  let written: string | null = null;
  const write = ({ spec }: RoleContainer) => {
    written = spec.lines.map(([key, value]) => `${key} ${value}\n`).join('');
    return Promise.resolve({ role: 'target', state: 'ready', error: '', generation: '' });
  };
  const roles = {
    ensure: (_ctx: Ctx, wanted: RoleContainer) => write(wanted),
    renew: (_ctx: Ctx, wanted: RoleContainer) => write(wanted),
    readNote: () => Promise.resolve(written),
    // A target calls nothing else of it: what is missing throws.
  } as unknown as RoleContainers;
  const paths = createHostPaths('/nowhere', '/mnt');
  const targets = createTargets({
    roles,
    paths,
    image: 'image',
    cluster: 'c',
    drainSeconds: 1,
    recordsAreCurrent: () => current,
  });
  return { targets, written: () => written };
}

it('admits each epoch after the one before, and the same one again', async () => {
  const { targets, written } = start();
  for (const epoch of [null, 1, 1, null, 2, 3]) await targets.ensure(ctx, specOf(epoch));
  expect(written()).toContain('secret-3');
});

it('never goes back to an older epoch, as records from a cache could want', async () => {
  const { targets, written } = start();
  await targets.ensure(ctx, specOf(10));
  for (const call of ['ensure', 'renew'] as const) {
    await expect(targets[call](ctx, specOf(9))).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/db .*epoch 10.*epoch 9.*etcd/) as string,
    });
  }
  expect(written()).toContain('secret-10');
});

it('goes back when etcd itself says so, as one that was restored from a backup does', async () => {
  const { targets, written } = start(true);
  await targets.ensure(ctx, specOf(10));
  await targets.ensure(ctx, specOf(4));
  expect(written()).toContain('secret-4');
});
