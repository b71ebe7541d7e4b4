/**
 * A service as Consul's agent takes it, its check by the attributes that gliderlabs' registrator knows (SERVICE_CHECK_HTTP
 * and so on). They make the check and nothing else; all other attributes are the service's Meta.
 *
 * What differs, and why. check_cmd and check_script are run by a shell: Consul has no checks that are a line any more, and
 * one argument with blanks in it is no program. check_timeout counts for each check that the agent runs. A switch that
 * says false, no or 0 is off: it would turn the verification of certificates off otherwise. $SERVICE_IP and $SERVICE_PORT
 * count in addresses too. What check_deregister_after has taken out comes back with the next look at the agent, critical
 * until its check passes, for as long as the container runs.
 */
import { isIPv6 } from 'node:net';
import { MAX_META_VALUE, marks } from '../../../backends/consul/registration.js';
import { consulKey } from '../../../backends/consul/service-key.js';

export interface ConsulService {
  readonly id: string;
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly tags: readonly string[];
  readonly attributes: Readonly<Record<string, string>>;
}

/** What check-cmd is told, beside the command. */
export interface CheckedContainer {
  readonly id: string;
  readonly exposedPort: number;
}

export type Check = Readonly<Record<string, unknown>>;

const CHECK_ATTRIBUTES = new Set([
  ...['check_http', 'check_http_method', 'check_https', 'check_https_method', 'check_tcp'],
  ...['check_grpc', 'check_grpc_use_tls', 'check_script', 'check_cmd', 'check_ttl', 'check_interval'],
  ...['check_timeout', 'check_initial_status', 'check_deregister_after', 'check_tls_skip_verify'],
]);

/** The backend's marks have to fit in as well. */
const MAX_META_ENTRIES = 64 - Object.keys(marks).length;
const MAX_META_NAME = 128;
const MAX_ID = 256;

export function consulEntry(service: ConsulService, container: CheckedContainer): [string, unknown] {
  const { id, name, tags, port, address, attributes } = service;
  const check = checkOf(service, container);
  const meta = metaOf(attributes);
  return [
    consulKey(id.replace(/[^A-Za-z0-9_.:-]/g, '-').slice(0, MAX_ID)),
    { Name: name, Tags: tags, Port: port, Address: address, Meta: meta, ...(check ? { Check: check } : {}) },
  ];
}

/** Null: none is asked for. */
export function checkOf(service: ConsulService, container: CheckedContainer): Check | null {
  const said = (name: string) => service.attributes[name] ?? '';
  const found = KINDS.find(({ attribute }) => said(attribute) !== '');
  if (!found) return null;
  const text = substituted(said(found.attribute), service);
  return withoutEmpty({
    ...found.check(text, { service, container, said }),
    // Who tells of a TTL's service is the service.
    ...(found.attribute === 'check_ttl'
      ? {}
      : { Interval: said('check_interval') || '10s', Timeout: said('check_timeout') }),
    Status: said('check_initial_status'),
    DeregisterCriticalServiceAfter: said('check_deregister_after'),
  });
}

interface Asked {
  readonly service: ConsulService;
  readonly container: CheckedContainer;
  readonly said: (name: string) => string;
}

interface Kind {
  readonly attribute: string;
  readonly check: (text: string, asked: Asked) => Check;
}

/** The first that is said counts. */
const KINDS: readonly Kind[] = [
  {
    attribute: 'check_http',
    check: (path, { service, said }) => ({
      HTTP: `http://${endpointOf(service)}${fromRoot(path)}`,
      Method: said('check_http_method'),
    }),
  },
  {
    attribute: 'check_https',
    check: (path, { service, said }) => ({
      HTTP: `https://${endpointOf(service)}${fromRoot(path)}`,
      Method: said('check_https_method'),
      TLSSkipVerify: isOn(said('check_tls_skip_verify')),
    }),
  },
  {
    attribute: 'check_cmd',
    check: (command, { container: { id, exposedPort } }) => ({
      Args: ['/bin/sh', '-c', `check-cmd ${id.slice(0, 12)} ${String(exposedPort)} ${command}`],
    }),
  },
  { attribute: 'check_script', check: (script) => ({ Args: ['/bin/sh', '-c', script] }) },
  { attribute: 'check_ttl', check: (ttl) => ({ TTL: ttl }) },
  { attribute: 'check_tcp', check: (_any, { service }) => ({ TCP: endpointOf(service) }) },
  {
    attribute: 'check_grpc',
    check: (_any, { service, said }) => {
      const isTls = isOn(said('check_grpc_use_tls'));
      return {
        GRPC: endpointOf(service),
        GRPCUseTLS: isTls,
        TLSSkipVerify: isTls && isOn(said('check_tls_skip_verify')),
      };
    },
  },
];

function endpointOf({ address, port }: ConsulService): string {
  return `${isIPv6(address) ? `[${address}]` : address}:${String(port)}`;
}

function fromRoot(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}

function isOn(text: string): boolean {
  return !['', 'false', 'no', '0'].includes(text.toLowerCase());
}

function substituted(text: string, { address, port }: ConsulService): string {
  return text.replaceAll('$SERVICE_IP', () => address).replaceAll('$SERVICE_PORT', () => String(port));
}

/** What is not said, or off, is Consul's own default. */
function withoutEmpty(check: Check): Check {
  return Object.fromEntries(Object.entries(check).filter(([, value]) => value !== '' && value !== false));
}

/**
 * Within Consul's limits, which would refuse the service as a whole. A name is made one that is allowed, as `a.b` still
 * means something as `a_b`. Left out is what would be wrong when it is cut, a value that is too long; what Consul and the
 * backend keep for themselves; and by the order of names what is too many.
 */
export function metaOf(attributes: ConsulService['attributes']): Record<string, string> {
  const fitting = Object.entries(attributes)
    .filter(([name, value]) => !CHECK_ATTRIBUTES.has(name) && Buffer.byteLength(value) <= MAX_META_VALUE)
    .map(([name, value]): [string, string] => [name.replace(/[^A-Za-z0-9_-]/g, '_'), value])
    .filter(([name]) => name.length <= MAX_META_NAME && !/^(consul|openebs)-/.test(name))
    .toSorted(([a, one], [b, other]) => (a === b ? (one < other ? -1 : 1) : a < b ? -1 : 1));
  return Object.fromEntries([...new Map(fitting)].slice(0, MAX_META_ENTRIES));
}
