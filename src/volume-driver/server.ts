import type { RequestListener } from 'node:http';
import { createUnixServer } from '../lib/unix-server.js';
import type { RouterDeps } from './router.js';

export interface VolumeDriver {
  /**
   * Replaces a stale socket file and listens; then loads the router, for which calls that come meanwhile wait.
   * @throws AppError `conflict` when another process listens there.
   */
  listen(socketPath: string): Promise<void>;
  /** Answers what is in flight for up to 3 s, then cuts it off, which aborts it. */
  close(): Promise<void>;
}

/** dockerd kills a plugin 10 s after SIGTERM; the rest of the process needs its share. */
const drainMs = 3000;

export function createVolumeDriver(deps: RouterDeps): VolumeDriver {
  const router = Promise.withResolvers<RequestListener>();
  const server = createUnixServer((request, response) => {
    void router.promise.then((handle) => {
      handle(request, response);
    });
  });
  return {
    async listen(socketPath) {
      await server.listen(socketPath);
      const { createRouter } = await import('./router.js');
      router.resolve(createRouter(deps));
    },
    close: () => server.close(drainMs),
  };
}
