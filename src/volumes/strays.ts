/**
 * What lies on this host for volumes that nobody has a record of: after a restore of etcd from an older backup,
 * say. It is told and never removed: it may be the only copy of somebody's data.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { RoleContainers } from '../dataplane/role-container.js';
import { VOLUME_ID } from './volume.js';

export interface Stray {
  /** A directory of the host, or the name of a data-plane container. */
  readonly what: string;
  readonly hint: string;
}

export interface StrayDeps {
  readonly paths: HostPaths;
  readonly roles: Pick<RoleContainers, 'list'>;
  /** False when the volume's record is positively absent; damaged ones count as known. */
  readonly known: (volumeId: string) => boolean;
}

export async function findStrays(deps: StrayDeps): Promise<Stray[]> {
  return [...(await strayData(deps)), ...(await strayContainers(deps))];
}

async function strayData({ paths, known }: StrayDeps): Promise<Stray[]> {
  const strays: Stray[] = [];
  for (const pool of await names(paths.view(paths.pools))) {
    for (const id of await names(paths.view(paths.pool(pool)))) {
      if (!VOLUME_ID.test(id) || known(id)) continue;
      strays.push({
        what: paths.backing(pool, id),
        hint: 'data of a volume without a record: restore the record, or remove the directory by hand',
      });
    }
  }
  return strays;
}

async function strayContainers({ paths, roles, known }: StrayDeps): Promise<Stray[]> {
  const strays: Stray[] = [];
  for (const name of await roles.list()) {
    const [, role = '', id = ''] = /^openebs-(target|initiator)-(.+)$/.exec(name) ?? [];
    if (!VOLUME_ID.test(id) || known(id)) continue;
    strays.push({ what: name, hint: hintOf(role, name, path.join(paths.containers, name)) });
  }
  return strays;
}

/** An initiator stays only while containers use its device (orphans.ts): to remove it would take that from them. */
function hintOf(role: string, name: string, directory: string): string {
  return role === 'initiator'
    ? 'containers use the device of a volume without a record: restore the record, or remove them, and it goes'
    : `container of a volume without a record: docker rm -f ${name}, then remove ${directory}`;
}

async function names(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}
