import { readFile } from 'node:fs/promises';
import path from 'node:path';

/** @param directory of the plugin: holds its package.json */
export async function readPluginVersion(directory: string): Promise<string> {
  const text = await readFile(path.join(directory, 'package.json'), 'utf8');
  const { version } = JSON.parse(text) as { version?: string };
  return version ?? 'unknown';
}
