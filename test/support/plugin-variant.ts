/**
 * A later version of the built plugin, for upgrades: another version number, another data-plane image, and specs of
 * roles with a line that this version does not write. Kept in the cache with a registry that holds both.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execOk } from './exec.js';
import { startLabHost } from './lab.js';
import {
  cached,
  copyTree,
  hashOf,
  pluginFolder,
  pluginHash,
  registryStorage,
  startRegistry,
} from './lab-seed.js';

export const laterVersion = '99.0.0';
export const laterImage = 'openebs/dataplane:later';
/** In the same registry, which the upgrade is told to take it from. */
export const laterName = '127.0.0.1:5000/openebs:later';

/** Storage of a registry with `registryName` and `laterName`. */
export async function registryWithLater(): Promise<string> {
  const startBare = (name: string) => startLabHost({ name, images: false });
  const first = await registryStorage(startBare);
  return cached(
    'lab-later',
    hashOf(await pluginHash(), readFileSync(import.meta.filename, 'utf8')),
    async (folder) => {
      await copyTree(first, folder);
      const host = await startBare('later');
      try {
        const plugin = join(host.dir, 'plugin');
        await copyTree(pluginFolder, plugin);
        await makeLater(join(plugin, 'rootfs/app'), host.dir);
        const registry = await startRegistry(host, folder);
        await host.ok('plugin', 'create', laterName, plugin);
        await host.ok('plugin', 'push', laterName);
        await registry.stop();
      } finally {
        await host.close();
      }
    },
  );
}

async function makeLater(app: string, scratch: string): Promise<void> {
  replaceIn(join(app, 'package.json'), /"version": "[^"]*"/, `"version": "${laterVersion}"`);
  // What a later version would write into each role's spec, and roles of today must skip.
  replaceIn(join(app, 'dist/dataplane/initiator.js'), "['drain',", "['later', 'initiator'], ['drain',");
  replaceIn(join(app, 'dist/dataplane/target.js'), "['drain',", "['later', 'target'], ['drain',");
  replaceIn(join(app, 'image.json'), /"reference":\s*"[^"]*"/, `"reference":"${laterImage}"`);
  const tree = join(scratch, 'image');
  mkdirSync(tree);
  const tar = join(app, 'image.tar.gz');
  await execOk('tar', ['-C', tree, '-xzf', tar]);
  writeFileSync(join(tree, 'etc/later'), 'a later image\n');
  await execOk('sh', ['-ec', 'tar -C "$1" -cf - . | gzip -1 >"$2"', 'sh', tree, tar]);
}

function replaceIn(file: string, what: string | RegExp, by: string): void {
  const before = readFileSync(file, 'utf8');
  const after = before.replace(what, by);
  if (after === before)
    throw new Error(`${file} does not hold ${String(what)}: how a later version differs is out of date`);
  writeFileSync(file, after);
}
