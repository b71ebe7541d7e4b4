/**
 * What a lab host can leave behind although all its processes are dead: its directory, the loop devices its
 * containers had set up (they belong to the machine, not to a namespace) and its cgroups.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { exec } from './exec.js';

/** On a real disk: an engine's overlay file systems and 2 TiB sparse files do not belong on a tmpfs. */
export const labRoot = '/var/tmp/openebs-lab';
export const cgroupPrefix = 'openebs-lab-';

function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

/** Field 22 of /proc/PID/stat: with the pid it names a process for all time. */
function startTime(pid: number): string | undefined {
  const stat = attempt(() => readFileSync(`/proc/${String(pid)}/stat`, 'utf8'));
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

/** `<pid>-<start time>` of a run: its directory is called so, and a directory whose process is gone is swept. */
export function runStamp(pid = process.pid): string {
  return `${String(pid)}-${startTime(pid) ?? '0'}`;
}

function runIsAlive(stamp: string): boolean {
  const pid = Number(stamp.split('-')[0]);
  return Number.isInteger(pid) && startTime(pid) !== undefined && runStamp(pid) === stamp;
}

function pids(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid));
}

function namespaceOf(pid: number, kind: string): string | undefined {
  return attempt(() => readlinkSync(`/proc/${String(pid)}/ns/${kind}`));
}

/** All processes of the pid namespace that `init` leads, its containers' included. */
export function processesOf(init: number): number[] {
  const own = namespaceOf(init, 'pid');
  if (own === undefined) return [];
  return pids().filter((pid) => namespaceOf(pid, 'pid') === own);
}

/** `major:minor` of each FUSE file system that one of the processes has mounted. */
function fuseDevices(of: readonly number[]): Set<string> {
  const devices = new Set<string>();
  const seen = new Set<string>();
  for (const pid of of) {
    const namespace = namespaceOf(pid, 'mnt');
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    const mounts = attempt(() => readFileSync(`/proc/${String(pid)}/mountinfo`, 'utf8')) ?? '';
    for (const line of mounts.split('\n')) {
      const device = line.split(' ')[2];
      if (device !== undefined && line.includes(' - fuse')) devices.add(device);
    }
  }
  return devices;
}

export interface Loop {
  readonly name: string;
  readonly file: string;
  readonly backingDevice: string;
}

async function loops(): Promise<Loop[]> {
  const { stdout } = await exec('losetup', ['--list', '--json', '-O', 'NAME,BACK-FILE,BACK-MAJ:MIN']);
  if (stdout.trim() === '') return [];
  const listed = JSON.parse(stdout) as { loopdevices: Record<string, string | null>[] };
  return listed.loopdevices.map((loop) => ({
    name: loop['name'] ?? '',
    file: loop['back-file'] ?? '',
    backingDevice: (loop['back-maj:min'] ?? '').trim(),
  }));
}

/** Loop devices whose backing file lies in a FUSE file system or the directory of this host. */
export async function loopsOf(init: number, dir: string): Promise<Loop[]> {
  const devices = fuseDevices(processesOf(init));
  return (await loops()).filter((loop) => devices.has(loop.backingDevice) || loop.file.startsWith(`${dir}/`));
}

/** Detaches the devices that still are what they were when they were listed. */
export async function detachLoops(listed: readonly Loop[]): Promise<void> {
  for (const loop of await loops()) {
    const same = listed.some((one) => one.name === loop.name && one.backingDevice === loop.backingDevice);
    if (same) await exec('losetup', ['--detach', loop.name]);
  }
}

/** Loop devices of ours whose FUSE file system no process has mounted any more: nobody can ever use them. */
async function orphanedLoops(): Promise<Loop[]> {
  const candidates = (await loops()).filter((loop) => loop.file.includes('openebs'));
  if (candidates.length === 0) return [];
  const mounted = fuseDevices(pids());
  return candidates.filter((loop) => !mounted.has(loop.backingDevice) && loop.backingDevice.startsWith('0:'));
}

function removeTree(dir: string): void {
  for (const child of attempt(() => readdirSync(dir)) ?? []) {
    const path = join(dir, child);
    if (attempt(() => statSync(path).isDirectory()) === true) removeTree(path);
  }
  attempt(() => {
    rmdirSync(dir);
  });
}

/** Empty cgroups named `openebs-lab-<stamp>...`, in each hierarchy of cgroup v1 and in v2. */
export function removeCgroups(name: string): void {
  const root = '/sys/fs/cgroup';
  const roots = [
    root,
    ...(attempt(() => readdirSync(root, { withFileTypes: true })) ?? [])
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith(cgroupPrefix))
      .map((entry) => join(root, entry.name)),
  ];
  for (const hierarchy of roots) {
    const path = join(hierarchy, name);
    if (existsSync(path)) removeTree(path);
  }
}

/** Clears what runs left that died without cleaning up. Their processes died with them (see lab.ts). */
export async function sweepDeadRuns(): Promise<void> {
  for (const stamp of attempt(() => readdirSync(labRoot)) ?? []) {
    if (runIsAlive(stamp)) continue;
    rmSync(join(labRoot, stamp), { recursive: true, force: true });
    for (const hierarchy of ['', 'memory', 'pids', 'cpu', 'systemd', 'unified']) {
      const found = attempt(() => readdirSync(join('/sys/fs/cgroup', hierarchy))) ?? [];
      for (const name of found) if (name.startsWith(`${cgroupPrefix}${stamp}`)) removeCgroups(name);
    }
  }
  await detachLoops(await orphanedLoops());
}
