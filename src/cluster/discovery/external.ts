/** Discovery out of process: whoever listens at a unix socket, in the way of Docker's plugins. README.md has the protocol. */
import { z } from 'zod';
import { AppError } from '../../errors.js';
import { createPluginClient } from '../../lib/plugin-client.js';
import { isPort, readHost } from './address.js';
import { bounded } from './bounded.js';
import { type Discovery, findLimits } from './discovery.js';

export interface ExternalOptions {
  /** A path of the host, for messages. */
  readonly path: string;
  /** Where this process sees it. */
  readonly socketPath: string;
  /** Of the cluster, told to the plugin, which may serve several. */
  readonly fingerprint: string;
  readonly defaultPort: number;
  readonly limitMs?: number | undefined;
}

const host = z.string().transform((text, context) => {
  const read = readHost(text);
  if (read !== null) return read;
  context.addIssue({ code: 'custom', message: 'is neither an IP address of a host nor a name' });
  return z.NEVER;
});
const answer = z.object({
  Peers: z.array(z.object({ Host: host, Port: z.number().refine(isPort, 'is no port').nullish() })),
});

export function createExternalDiscovery(options: ExternalOptions): Discovery {
  const { path, socketPath, fingerprint, defaultPort, limitMs } = options;
  const plugin = createPluginClient({ socketPath, implementing: 'openebs.discovery' });
  return bounded({
    name: `unix:${path}`,
    wayOut: 'look for what is wrong with the plugin that listens there',
    find: async (ctx) => {
      const said = await plugin.call(ctx, '/Discovery.Find', {
        Cluster: fingerprint,
        Limit: findLimits.peers,
      });
      const parsed = answer.safeParse(said);
      if (parsed.success)
        return parsed.data.Peers.map(({ Host, Port }) => ({ host: Host, port: Port ?? defaultPort }));
      const [issue] = parsed.error.issues;
      const what = `${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`.trim();
      const text = `it answers /Discovery.Find with something else than {"Peers":[{"Host":"..."}]}`;
      throw new AppError('unavailable', `${text} (${what}): correct the plugin`, { cause: parsed.error });
    },
    limitMs,
  });
}
