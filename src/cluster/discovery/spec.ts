/** Which discovery, as a user says it: `KIND` or `KIND:ARGUMENT`. */
import { hostPath } from '../../config-values.js';
import { AppError } from '../../errors.js';
import { nearest } from '../../lib/nearest.js';
import { quote } from '../../lib/quote.js';
import { isGroup, isPort, readAddress, readName } from './address.js';
import { findLimits } from './discovery.js';

export const discoveryKinds = ['token', 'static', 'dns', 'multicast', 'swarm', 'unix'] as const;
export type DiscoveryKind = (typeof discoveryKinds)[number];

interface Arguments {
  readonly token: object;
  /** The port is null where the cluster's default is meant. */
  readonly static: { readonly hosts: readonly { readonly host: string; readonly port: number | null }[] };
  /** A full name, that of the SRV records themselves. */
  readonly dns: { readonly name: string };
  readonly multicast: MulticastGroup;
  readonly swarm: object;
  /** A path of the host. */
  readonly unix: { readonly path: string };
}

export interface MulticastGroup {
  readonly group: string;
  readonly port: number;
}

/** One kind's, or any. */
export type DiscoverySpec<Kind extends DiscoveryKind = DiscoveryKind> = {
  readonly [K in Kind]: { readonly kind: K } & Arguments[K];
}[Kind];

/** In the range that everybody may use within a site of their own (RFC 2365). */
export const defaultGroup: MulticastGroup = { group: '239.255.79.69', port: 23_793 };

const FORMS =
  'token, static:HOST[:PORT],..., dns:NAME, multicast[:GROUP:PORT], swarm, or unix:PATH of a socket below /run';

/** By kind, from what follows its colon; null where no colon is. A kind that cannot be read does not compile. */
const readers: { readonly [K in DiscoveryKind]: (argument: string | null) => DiscoverySpec<K> } = {
  token: (argument) => ({ kind: 'token', ...without(argument) }),
  static: (argument) => ({ kind: 'static', hosts: readHosts(argument) }),
  dns: (argument) => ({ kind: 'dns', name: readRecordName(argument) }),
  multicast: (argument) => ({ kind: 'multicast', ...readGroup(argument) }),
  swarm: (argument) => ({ kind: 'swarm', ...without(argument) }),
  unix: (argument) => ({ kind: 'unix', path: readPath(argument) }),
};

/**
 * @param option what the text was given as, for messages
 * @throws AppError `invalid_argument` that names the option, what is wrong with it, and what is allowed.
 */
export function parseDiscovery(text: string, option = '--discovery'): DiscoverySpec {
  const spec = text.trim();
  const colon = spec.indexOf(':');
  const word = colon < 0 ? spec : spec.slice(0, colon);
  const argument = colon < 0 ? null : spec.slice(colon + 1);
  const kind = discoveryKinds.find((one) => one === word);
  try {
    if (kind === undefined) throw refuse(unknownKind(word));
    return readers[kind](argument);
  } catch (reason) {
    const { message } = AppError.from(reason);
    const said = `option ${option}: ${quote(text)} is not allowed: ${message}`;
    throw new AppError('invalid_argument', said, { cause: reason });
  }
}

function refuse(text: string): AppError {
  return new AppError('invalid_argument', text);
}

function unknownKind(word: string): string {
  const meant = nearest(word, discoveryKinds);
  return `give ${FORMS}${meant === undefined ? '' : `; did you mean ${meant}?`}`;
}

function without(argument: string | null): object {
  if (argument === null) return {};
  throw refuse('nothing may follow that word');
}

function readHosts(argument: string | null): DiscoverySpec<'static'>['hosts'] {
  const texts = (argument ?? '').split(',').map((text) => text.trim());
  if (texts.length > findLimits.peers) throw refuse(`give at most ${String(findLimits.peers)} hosts`);
  return texts.map((text) => {
    const address = readAddress(text);
    if (address !== null) return address;
    const forms =
      'a name or an IP address, with :PORT unless it is the default, an address of IPv6 in brackets';
    throw refuse(`each host, separated by commas, is ${forms}; ${quote(text)} is none`);
  });
}

function readRecordName(argument: string | null): string {
  const name = readName(argument ?? '');
  const full = name === null || name.startsWith('_') ? name : readName(`_openebs._tcp.${name}`);
  if (full !== null) return full;
  throw refuse('give dns:NAME, a full domain name that has SRV records at _openebs._tcp.NAME');
}

function readGroup(argument: string | null): MulticastGroup {
  if (argument === null) return defaultGroup;
  const [, group = '', digits = ''] = /^([\d.]{7,15}):(\d{1,5})$/.exec(argument) ?? [];
  const port = Number(digits);
  if (isGroup(group) && isPort(port)) return { group, port };
  const usual = `${defaultGroup.group}:${String(defaultGroup.port)}`;
  throw refuse(
    `give multicast, or multicast:GROUP:PORT with a group from 224.0.1.0 to 239.255.255.255, like ${usual}`,
  );
}

function readPath(argument: string | null): string {
  const path = (argument ?? '').replace(/^\/\/(?=\/)/, '');
  return hostPath(path.startsWith('/var/lib/') ? '/var/lib' : '/run')(path);
}
