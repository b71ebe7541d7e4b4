import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { refuseBlankState } from '../../src/blank-state.js';
import { makeDirectories } from '../../src/dataplane/directories.js';
import { createHostPaths } from '../../src/dataplane/host-paths.js';
import { createLog } from '../../src/log.js';

const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let root: string;
let home: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'openebs-blank-'));
  home = join(root, 'var/lib/openebs');
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

async function begin(...containers: string[]): Promise<void> {
  const paths = createHostPaths(root, join(root, 'mnt'));
  await makeDirectories(ctx, paths);
  await refuseBlankState(ctx, paths, { withLabel: () => Promise.resolve(containers) });
}

const refusal = '/var/lib/openebs has nothing of the plugin, but this host has its containers (openebs-etcd)';

describe('a host with containers of the plugin', () => {
  it('and a directory that the plugin has just made is refused', async () => {
    await expect(begin('openebs-etcd')).rejects.toThrow(refusal);
  });

  it.each(['lost+found', 'pools/fast', 'away/cache', '.Trash-0'])(
    'is refused where there is %s',
    async (name) => {
      mkdirSync(join(home, name), { recursive: true });
      await expect(begin('openebs-etcd')).rejects.toThrow(refusal);
    },
  );

  it.each([
    'node.json',
    'kept-in.json',
    'membership.json',
    'transition.json',
    'ended.json',
    'etcd-incarnation.json',
    'etcd/member',
    'cache/records.json',
    'containers/openebs-etcd',
    'certificates/ca.crt',
    'local/head',
    'backups/newest',
  ])('goes on where there is %s', async (name) => {
    const isFile = /\.(json|crt)$/.test(name);
    mkdirSync(isFile ? join(home, name, '..') : join(home, name), { recursive: true });
    if (isFile) writeFileSync(join(home, name), '{}');
    await begin('openebs-etcd');
  });
});

it('a host without containers of the plugin begins, whatever its directory has', async () => {
  mkdirSync(join(home, 'lost+found'), { recursive: true });
  await begin();
});
