/** Texts that name a host or a port, whoever wrote them: of one host there is one text. */
import { BlockList, isIP, isIPv4, SocketAddress } from 'node:net';
import type { Address } from './discovery.js';

/** Addresses that are no host's: unspecified, multicast, broadcast. */
const nobodys = new BlockList();
nobodys.addSubnet('0.0.0.0', 8, 'ipv4');
nobodys.addSubnet('224.0.0.0', 3, 'ipv4');
nobodys.addAddress('::', 'ipv6');
nobodys.addSubnet('ff00::', 8, 'ipv6');

const groups = new BlockList();
groups.addSubnet('224.0.0.0', 4, 'ipv4');

const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;
/** A resolver takes `10.1` and `0x7f000001` for addresses. */
const LIKE_A_NUMBER = /^(\d+|0x[0-9a-f]*)$/;

/** A domain name in lower case without its last dot; null when it is none. */
export function readName(text: string): string | null {
  const name = text.toLowerCase().replace(/\.$/, '');
  const labels = name.split('.');
  const isName = name.length <= 253 && labels.every((label) => LABEL.test(label));
  return isName && !LIKE_A_NUMBER.test(labels.at(-1) ?? '') ? name : null;
}

/** An IP address without a zone, as the kernel writes it; null when it is none, or can be no host's. */
export function readIp(text: string): string | null {
  const version = text.includes('%') ? 0 : isIP(text);
  if (version === 0) return null;
  const family = version === 4 ? 'ipv4' : 'ipv6';
  return nobodys.check(text, family) ? null : new SocketAddress({ address: text, family }).address;
}

export function readHost(text: string): string | null {
  return readIp(text) ?? readName(text);
}

/** A multicast group of IPv4, but none of those of routing protocols, which switches send everywhere. */
export function isGroup(text: string): boolean {
  return isIPv4(text) && groups.check(text) && !text.startsWith('224.0.0.');
}

export function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}

/** `HOST`, `HOST:PORT` or `[IPv6]:PORT`; the port is null where none is given. Null when it is none of these. */
export function readAddress(text: string): { readonly host: string; readonly port: number | null } | null {
  const [, bracketed, plain = '', digits] =
    /^(?:\[([0-9a-fA-F:.]{2,45})\]|([^:[\]]{1,254}))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = bracketed === undefined ? readHost(plain) : readIp(bracketed);
  const port = digits === undefined ? null : Number(digits);
  return host === null || (port !== null && !isPort(port)) ? null : { host, port };
}

/** As `readAddress` reads it. */
export function formatAddress({ host, port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${String(port)}`;
}
