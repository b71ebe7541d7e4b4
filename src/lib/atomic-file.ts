import { randomBytes } from 'node:crypto';
import { open, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { failPoint } from './fail-points.js';

/**
 * Replaces a file as a whole: a reader, or a crash at any moment, meets the old content or the new. The content
 * and the directory entry are on disk when it returns. Content in parts is written part by part.
 */
export async function writeFileAtomic(
  file: string,
  content: string | Buffer | Iterable<Buffer>,
  mode = 0o600,
): Promise<void> {
  const temporary = `${file}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx', mode);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await failPoint('before file rename');
    await rename(temporary, file);
    await failPoint('after file rename');
  } catch (reason) {
    await rm(temporary, { force: true });
    throw reason;
  }
  const directory = await open(path.dirname(file), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Takes away what a process that died while it replaced a file has left. For the only process that writes there. */
export async function removeUnfinished(directory: string): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  for (const name of names.filter((found) => /\.[0-9a-f]{8}\.tmp$/.test(found))) {
    await rm(path.join(directory, name), { force: true });
  }
}
