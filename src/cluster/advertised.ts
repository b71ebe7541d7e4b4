/** Which address a host may give the others to reach it at. */
import { isIP, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { AppError } from '../errors.js';

/** All addresses that this host has just now. */
export function ownAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((found = []) => found.map(({ address }) => address));
}

/**
 * @throws `invalid_argument` for one that etcd here could not listen at: then nobody could be asked any more, the way back
 * included
 */
export function checkAdvertised(advertise: string, own: readonly string[]): void {
  const shown = JSON.stringify(advertise.slice(0, 64));
  if (isIP(advertise) === 0 || /^(127\.|0\.0\.0\.0$|::1?$)/.test(advertise))
    throw new AppError(
      'invalid_argument',
      `${shown} cannot be advertised: give the IP address of this host that the others reach`,
    );
  if (own.some((address) => plain(address) === plain(advertise))) return;
  const others = own.filter((address) => !/^(127\.|::1$|fe80:)/.test(address)).join(', ');
  throw new AppError(
    'invalid_argument',
    `${shown} is no address of this host, so etcd cannot listen there; it has ${others || 'none that others reach'}`,
  );
}

/** Of the many ways to write an address of IPv6 one. */
function plain(address: string): string {
  return isIPv6(address) ? new URL(`http://[${address.replace(/%.*$/, '')}]`).hostname : address;
}
