import { createUnixServer } from '../lib/unix-server.js';
import { createRouter, type AdminDeps } from './router.js';

export interface AdminServer {
  listen(socketPath: string): Promise<void>;
  close(): Promise<void>;
}

const drainMs = 1000;

/** The admin API on a socket of its own, so that Docker's socket carries Docker's protocol alone. */
export function createAdminServer(deps: AdminDeps): AdminServer {
  const server = createUnixServer(createRouter(deps));
  return {
    listen: (socketPath) => server.listen(socketPath),
    close: () => server.close(drainMs),
  };
}
