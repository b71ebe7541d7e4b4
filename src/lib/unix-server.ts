import { createServer, type RequestListener, type Server } from 'node:http';
import { lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { AppError } from '../errors.js';

export interface UnixServer {
  /**
   * Does nothing where it listens there already; listens anew, and ends all connections, if the path was deleted.
   * @throws AppError `conflict` when the path belongs to a living process or is no socket.
   */
  listen(socketPath: string): Promise<void>;
  /** Takes no more connections, lets what is in flight finish for up to drainMs, then cuts it off. */
  close(drainMs: number): Promise<void>;
}

/** Whether a process listens there. Only a refused connection proves that none does. */
export async function isLive(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT');
    });
  });
}

async function removeStale(socketPath: string): Promise<void> {
  const found = await lstat(socketPath).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new AppError('conflict', `cannot listen on ${socketPath}: it exists and is no socket; remove it`);
  }
  if (await isLive(socketPath)) {
    throw new AppError('conflict', `cannot listen on ${socketPath}: another process listens there; stop it`);
  }
  await unlink(socketPath).catch(() => undefined);
}

async function bind(server: Server, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const settle = (error?: Error) => {
      server.off('error', settle).off('listening', settle);
      if (error) reject(error);
      else resolve();
    };
    server.once('error', settle).once('listening', settle);
    // The socket is made within this call: nobody meets it with other permissions.
    const before = process.umask(0o177);
    server.listen(socketPath);
    process.umask(before);
  });
}

async function unbind(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => {
      resolve();
    });
    server.closeAllConnections();
  });
}

/**
 * HTTP on a unix socket (mode 0600) that never ends a connection of its own accord: Docker's client keeps them
 * open without limit, and what it sends on one that we just closed it repeats with an empty body. A client that
 * closes its sending side counts as gone; over a unix socket it cannot be told from one that left.
 */
export function createUnixServer(handler: RequestListener): UnixServer {
  let closing = false;
  const server = createServer(
    // 20.10 engines send an empty Host; other clients send none.
    { requireHostHeader: false, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 },
    (request, response) => {
      response.once('close', () => {
        // A finished answer leaves an idle connection behind, which would hold close() up.
        if (closing) {
          setImmediate(() => {
            server.closeIdleConnections();
          });
        }
      });
      handler(request, response);
    },
  );
  server.timeout = 0;

  return {
    async listen(socketPath) {
      if (server.listening) {
        if (server.address() === socketPath && (await lstat(socketPath).catch(() => undefined))) return;
        await unbind(server);
      }
      await removeStale(socketPath);
      await bind(server, socketPath).catch((reason: unknown) => {
        throw AppError.from(reason, 'unavailable', `cannot listen on ${socketPath}`);
      });
    },
    async close(drainMs) {
      if (!server.listening) return;
      closing = true;
      const cut = setTimeout(() => {
        server.closeAllConnections();
      }, drainMs);
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeIdleConnections();
      });
      clearTimeout(cut);
    },
  };
}
