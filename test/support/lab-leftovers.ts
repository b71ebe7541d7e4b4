/**
 * What a lab host can leave behind although all its processes are dead: its directory, the loop devices its
 * containers had set up (they belong to the machine, not to a namespace) and its cgroups.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
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

export function runIsAlive(stamp: string): boolean {
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

/** `major:minor` of each file system (of FUSE alone, if asked) that one of the processes has mounted. */
function mountedDevices(of: readonly number[], fuseOnly: boolean): Set<string> {
  const devices = new Set<string>();
  const seen = new Set<string>();
  for (const pid of of) {
    const namespace = namespaceOf(pid, 'mnt');
    if (namespace === undefined || seen.has(namespace)) continue;
    seen.add(namespace);
    const mounts = attempt(() => readFileSync(`/proc/${String(pid)}/mountinfo`, 'utf8')) ?? '';
    for (const line of mounts.split('\n')) {
      const device = line.split(' ')[2];
      if (device !== undefined && (!fuseOnly || line.includes(' - fuse'))) devices.add(device);
    }
  }
  return devices;
}

export interface Loop {
  readonly name: string;
  readonly file: string;
  readonly inode: string;
  readonly backingDevice: string;
}

async function loops(): Promise<Loop[]> {
  const { stdout } = await exec('losetup', [
    '--list',
    '--json',
    '-O',
    'NAME,BACK-FILE,BACK-INO,BACK-MAJ:MIN',
  ]);
  if (stdout.trim() === '') return [];
  const listed = JSON.parse(stdout) as { loopdevices: Record<string, string | number | null>[] };
  return listed.loopdevices.map((loop) => ({
    name: String(loop['name'] ?? ''),
    file: String(loop['back-file'] ?? ''),
    inode: String(loop['back-ino'] ?? ''),
    backingDevice: String(loop['back-maj:min'] ?? '').trim(),
  }));
}

/** Whether its file lies below the directory. The kernel tells a path as the host's own mounts have it. */
async function liesBelow(dir: string, loop: Loop): Promise<boolean> {
  const device = statSync(dir, { bigint: true }).dev;
  const [major, minor] = [(device >> 8n) & 0xfffn, (device & 0xffn) | ((device >> 12n) & 0xfff00n)];
  if (loop.backingDevice !== `${String(major)}:${String(minor)}`) return false;
  const found = await exec('find', [dir, '-xdev', '-type', 'f', '-inum', loop.inode, '-print', '-quit']);
  return found.stdout !== '';
}

/** Loop devices whose backing file lies in a FUSE file system or the directory of this host. */
export async function loopsOf(init: number, dir: string): Promise<Loop[]> {
  const devices = mountedDevices(processesOf(init), true);
  const own: Loop[] = [];
  for (const loop of await loops()) {
    if (devices.has(loop.backingDevice) || (await liesBelow(dir, loop))) own.push(loop);
  }
  return own;
}

/**
 * Detaches the devices that still are what they were when they were listed. The kernel cannot tell the backing
 * device any more once the FUSE server behind it is dead.
 */
export async function detachLoops(listed: readonly Loop[]): Promise<void> {
  for (const loop of await loops()) {
    const same = listed.some(
      ({ name, backingDevice }) => name === loop.name && ['', backingDevice].includes(loop.backingDevice),
    );
    if (same) await exec('losetup', ['--detach', loop.name]);
  }
}

/**
 * Loop devices on a file system without a disk (FUSE is one) that no process has mounted any more, and that are not
 * mounted themselves: nobody can ever use them.
 */
async function orphanedLoops(): Promise<Loop[]> {
  const candidates = (await loops()).filter((loop) => loop.backingDevice.startsWith('0:'));
  if (candidates.length === 0) return [];
  const mounted = mountedDevices(pids(), false);
  return candidates.filter(
    (loop) => !mounted.has(loop.backingDevice) && !mounted.has(`7:${loop.name.replace('/dev/loop', '')}`),
  );
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

/** Ids of the plugins that a host's engine knows: they name cgroups beside those of its containers. */
export function pluginIds(dataRoot: string): string[] {
  const names = attempt(() => readdirSync(join(dataRoot, 'plugins'))) ?? [];
  return names.filter((name) => /^[0-9a-f]{64}$/.test(name));
}

/** "memory" -> "/where/this/process/is": where a hierarchy begins for the engines of this run. */
function ownCgroups(): Map<string, string> {
  const lines = (attempt(() => readFileSync('/proc/self/cgroup', 'utf8')) ?? '').split('\n');
  return new Map(
    lines.map((line) => {
      const [, controllers = '', path = ''] = line.split(':');
      return [controllers.replace(/^name=/, ''), path];
    }),
  );
}

/** Empty cgroups of that name, in each hierarchy of cgroup v1 and in v2. */
export function removeCgroups(name: string): void {
  const own = ownCgroups();
  const root = '/sys/fs/cgroup';
  const roots = [
    root,
    ...(attempt(() => readdirSync(root, { withFileTypes: true })) ?? [])
      .filter((entry) => entry.isDirectory() && !entry.name.startsWith(cgroupPrefix))
      .map((entry) => join(root, entry.name)),
  ];
  for (const hierarchy of roots) {
    for (const path of [join(hierarchy, name), join(hierarchy, own.get(basename(hierarchy)) ?? '', name)])
      if (existsSync(path)) removeTree(path);
  }
}

/** Those of the containers and plugins of a run. */
function removeCgroupsOf(stamp: string): void {
  const run = join(labRoot, stamp);
  for (const host of attempt(() => readdirSync(run)) ?? [])
    pluginIds(join(run, host, 'lib/docker')).forEach(removeCgroups);
  for (const hierarchy of ['', 'memory', 'pids', 'cpu', 'systemd', 'unified']) {
    const found = attempt(() => readdirSync(join('/sys/fs/cgroup', hierarchy))) ?? [];
    found.filter((name) => name.startsWith(`${cgroupPrefix}${stamp}`)).forEach(removeCgroups);
  }
}

/** Clears what runs left that died without cleaning up. Their processes died with them (see lab.ts). */
export async function sweepDeadRuns(): Promise<void> {
  const dead = (attempt(() => readdirSync(labRoot)) ?? []).filter((stamp) => !runIsAlive(stamp));
  for (const stamp of dead) {
    removeCgroupsOf(stamp);
    rmSync(join(labRoot, stamp), { recursive: true, force: true });
  }
  if (dead.length > 0) await detachLoops(await orphanedLoops());
}
