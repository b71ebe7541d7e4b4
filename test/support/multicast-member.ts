/**
 * One side of the multicast discovery as a process, for hosts of a lab:
 *
 *     announce GROUP PORT FINGERPRINT ADDRESS     until it is killed
 *     find GROUP PORT FINGERPRINT                 prints `HOST:PORT`, one a line
 */
import { formatAddress } from '../../src/cluster/discovery/address.js';
import { createMulticastDiscovery } from '../../src/cluster/discovery/multicast.js';
import { createLog } from '../../src/log.js';

const [verb, group = '', port, fingerprint = '', host = ''] = process.argv.slice(2);
const discovery = createMulticastDiscovery({ group, port: Number(port), fingerprint, lookEveryMs: 500 });
const ctx = { log: createLog('warn'), signal: new AbortController().signal, requestId: 'test' };
if (verb === 'announce') {
  await discovery.announce!(ctx, { host, port: 23_792 });
  console.log('announced');
} else {
  for (const peer of await discovery.find(ctx)) console.log(formatAddress(peer));
}
