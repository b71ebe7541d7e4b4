/** Discovery among addresses that somebody has written down: into a join token, or into the option itself. */
import { AppError } from '../../errors.js';
import { quote } from '../../lib/quote.js';
import { readAddress } from './address.js';
import { bounded } from './bounded.js';
import type { Discovery } from './discovery.js';
import type { DiscoverySpec } from './spec.js';

export interface ListedOptions {
  readonly hosts: DiscoverySpec<'static'>['hosts'];
  readonly defaultPort: number;
}

export function createStaticDiscovery({ hosts, defaultPort }: ListedOptions): Discovery {
  const listed = hosts.map(({ host, port }) => ({ host, port: port ?? defaultPort }));
  return bounded({ name: 'static', wayOut: 'try again', find: () => Promise.resolve(listed) });
}

/** @param addresses of the token, each `HOST:PORT` */
export function createTokenDiscovery(addresses: readonly string[], defaultPort: number): Discovery {
  const find = () => Promise.resolve(addresses.map((text) => readListed(text, defaultPort)));
  return bounded({ name: 'token', wayOut: 'try again', find });
}

function readListed(text: string, defaultPort: number) {
  const address = readAddress(text);
  if (address !== null) return { host: address.host, port: address.port ?? defaultPort };
  const wayOut = 'take a token anew from a host of the cluster';
  throw new AppError('invalid_argument', `the join token has ${quote(text)} for an address: ${wayOut}`);
}
