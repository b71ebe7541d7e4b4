/**
 * Services of containers, by the rules of gliderlabs' registrator: each published port of a running container is a
 * service, named after its image unless the container says otherwise (metadata.ts).
 *
 * What differs, and why. The first part of an id is the host's name, not that of a container which changes with each
 * update. Every binding of a port counts, not the first only. A container with a health check is there while it is
 * healthy, and one that is paused is not. An address may be one of IPv6.
 */
import { isIPv6 } from 'node:net';
import { z } from 'zod';
import type { ContainerOfSubject, PortOfSubject, Subject } from '../../subject.js';
import { keys } from '../../../../state/keys.js';
import type { BuiltIn } from '../built-in.js';
import { consulEntry } from './consul.js';
import { type ServiceMetadata, metadataOf, tagsOf } from './metadata.js';

const config = z.strictObject({
  /**
   * address: `/PREFIX/NAME/ID` = `ip:port`. json: the same key, all that is known. skydns: for SkyDNS and CoreDNS.
   * consul: registered at the agent, with checks (consul.ts).
   */
  layout: z.enum(['address', 'json', 'skydns', 'consul']).default('json'),
  prefix: z
    .string()
    .regex(/^\/.*[^/]$/, 'begins with a slash and ends without one')
    .default(keys.services.slice(0, -1)),
  /** Of the layout skydns. */
  domain: z.string().min(1).default('skydns.local'),
  /** Exposed ports at the container's address, instead of published ones at the host's. */
  internal: z.boolean().default(false),
  /** Only what has a SERVICE_NAME. */
  explicit: z.boolean().default(false),
  /** Of published ports; empty: the host's. */
  ip: z.string().default(''),
  /** A label that has the address; what follows a slash in it is cut. */
  ipLabel: z.string().default(''),
  /** Whose address is taken with `internal`; a container's label SERVICE_NETWORK goes before it. */
  network: z.string().default(''),
  /** Of all services, separated by commas. */
  tags: z.string().default(''),
  /** Whether a container whose health check does not say healthy is left out. */
  healthyOnly: z.boolean().default(true),
  /** Whether a container goes when it is told to stop, instead of when it has ended. */
  drainOnStop: z.boolean().default(true),
});
export type ServicesConfig = z.infer<typeof config>;

/** A service as it is registered. */
export interface Service {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** Of the container, where it is not published. */
  readonly exposedPort: number;
  readonly protocol: string;
  readonly tags: readonly string[];
  readonly attributes: Readonly<Record<string, string>>;
}

export const services: BuiltIn<ServicesConfig> = {
  name: 'services',
  config,
  merge: 'min',
  functions: {
    container: (subject, given) =>
      Object.fromEntries(servicesOf(subject, given).map((service) => entryOf(subject, service, given))),
  },
};

interface Endpoint {
  readonly port: PortOfSubject;
  readonly address: string;
  readonly number: number;
  /** Of several bindings of one port, the first has the id that it would have alone. */
  readonly isFurther: boolean;
}

export function servicesOf(subject: Subject, given: ServicesConfig): Service[] {
  const { container, labels } = subject;
  if (!container || !serves(container, given)) return [];
  const endpoints = container.ports
    .flatMap((port) => endpointsOf(subject, container, port, given))
    .map((endpoint) => ({ endpoint, metadata: metadataOf(container, labels, endpoint.port) }))
    .filter(({ metadata }) => !metadata.ignore && (metadata.name !== '' || !given.explicit));
  const ports = new Set(endpoints.map(({ endpoint: { port } }) => `${String(port.port)}/${port.protocol}`));
  return endpoints.map(({ endpoint, metadata }) =>
    serviceOf(subject, endpoint, metadata, { given, isOnly: ports.size === 1 }),
  );
}

function serves(container: ContainerOfSubject, { healthyOnly, drainOnStop }: ServicesConfig): boolean {
  const { running, paused, stopping, health } = container;
  if (!running || paused || (stopping && drainOnStop)) return false;
  return !(healthyOnly && ['starting', 'unhealthy'].includes(health));
}

