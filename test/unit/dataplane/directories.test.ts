import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeDirectories } from '../../../src/dataplane/directories.js';
import { createHostPaths, type HostPaths } from '../../../src/dataplane/host-paths.js';
import { createLog } from '../../../src/log.js';

let top: string;
let paths: HostPaths;
let logged: string[];
const make = () =>
  makeDirectories(
    {
      log: createLog('error', { write: (line: string) => void logged.push(line) }),
      signal: new AbortController().signal,
      requestId: 'test',
    },
    paths,
  );

beforeEach(async () => {
  logged = [];
  top = await mkdtemp(path.join(tmpdir(), 'directories-'));
  // Beside the host's tree there is another, as the plugin's own files are.
  await mkdir(path.join(top, 'host/var/lib'), { recursive: true });
  await mkdir(path.join(top, 'own'));
  paths = createHostPaths(path.join(top, 'host'), path.join(top, 'mnt'));
});

afterEach(async () => {
  await rm(top, { recursive: true });
});

describe('the directories of the product', () => {
  it('are made, closed, and rid of what a crash left', async () => {
    await mkdir(paths.view(paths.state), { mode: 0o755 });
    await chmod(paths.view(paths.state), 0o755);
    await mkdir(paths.view(paths.cache));
    await make();
    for (const directory of [paths.state, paths.containers, paths.cache, paths.pool('default')])
      expect((await stat(paths.view(directory))).mode & 0o777, directory).toBe(0o700);
    await make();
    expect(logged).toEqual([]);
  });

  it('to mount on are removed when nothing is there, as after a loss of power', async () => {
    for (const id of ['v1', 'v2']) await mkdir(paths.mountpoint(id), { recursive: true });
    await writeFile(path.join(paths.mountpoint('v2'), 'file'), '');
    await make();
    expect(await readdir(path.join(top, 'mnt'))).toEqual(['v2']);
  });

  it.each(['../../own', 'missing'])(
    'are refused behind a link that leads out of the host: %s',
    async (to) => {
      const target = to === 'missing' ? '/somewhere/else' : path.join(top, 'own');
      await symlink(target, paths.view(paths.state));
      await expect(make()).rejects.toThrow('/var/lib/openebs is a symbolic link');
      expect(await readdir(path.join(top, 'own'))).toEqual([]);
    },
  );

  it('may be behind a link that stays within the host', async () => {
    await mkdir(path.join(top, 'host/var/lib/disk'));
    await symlink('disk', paths.view(paths.state));
    await make();
    expect(await readdir(path.join(top, 'host/var/lib/disk'))).toContain('pools');
  });

  it('are refused where there is a file, with its name', async () => {
    await writeFile(paths.view(paths.state), '');
    await expect(make()).rejects.toThrow(/cannot use \/var\/lib\/openebs/);
  });

  it('do without the default pool, when that is what cannot be had', async () => {
    await make();
    await rm(paths.view(paths.pool('default')), { recursive: true });
    await symlink('/somewhere/else', paths.view(paths.pool('default')));
    await make();
    expect(logged.join()).toContain('pools/default is a symbolic link');
  });
});
