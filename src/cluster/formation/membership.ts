/** Which cluster this host belongs to, as far as it has to know before it can ask: on disk, one file. */
import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { z } from 'zod';
import type { HostPaths } from '../../dataplane/host-paths.js';
import { AppError } from '../../errors.js';
import { writeFileAtomic } from '../../lib/atomic-file.js';

const shape = z.object({
  schema: z.literal(1),
  /** Address at which the other hosts reach this one; null: it is alone, on loopback. */
  advertise: z.string().min(1).nullable(),
  /** Client URLs of etcd's members, as they were known last. */
  endpoints: z.array(z.string()).readonly(),
  /** Of the cluster's record; of two etcds that claim to be the cluster, the higher one is it. */
  incarnation: z.int().nonnegative(),
  /** The recovery that was carried out here last. */
  change: z.string().optional(),
});
export type Membership = z.infer<typeof shape>;

/** A host that was never told otherwise. */
export function alone(port: number): Membership {
  return { schema: 1, advertise: null, endpoints: [urlOf('127.0.0.1', port)], incarnation: 0 };
}

/** @throws AppError `internal` for a damaged file: to guess would mean to begin anew beside the cluster */
export async function readMembership(paths: HostPaths): Promise<Membership | null> {
  try {
    return shape.parse(JSON.parse(await readFile(paths.view(paths.membership), 'utf8')));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AppError(
      'internal',
      `${paths.membership}, which says where the cluster is, is damaged: restore it, like {"schema":1,"advertise":` +
        `"ADDRESS OF THIS HOST","endpoints":["https://ADDRESS OF A MEMBER:23790"],"incarnation":0}`,
      { cause },
    );
  }
}

export async function writeMembership(paths: HostPaths, membership: Membership): Promise<void> {
  await writeFileAtomic(paths.view(paths.membership), JSON.stringify(membership));
}

export function urlOf(address: string, port: number): string {
  return `https://${hostPort(address, port)}`;
}

export function hostPort(address: string, port: number): string {
  return `${isIPv6(address) ? `[${address}]` : address}:${String(port)}`;
}

/** Of one host, from etcd's client port. */
export function urlsOf(address: string, port: number): { clientUrl: string; peerUrl: string } {
  return { clientUrl: urlOf(address, port), peerUrl: urlOf(address, port + 1) };
}

export function isLoopback(url: string): boolean {
  return /^https:\/\/(127\.|\[::1\])/.test(url);
}

/** Where hosts join. */
export function joinPortOf(port: number): number {
  return port + 2;
}
