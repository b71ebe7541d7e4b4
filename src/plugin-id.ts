import { readFile } from 'node:fs/promises';
import { parseMountInfo } from './dataplane/mount-info.js';
import { AppError } from './errors.js';

/**
 * The ID that the engine has given this plugin: it mounts `DATA-ROOT/plugins/ID/propagated-mount` into it. Of its name
 * nobody tells the plugin. @throws `unavailable` outside of a managed plugin
 */
export async function readPluginId(file = '/proc/self/mountinfo'): Promise<string> {
  for (const { root } of parseMountInfo(await readFile(file, 'utf8'))) {
    const id = /\/plugins\/([0-9a-f]{64})\/propagated-mount$/.exec(root)?.[1];
    if (id !== undefined) return id;
  }
  throw new AppError(
    'unavailable',
    'this process does not see which plugin it is: disable it by hand (docker plugin disable -f openebs)',
  );
}
