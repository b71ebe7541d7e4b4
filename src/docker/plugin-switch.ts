import Docker from 'dockerode';
import type { Ctx } from '../context.js';
import { call } from './engine-call.js';

/**
 * Disables a plugin, in use or not: its process gets SIGTERM. By full ID, with `force`, which dockerode's own call sends
 * in the body, where no engine looks for it.
 * @throws `unavailable` while the engine does not answer
 */
export function disablePlugin(ctx: Ctx, socketPath: string, id: string): Promise<void> {
  const docker = new Docker({ socketPath });
  return call(ctx, `disable plugin ${id}`, (abortSignal) => {
    const request = {
      path: `/plugins/${encodeURIComponent(id)}/disable?`,
      method: 'POST',
      options: { force: true },
      abortSignal,
      statusCodes: { 200: true, 204: true, 404: 'there is no such plugin', 500: 'server error' },
    };
    return new Promise<void>((resolve, reject) => {
      docker.modem.dial(request, (failure: Error | null) => {
        if (failure === null) resolve();
        else reject(failure);
      });
    });
  });
}
