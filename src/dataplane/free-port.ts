import net from 'node:net';
import { AppError } from '../errors.js';

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/**
 * A port of the range that is neither taken by a record nor listened on now. Between this and tgtd's own bind
 * somebody else may take it: the target says so, and another is tried.
 * @throws `no_space` when the range is used up, `unavailable` when the address is not one of this host.
 */
export async function findFreePort(
  address: string,
  range: PortRange,
  taken: ReadonlySet<number>,
): Promise<number> {
  for (let port = range.first; port <= range.last; port++) {
    if (!taken.has(port) && (await canListen(address, port))) return port;
  }
  throw new AppError(
    'no_space',
    `all ports from ${String(range.first)} to ${String(range.last)} on ${address} are taken: widen TARGET_PORTS`,
  );
}

async function canListen(address: string, port: number): Promise<boolean> {
  const server = net.createServer();
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  server.once('error', (reason: NodeJS.ErrnoException) => {
    if (reason.code !== 'EADDRNOTAVAIL') resolve(false);
    else
      reject(
        new AppError(
          'unavailable',
          `TARGET_ADDRESS ${address} is not an address of this host now: bring its interface up, or set another`,
          { cause: reason },
        ),
      );
  });
  server.listen(port, address, () => {
    server.close(() => {
      resolve(true);
    });
  });
  return promise;
}
