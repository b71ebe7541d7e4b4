/**
 * What a policy is given of an object: what the engine says of it, and in front of that what nearly every policy asks
 * for, the same for all engines.
 */
import type { Inspected, ObjectKind } from '../../docker/objects.js';

export interface Subject {
  readonly kind: ObjectKind;
  readonly id: string;
  /** Of a container without the leading slash; of an image its first tag, or the id. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The host it is on. */
  readonly node: NodeOfSubject;
  /** Of containers only. */
  readonly container?: ContainerOfSubject;
  /** As the engine inspects it. */
  readonly inspect: Inspected;
}

export interface NodeOfSubject {
  readonly id: string;
  readonly hostname: string;
  /** Where other hosts reach it. */
  readonly address: string;
}

export interface ContainerOfSubject {
  readonly hostname: string;
  readonly image: string;
  readonly env: Readonly<Record<string, string>>;
  readonly running: boolean;
  readonly paused: boolean;
  /** It was sent its stop signal, and has not ended yet. */
  readonly stopping: boolean;
  /** none: it has no health check. */
  readonly health: 'none' | 'starting' | 'healthy' | 'unhealthy';
  /** By name, sorted; without those that gave it no address. */
  readonly networks: Readonly<
    Record<string, { readonly ip: string; readonly ip6: string; readonly aliases: readonly string[] }>
  >;
  readonly hostNetwork: boolean;
  readonly ports: readonly PortOfSubject[];
}

export interface PortOfSubject {
  readonly port: number;
  readonly protocol: string;
  /** Where it is published on the host; none: it is exposed only. */
  readonly published: readonly { readonly ip: string; readonly port: number }[];
}

export function subjectOf(kind: ObjectKind, id: string, inspect: Inspected, node: NodeOfSubject): Subject {
  const common = { kind, id, name: nameOf(kind, id, inspect), labels: labelsOf(inspect), node, inspect };
  return kind === 'container' ? { ...common, container: containerOf(inspect) } : common;
}

type Json = Readonly<Record<string, unknown>>;

function at(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>((found, name) => asObject(found)[name], value);
}

function asObject(value: unknown): Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

function asText(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function nameOf(kind: ObjectKind, id: string, inspect: Inspected): string {
  if (kind === 'image') return asText(asList(inspect['RepoTags'])[0]) || id;
  const name =
    asText(inspect['Name']) ||
    asText(at(inspect, 'Spec', 'Name')) ||
    asText(at(inspect, 'Description', 'Hostname'));
  return name.replace(/^\//, '') || id;
}

function labelsOf(inspect: Inspected): Record<string, string> {
  const found = [at(inspect, 'Config', 'Labels'), inspect['Labels'], at(inspect, 'Spec', 'Labels')];
  // fromEntries, not assignment: a label may be called __proto__.
  return Object.fromEntries(
    found.flatMap((labels) => Object.entries(asObject(labels)).map(([name, value]) => [name, asText(value)])),
  );
}

function containerOf(inspect: Inspected): ContainerOfSubject {
  const health = asText(at(inspect, 'State', 'Health', 'Status'));
  return {
    hostname: asText(at(inspect, 'Config', 'Hostname')),
    image: asText(at(inspect, 'Config', 'Image')),
    env: envOf(asList(at(inspect, 'Config', 'Env'))),
    running: at(inspect, 'State', 'Running') === true,
    paused: at(inspect, 'State', 'Paused') === true,
    stopping: at(inspect, 'State', 'Stopping') === true,
    health: health === 'starting' || health === 'healthy' || health === 'unhealthy' ? health : 'none',
    networks: networksOf(asObject(at(inspect, 'NetworkSettings', 'Networks'))),
    hostNetwork: at(inspect, 'HostConfig', 'NetworkMode') === 'host',
    ports: portsOf(inspect),
  };
}

/** What is set twice counts as the program sees it: the last. */
function envOf(env: readonly unknown[]): Record<string, string> {
  return Object.fromEntries(
    env.map((item) => {
      const text = asText(item);
      const equals = text.indexOf('=');
      return equals === -1 ? [text, ''] : [text.slice(0, equals), text.slice(equals + 1)];
    }),
  );
}

function networksOf(networks: Json): ContainerOfSubject['networks'] {
  return Object.fromEntries(
    Object.entries(networks)
      .map(([name, network]): [string, ContainerOfSubject['networks'][string]] => [
        name,
        {
          ip: asText(at(network, 'IPAddress')),
          ip6: asText(at(network, 'GlobalIPv6Address')),
          aliases: asList(at(network, 'Aliases')).map(asText),
        },
      ])
      .filter(([, { ip, ip6 }]) => ip !== '' || ip6 !== '')
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

function portsOf(inspect: Inspected): PortOfSubject[] {
  const published = asObject(at(inspect, 'NetworkSettings', 'Ports'));
  const exposed = Object.keys(asObject(at(inspect, 'Config', 'ExposedPorts')));
  return [...new Set([...exposed, ...Object.keys(published)])]
    .map((name) => {
      const [port = '', protocol = 'tcp'] = name.split('/');
      const bindings = asList(published[name]).map((binding) => ({
        ip: asText(at(binding, 'HostIp')),
        port: Number(asText(at(binding, 'HostPort'))),
      }));
      return { port: Number(port), protocol, published: bindings.filter((binding) => binding.port > 0) };
    })
    .toSorted((a, b) => a.port - b.port || (a.protocol < b.protocol ? -1 : 1));
}
