/** Who listens on the ports that the plugin uses. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import type { Engine } from '../engine-client.js';
import { count, few } from '../table.js';
import { type Check, fail, ok, warn } from './check.js';

export interface Listener {
  readonly port: number;
  /** Of the process; 0 when it cannot be seen. */
  readonly pid: number;
  readonly command: string;
  /** One of our containers. */
  readonly isOurs: boolean;
}

export interface WantedPorts {
  /** null: the etcd is somebody else's, or there is none. */
  readonly etcd: number | null;
  readonly first: number;
  readonly last: number;
}

export async function lookAtPorts(engine: Engine, settings: ReadonlyMap<string, string>): Promise<Check[]> {
  const wanted = wantedPorts(settings);
  const ours = await ourContainers(engine).catch(() => new Set<string>());
  const sockets = ['/proc/self/net/tcp', '/proc/self/net/tcp6'].flatMap((file) =>
    parseSockets(readText(file)),
  );
  return judgePorts(wanted, listenersOf(sockets, ours, wanted));
}

export function wantedPorts(settings: ReadonlyMap<string, string>): WantedPorts {
  const [, first = '13260', last = '14259'] = /^(\d+)-(\d+)$/.exec(settings.get('TARGET_PORTS') ?? '') ?? [];
  const isOwn = (settings.get('ETCD_ENDPOINTS') ?? '') === '' && settings.get('CLUSTER') !== 'none';
  const port = Number(settings.get('ETCD_PORT') ?? '');
  return { etcd: isOwn ? (port > 0 ? port : 23_790) : null, first: Number(first), last: Number(last) };
}

export function judgePorts({ etcd, first, last }: WantedPorts, listeners: readonly Listener[]): Check[] {
  return [
    ...(etcd === null ? [] : [judgeEtcdPorts(etcd, listeners)]),
    judgeTargetPorts(first, last, listeners),
  ];
}

function judgeEtcdPorts(port: number, listeners: readonly Listener[]): Check {
  const here = listeners.filter((one) => one.port === port || one.port === port + 1);
  const foreign = here.filter(({ isOurs }) => !isOurs);
  const name = 'ports of etcd';
  const both = `${String(port)} and ${String(port + 1)}`;
  if (foreign.length === 0)
    return ok(name, here.length === 0 ? `${both} are free` : `${both} are held by our etcd`);
  const todo = 'stop that, or choose another port: docker plugin set openebs ETCD_PORT=...';
  const isSeen = foreign.some(({ pid }) => pid !== 0);
  if (!isSeen)
    return warn(
      name,
      `${both}: ${few(foreign.map(told))}`,
      'whose they are is not known',
      'run the same as root',
    );
  return fail(name, `${both}: ${few(foreign.map(told))}`, 'the etcd of the plugin cannot listen', todo);
}

function judgeTargetPorts(first: number, last: number, listeners: readonly Listener[]): Check {
  const here = listeners.filter(({ port }) => port >= first && port <= last);
  const foreign = here.filter(({ isOurs }) => !isOurs);
  const all = last - first + 1;
  const free = all - new Set(here.map(({ port }) => port)).size;
  const name = 'ports of volumes';
  const ours = here.length - foreign.length;
  const found = `${String(first)}-${String(last)}: ${String(free)} of ${String(all)} free, ${count(ours, 'target')} of ours`;
  const todo = 'docker plugin set openebs TARGET_PORTS=FIRST-LAST, below 32768';
  if (free === 0) return fail(name, found, 'each volume needs one: no more can be made here', todo);
  if (foreign.length === 0) return ok(name, found);
  const means = 'new volumes leave them out; a volume that has such a port already cannot be served';
  return warn(name, `${found}; of others: ${few(foreign.map(told))}`, means, `stop those, or ${todo}`);
}

function told({ port, pid, command }: Listener): string {
  return `${String(port)} (${pid === 0 ? 'a process that cannot be seen' : `${command}, process ${String(pid)}`})`;
}

export interface ListeningSocket {
  readonly port: number;
  readonly inode: string;
}

const LISTEN = '0A';

/** Of /proc/net/tcp, or tcp6. */
export function parseSockets(text: string): ListeningSocket[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    const [, local = '', , state] = fields;
    const port = parseInt(local.slice(local.lastIndexOf(':') + 1), 16);
    return state === LISTEN && port > 0 ? [{ port, inode: fields[9] ?? '' }] : [];
  });
}

function listenersOf(
  sockets: readonly ListeningSocket[],
  ours: ReadonlySet<string>,
  wanted: WantedPorts,
): Listener[] {
  const { etcd, first, last } = wanted;
  const concerns = (port: number) => (port >= first && port <= last) || port === etcd || port - 1 === etcd;
  const relevant = sockets.filter(({ port }) => concerns(port));
  if (relevant.length === 0) return [];
  const owners = ownersOf(new Set(relevant.map(({ inode }) => inode)));
  return relevant.map(({ port, inode }) => {
    const pid = owners.get(inode) ?? 0;
    const command = pid === 0 ? '' : commandOf(pid);
    return { port, pid, command, isOurs: pid !== 0 && isOf(readText(`/proc/${String(pid)}/cgroup`), ours) };
  });
}

/** By its program: what a process calls itself may be the name of a thread, as with newer Node. */
function commandOf(pid: number): string {
  const program = basename(readLink(`/proc/${String(pid)}/exe`).replace(/ \(deleted\)$/, ''));
  return program === '' ? readText(`/proc/${String(pid)}/comm`).trim() : program;
}

/** Inode of a socket -> process. */
function ownersOf(inodes: ReadonlySet<string>): ReadonlyMap<string, number> {
  const owners = new Map<string, number>();
  for (const pid of names('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const fd of names(`/proc/${pid}/fd`)) {
      const inode = /^socket:\[(\d+)\]$/.exec(readLink(`/proc/${pid}/fd/${fd}`))?.[1];
      if (inode !== undefined && inodes.has(inode)) owners.set(inode, Number(pid));
    }
  }
  return owners;
}

/** A container's processes have its ID in the path of their cgroup. */
export function isOf(cgroup: string, containers: ReadonlySet<string>): boolean {
  return [...cgroup.matchAll(/[0-9a-f]{64}/g)].some(([id]) => containers.has(id));
}

async function ourContainers(engine: Engine): Promise<ReadonlySet<string>> {
  const filters = encodeURIComponent(JSON.stringify({ label: ['openebs.role'] }));
  const found = (await engine.ask(`/containers/json?filters=${filters}`)) as readonly {
    readonly Id: string;
  }[];
  return new Set(found.map(({ Id }) => Id));
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function readLink(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