function endpointsOf(
  subject: Subject,
  container: ContainerOfSubject,
  port: PortOfSubject,
  given: ServicesConfig,
): Endpoint[] {
  const own = internalAddress(subject, container, given);
  if (given.internal) return own === '' ? [] : [{ port, address: own, number: port.port, isFurther: false }];
  const host = hostAddress(subject, given);
  // Nothing is published of who is on the host's own network: what it exposes is there.
  if (container.hostNetwork) return [{ port, address: host, number: port.port, isFurther: false }];
  const reached = reachedAt(host, port.published);
  const numbers = [...new Map(reached.map((binding) => [binding.port, binding])).values()];
  return numbers.map(({ ip, port: number }, index) => ({
    port,
    address: ['', '0.0.0.0', '::'].includes(ip) ? host : ip,
    number,
    isFurther: index > 0,
  }));
}

/**
 * Of a port that the engine has chosen, IPv4 and IPv6 have different numbers, and what is one's may be another container's
 * at the other: a binding to all addresses counts for those of its kind only, unless there is no such.
 */
function reachedAt(host: string, published: PortOfSubject['published']): PortOfSubject['published'] {
  const [own, other] = isIPv6(host) ? ['::', '0.0.0.0'] : ['0.0.0.0', '::'];
  if (!published.some(({ ip }) => ip === own)) return published;
  return published.filter(({ ip }) => ip !== other);
}

function hostAddress({ labels, node }: Subject, { ip, ipLabel }: ServicesConfig): string {
  const [labeled = ''] = (ipLabel === '' ? '' : (labels[ipLabel] ?? '')).split('/');
  return [labeled, ip, node.address].find((address) => address !== '') ?? '';
}

function internalAddress(
  { labels }: Subject,
  { networks }: ContainerOfSubject,
  { network }: ServicesConfig,
): string {
  const wanted = [labels['SERVICE_NETWORK'] ?? '', network].find((name) => name !== '');
  const [first] = Object.values(networks);
  const found = wanted === undefined ? (networks['bridge'] ?? first) : networks[wanted];
  return (found?.ip === '' ? found.ip6 : found?.ip) ?? '';
}

function serviceOf(
  { name: container, node, container: details }: Subject,
  { port, address, number, isFurther }: Endpoint,
  metadata: ServiceMetadata,
  { given, isOnly }: { given: ServicesConfig; isOnly: boolean },
): Service {
  const image = imageName(details?.image ?? '');
  const base = metadata.name === '' ? image : metadata.name;
  const udp = port.protocol === 'udp' ? ['udp'] : [];
  const id = [
    node.hostname,
    container,
    String(port.port),
    ...udp,
    ...(isFurther ? [String(number)] : []),
  ].join(':');
  return {
    id: metadata.id === '' || isFurther ? id : metadata.id,
    name: isOnly || metadata.isNamedByPort ? base : `${base}-${String(port.port)}`,
    address,
    port: number,
    exposedPort: port.port,
    protocol: port.protocol,
    tags: [...new Set([...metadata.tags, ...tagsOf(given.tags), ...udp])],
    attributes: metadata.attributes,
  };
}

/** `registry:5000/team/redis:7@sha256:...` is redis. */
function imageName(image: string): string {
  const [, last = image] = /([^/]*)$/.exec(image.replace(/@.*$/, '')) ?? [];
  return last.replace(/:.*$/, '');
}

function entryOf(
  subject: Subject,
  { exposedPort, ...service }: Service,
  { layout, prefix, domain }: ServicesConfig,
): [string, unknown] {
  const { id, name, address, port } = service;
  if (layout === 'consul') return consulEntry(service, { id: subject.id, exposedPort });
  if (layout === 'skydns') {
    // A name of DNS has no colons, and its dots are levels.
    const label = id.replace(/[^A-Za-z0-9-]/g, '-');
    const below = domain.split('.').toReversed().join('/');
    return [`/skydns/${below}/${name}/${label}`, { host: address, port }];
  }
  const key = `${prefix}/${name}/${id}`;
  return [key, layout === 'json' ? service : `${isIPv6(address) ? `[${address}]` : address}:${String(port)}`];
}
