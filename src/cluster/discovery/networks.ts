/** The networks that this host is on, as far as they may lead to other hosts. */
import { BlockList } from 'node:net';
import { networkInterfaces } from 'node:os';

export interface OwnNetwork {
  /** This host's own on it, of IPv4. */
  readonly address: string;
  /** `ADDRESS/BITS` */
  readonly cidr: string;
}

/** Docker's own: what is on them is containers, and no hosts. The kernel takes 20 groups of a socket, a host has more of these. */
const OF_DOCKER = /^(docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

export function ownNetworks(interfaces = networkInterfaces()): OwnNetwork[] {
  return Object.entries(interfaces)
    .filter(([name]) => !OF_DOCKER.test(name))
    .flatMap(([, addresses]) => addresses ?? [])
    .flatMap(({ family, address, cidr }) => (family === 'IPv4' && cidr !== null ? [{ address, cidr }] : []));
}

/** Tells whether an address of IPv4 is on one of them. */
export function neighboursOn(networks: readonly OwnNetwork[]): (address: string) => boolean {
  const subnets = new BlockList();
  for (const { cidr } of networks) {
    const [network = '', bits = ''] = cidr.split('/');
    subnets.addSubnet(network, Number(bits), 'ipv4');
  }
  return (address) => subnets.check(address, 'ipv4');
}
