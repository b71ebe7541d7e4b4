import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { release } from 'node:os';
import path from 'node:path';
import { count } from '../table.js';
import { type Check, fail, ok, warn } from './check.js';

export function lookAtCgroups(): Check {
  if (existsSync('/sys/fs/cgroup/cgroup.controllers')) return ok('cgroups', 'version 2');
  const older = ['memory', 'pids', 'devices'].filter((name) => existsSync(path.join('/sys/fs/cgroup', name)));
  if (older.length === 3) return ok('cgroups', 'version 1');
  const found = older.length === 0 ? 'none below /sys/fs/cgroup' : `of version 1 only ${older.join(', ')}`;
  const todo = 'mount them: cgroup2 at /sys/fs/cgroup, or the package cgroupfs-mount';
  return fail('cgroups', found, 'the engine cannot run the containers of volumes', todo);
}

export function lookAtKernel(): Check {
  return judgeKernel(release());
}

const OLDEST = [5, 10] as const;

export function judgeKernel(version: string): Check {
  const [major = 0, minor = 0] = version.split(/[.-]/).map(Number);
  const isOld = major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]);
  if (!isOld) return ok('kernel', version);
  return warn(
    'kernel',
    version,
    'nobody has tried volumes on a kernel older than 5.10',
    'upgrade the kernel',
  );
}

export async function lookAtFuse(): Promise<Check> {
  return judgeDevice('FUSE', '/dev/fuse', 'fuse', await openingOf('/dev/fuse'));
}

/** The system's error code; empty when it can be opened. */
async function openingOf(device: string): Promise<string> {
  try {
    const handle = await open(device, 'r+');
    await handle.close();
    return '';
  } catch (reason) {
    return (reason as NodeJS.ErrnoException).code ?? String(reason);
  }
}

export function judgeDevice(name: string, device: string, module: string, code: string): Check {
  if (code === '') return ok(name, device);
  const means = 'the disk of a volume cannot be made here: no volume can be mounted';
  if (code === 'EACCES' || code === 'EPERM')
    return warn(name, `${device} may not be opened`, 'whether it works is not known', 'run the same as root');
  if (code === 'ENOENT')
    return fail(name, `${device} is missing`, means, `load the kernel module: modprobe ${module}`);
  return fail(
    name,
    `${device} cannot be opened (${code})`,
    means,
    `load the kernel module: modprobe ${module}`,
  );
}

export async function lookAtLoop(): Promise<Check> {
  const control = judgeDevice(
    'loop devices',
    '/dev/loop-control',
    'loop',
    await openingOf('/dev/loop-control'),
  );
  if (control.state !== 'ok') return control;
  const nodes = names('/dev').filter((name) => /^loop\d+$/.test(name));
  const used = names('/sys/block').filter((name) => existsSync(`/sys/block/${name}/loop/backing_file`));
  return judgeLoop({
    nodes: nodes.length,
    free: nodes.filter((name) => !used.includes(name)).length,
    used: used.length,
    grows: devIsKept(),
  });
}

export interface LoopFacts {
  /** Names in /dev. */
  readonly nodes: number;
  readonly free: number;
  readonly used: number;
  /** The kernel makes names for new ones by itself. */
  readonly grows: boolean;
}

export function judgeLoop({ nodes, free, used, grows }: LoopFacts): Check {
  const found = `${count(used, 'device')} in use, ${String(free)} free`;
  if (grows) return ok('loop devices', `${found}, more are made when they are wanted`);
  if (free > 0) return ok('loop devices', found);
  const todo = `make more: mknod /dev/loop${String(nodes)} b 7 ${String(nodes)}, or mount a devtmpfs at /dev`;
  return warn(
    'loop devices',
    found,
    'each mounted volume takes one, and /dev gets no new ones by itself',
    todo,
  );
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function devIsKept(): boolean {
  try {
    return readFileSync('/proc/self/mounts', 'utf8').includes(' /dev devtmpfs ');
  } catch {
    return false;
  }
}
