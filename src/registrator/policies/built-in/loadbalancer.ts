/**
 * What Kontena's load balancer reads: the settings of each balanced service, which all its containers on all hosts write
 * alike, and an upstream for each container. The container says what it wants in labels and environment; the layout and
 * their names are those of Kontena (its registrator's policies `http` and `tcp`). Where there is no overlay of Kontena's
 * the address is that on a network.
 */
import { z } from 'zod';
import type { ContainerOfSubject, Subject } from '../subject.js';
import type { BuiltIn } from './built-in.js';

const config = z.strictObject({
  prefix: z
    .string()
    .regex(/^\/.*[^/]$/, 'begins with a slash and ends without one')
    .default('/kontena/haproxy'),
  /** Whose addresses upstreams have; empty: the first that the container has. */
  network: z.string().default(''),
  healthyOnly: z.boolean().default(true),
  /** Whether a container goes when it is told to stop, instead of when it has ended. */
  drainOnStop: z.boolean().default(true),
});
type Config = z.infer<typeof config>;

const DEFAULTS = { balance: 'roundrobin', internalPort: '80', externalPort: '5000' };

export const loadbalancer: BuiltIn<Config> = {
  name: 'loadbalancer',
  config,
  merge: 'min',
  functions: { container: (subject, given) => entriesOf(subject, given) },
};

function entriesOf(subject: Subject, given: Config): Record<string, string | null> | null {
  const { container } = subject;
  const said = (name: string) => subject.labels[`io.kontena.${name}`] ?? '';
  const balancer = said('load_balancer.name');
  const service = serviceOf(subject);
  if (balancer === '' || service === '' || !container || !serves(container, given)) return null;
  const address = addressOf(subject, container, given);
  if (address === '') return null;
  const isTcp = said('load_balancer.mode') === 'tcp';
  const path = `${given.prefix}/${balancer}/${isTcp ? 'tcp-services' : 'services'}/${service}`;
  const settings = isTcp
    ? tcpSettings(container)
    : { ...httpSettings(container), health_check_uri: said('health_check.uri') };
  const port = said('load_balancer.internal_port') || DEFAULTS.internalPort;
  const written = Object.entries(settings).map(([name, value]) => [
    `${path}/${name}`,
    value === '' ? null : value,
  ]);
  return {
    ...(Object.fromEntries(written) as Record<string, string | null>),
    [`${path}/upstreams/${said('container.name') || subject.name}`]: `${address}:${port}`,
  };
}

function serves(container: ContainerOfSubject, { healthyOnly, drainOnStop }: Config): boolean {
  const { running, paused, stopping, health } = container;
  if (!running || paused || (stopping && drainOnStop)) return false;
  return !(healthyOnly && ['starting', 'unhealthy'].includes(health));
}

/** Of the stack, but in the one that has no name. */
function serviceOf({ labels, container }: Subject): string {
  const named = container?.env['KONTENA_LB_SERVICE'] ?? '';
  if (named !== '') return named;
  const [stack = '', service = ''] = [labels['io.kontena.stack.name'], labels['io.kontena.service.name']];
  return stack === '' || stack === 'null' || service === '' ? service : `${stack}-${service}`;
}

function addressOf({ labels }: Subject, { networks }: ContainerOfSubject, { network }: Config): string {
  const [overlay = ''] = (labels['io.kontena.container.overlay_cidr'] ?? '').split('/');
  if (overlay !== '') return overlay;
  const [first] = Object.values(networks);
  const found = network === '' ? first : networks[network];
  if (!found) return '';
  return found.ip === '' ? `[${found.ip6}]` : found.ip;
}

function httpSettings({ env }: ContainerOfSubject): Record<string, string> {
  const said = (name: string) => env[`KONTENA_LB_${name}`] ?? '';
  return {
    balance: said('BALANCE') || DEFAULTS.balance,
    basic_auth_secrets: said('BASIC_AUTH_SECRETS'),
    cookie: said('COOKIE'),
    custom_settings: said('CUSTOM_SETTINGS'),
    keep_virtual_path: said('KEEP_VIRTUAL_PATH'),
    virtual_hosts: said('VIRTUAL_HOSTS'),
    virtual_path: said('VIRTUAL_PATH'),
  };
}

function tcpSettings({ env }: ContainerOfSubject): Record<string, string> {
  const said = (name: string) => env[`KONTENA_LB_${name}`] ?? '';
  return {
    balance: said('BALANCE') || DEFAULTS.balance,
    custom_settings: said('CUSTOM_SETTINGS'),
    external_port: said('EXTERNAL_PORT') || DEFAULTS.externalPort,
  };
}
