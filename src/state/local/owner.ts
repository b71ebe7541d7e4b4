/**
 * One process at a time owns a directory. The sign of it is a socket that the process listens on: the kernel takes that
 * back with the process, however it ends, and no process of another PID namespace can be mistaken for it, as a number could.
 *
 * Each process makes a socket of its own, and then looks at those of all others. Of two that come at the same time each
 * sees the other, and both go away: they come again. Names are not used twice, so one that is dead stays so, and may be
 * removed by anybody.
 */
import { randomBytes } from 'node:crypto';
import { lstat, readdir, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { AppError } from '../../errors.js';
import { isLive } from '../../lib/unix-server.js';

export interface Owner {
  release(): Promise<void>;
}

const SOCKET = /^owner-[0-9a-f]{16}\.sock$/;

/**
 * @param shown what the host calls the directory
 * @throws `unavailable` while another process has it; what the file system says otherwise
 */
export async function own(directory: string, shown: string): Promise<Owner> {
  const mine = `owner-${randomBytes(8).toString('hex')}.sock`;
  const server = createServer((socket) => socket.destroy());
  await listen(server, path.join(directory, mine));
  const release = () =>
    new Promise<void>((resolve) => {
      server.close(() => {
        resolve();
      });
    });
  try {
    for (const name of await readdir(directory)) {
      if (!SOCKET.test(name) || name === mine) continue;
      if (await isLive(path.join(directory, name)))
        throw new AppError('unavailable', `cannot use ${shown}: another process of the plugin has it still`);
      await rm(path.join(directory, name), { force: true });
    }
    // Between its making and its listening, another process may have taken it for dead.
    await lstat(path.join(directory, mine));
    return { release };
  } catch (reason) {
    await release();
    throw reason;
  }
}

function listen(server: Server, socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, () => {
      server.unref();
      resolve();
    });
  });
}
