/** The discoveries that are built in, by kind. */
import type { Resolver } from 'node:dns/promises';
import type { EngineSwarm } from '../../docker/swarm.js';
import type { Discovery } from './discovery.js';
import { createDnsDiscovery } from './dns.js';
import { createExternalDiscovery } from './external.js';
import { createStaticDiscovery, createTokenDiscovery } from './listed.js';
import { createMulticastDiscovery } from './multicast.js';
import type { DiscoveryKind, DiscoverySpec } from './spec.js';
import { createSwarmDiscovery } from './swarm.js';

export interface DiscoveryDeps {
  /** Of the join token, `HOST:PORT` each. */
  readonly addresses: readonly string[];
  /** Of the cluster's certificate authority. */
  readonly fingerprint: string;
  /** Of the join server, where a discovery knows hosts alone. */
  readonly defaultPort: number;
  /** This process's view of a path of the host. */
  readonly view: (hostPath: string) => string;
  readonly swarm: EngineSwarm;
  /** Default: asks the name servers of the system. */
  readonly resolver?: () => Pick<Resolver, 'resolveSrv' | 'cancel'>;
  /** Of one search; default `findLimits.ms`. */
  readonly limitMs?: number;
}

/** A kind without a factory does not compile. */
const factories: {
  readonly [K in DiscoveryKind]: (spec: DiscoverySpec<K>, deps: DiscoveryDeps) => Discovery;
} = {
  token: (_spec, { addresses, defaultPort }) => createTokenDiscovery(addresses, defaultPort),
  static: ({ hosts }, { defaultPort }) => createStaticDiscovery({ hosts, defaultPort }),
  dns: ({ name }, deps) => createDnsDiscovery({ ...deps, name }),
  multicast: ({ group, port }, deps) => createMulticastDiscovery({ ...deps, group, port }),
  swarm: (_spec, deps) => createSwarmDiscovery({ ...deps, port: deps.defaultPort }),
  unix: ({ path }, deps) => createExternalDiscovery({ ...deps, path, socketPath: deps.view(path) }),
};

/** It asks nobody before `find` or `announce`. */
export function createDiscovery<K extends DiscoveryKind>(
  spec: DiscoverySpec<K>,
  deps: DiscoveryDeps,
): Discovery {
  const factory: (typeof factories)[K] = factories[spec.kind];
  return factory(spec, deps);
}
