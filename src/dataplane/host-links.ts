import { lstat, realpath } from 'node:fs/promises';
import path from 'node:path';
import type { HostPaths } from './host-paths.js';

/**
 * The link on the way that leads out of the host's tree: the plugin sees that below another root, so an absolute link
 * leads nowhere, or into the plugin's own files, which an upgrade removes. Links that stay within are followed.
 * Answers what to say of it; null when there is none.
 */
export async function linkOn(paths: Pick<HostPaths, 'view'>, directory: string): Promise<string | null> {
  const root = await realpath(paths.view('/'));
  const parts = directory.split('/').slice(1);
  for (let count = 1; count <= parts.length; count += 1) {
    const upTo = `/${parts.slice(0, count).join('/')}`;
    const found = await lstat(paths.view(upTo)).catch(() => null);
    if (!found?.isSymbolicLink()) continue;
    const end = await realpath(paths.view(upTo)).catch(() => null);
    if (end === null || path.relative(root, end).startsWith('..')) return explain(upTo);
  }
  return null;
}

function explain(link: string): string {
  return (
    `${link} is a symbolic link, which leads elsewhere in the plugin than on the host: make it a directory, and mount ` +
    'the other one there (mount --bind)'
  );
}
