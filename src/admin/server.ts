import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import { createUnixServer } from '../lib/unix-server.js';
import { sleep } from '../lib/sleep.js';
import { createRouter, type AdminDeps } from './router.js';

export interface AdminServer {
  /**
   * Serves on this path until ctx.signal aborts: listens again when the socket was deleted, with its directory
   * perhaps, and where it could not listen before. Each new reason why it cannot is logged once.
   */
  serve(ctx: Ctx, socketPath: string): void;
  close(): Promise<void>;
}

const DRAIN_MS = 1000;
/** How often it looks whether its socket is still there. */
const LOOK_MS = 5000;

/** The admin API on a socket of its own, so that Docker's socket carries Docker's protocol alone. */
export function createAdminServer(deps: AdminDeps, lookMs = LOOK_MS): AdminServer {
  const server = createUnixServer(createRouter(deps));
  let serving: Promise<void> | undefined;

  async function keep(ctx: Ctx, socketPath: string): Promise<void> {
    let lastReason = '';
    while (!ctx.signal.aborted) {
      try {
        await mkdir(path.dirname(socketPath), { recursive: true, mode: 0o700 });
        await server.listen(socketPath);
        lastReason = '';
      } catch (err) {
        const reason = err instanceof Error ? err.message : String(err);
        if (reason !== lastReason) ctx.log.error({ err }, 'the admin socket is not served');
        lastReason = reason;
      }
      await sleep(lookMs, ctx.signal);
    }
  }

  return {
    serve(ctx, socketPath) {
      serving ??= keep(ctx, socketPath);
    },
    async close() {
      await serving;
      await server.close(DRAIN_MS);
    },
  };
}
