/** Discovery among the nodes of the Docker Swarm that this host's engine is part of. */
import { isIP } from 'node:net';
import type { EngineSwarm, SwarmNode } from '../../docker/swarm.js';
import { readAddress, readIp } from './address.js';
import { bounded } from './bounded.js';
import type { Discovery } from './discovery.js';

export interface SwarmOptions {
  readonly swarm: EngineSwarm;
  /** Swarm knows hosts, not ports of ours. */
  readonly port: number;
  readonly limitMs?: number | undefined;
}

export function createSwarmDiscovery({ swarm, port, limitMs }: SwarmOptions): Discovery {
  return bounded({
    name: 'swarm',
    wayOut: "check this host's Docker engine (docker node ls), or name the hosts with static:HOST,...",
    find: async (ctx) => {
      const nodes = await swarm.nodes(ctx);
      return nodes
        .toSorted((a, b) => Number(b.isReady) - Number(a.isReady))
        .flatMap((node) => hostOf(node) ?? [])
        .map((host) => ({ host, port }));
    },
    limitMs,
  });
}

/**
 * What a node is known by is where its connection came from: of a leader, which connects to itself, that may be 0.0.0.0
 * or 127.0.0.1. What it advertises as a manager goes first.
 */
function hostOf({ address, managerAddress }: SwarmNode): string | null {
  const advertised = managerAddress === null ? undefined : readAddress(managerAddress)?.host;
  return [advertised, readIp(address)].find((host) => isElsewhere(host)) ?? null;
}

function isElsewhere(host: string | null | undefined): host is string {
  return host != null && isIP(host) !== 0 && !host.startsWith('127.') && host !== '::1';
}
