import { type Engine, EngineRefusal } from '../engine-client.js';
import { type Check, fail, ok, warn } from './check.js';

/** As the engine answers, as far as it is of use here. */
export interface EngineFacts {
  readonly ServerVersion?: string;
  readonly SecurityOptions?: readonly string[] | null;
  readonly CgroupDriver?: string;
  readonly CgroupVersion?: string;
  readonly OSType?: string;
  readonly Architecture?: string;
}

export async function lookAtEngine(engine: Engine): Promise<Check[]> {
  try {
    return judgeEngine(engine.endpoint, (await engine.ask('/info')) as EngineFacts);
  } catch (reason) {
    return [unreachable(engine, reason as NodeJS.ErrnoException)];
  }
}

/** The first whose handling of plugins, mounts and restart policies is what the driver counts on. */
const OLDEST = [20, 10] as const;

export function judgeEngine(endpoint: string, info: EngineFacts): Check[] {
  return [judgeVersion(endpoint, info), judgeKind(info)];
}

function judgeVersion(endpoint: string, { ServerVersion = '' }: EngineFacts): Check {
  const found = `Docker ${ServerVersion} at ${endpoint}`;
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(ServerVersion) ?? [];
  const [oldestMajor, oldestMinor] = OLDEST;
  const isOld = Number(major) < oldestMajor || (Number(major) === oldestMajor && Number(minor) < oldestMinor);
  if (!isOld) return ok('engine', found);
  return fail('engine', found, 'the volume driver needs 20.10 or newer', 'upgrade the engine');
}

function judgeKind({
  SecurityOptions,
  CgroupDriver,
  OSType = 'linux',
  Architecture = 'x86_64',
}: EngineFacts): Check {
  const options = SecurityOptions ?? [];
  if (options.some((option) => option.includes('name=rootless'))) {
    const means = 'volumes need devices and mounts that a rootless engine may not have';
    return fail('kind of engine', 'rootless', means, 'use an engine that runs as root');
  }
  if (OSType !== 'linux' || Architecture !== 'x86_64')
    return fail(
      'kind of engine',
      `${OSType} on ${Architecture}`,
      'there is no plugin for it',
      'use Linux on x86-64',
    );
  if (CgroupDriver === 'none')
    return fail(
      'kind of engine',
      'without cgroups',
      'containers cannot be kept apart',
      'mount /sys/fs/cgroup and restart the engine',
    );
  return ok('kind of engine', `runs as root, Linux on ${Architecture}`);
}

const absent = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTDIR']);

function unreachable({ endpoint, socketPath }: Engine, reason: NodeJS.ErrnoException): Check {
  const { code = '', message } = reason;
  if (socketPath === null) {
    const todo = 'run this with DOCKER_HOST unset and --context default, on the host that is meant';
    return warn(
      'engine',
      `docker talks to ${endpoint}`,
      'that is another host, and this one is looked at',
      todo,
    );
  }
  if (code === 'EACCES') {
    const todo = 'run the same as root, or add this user to the group docker';
    return fail('engine', `${endpoint} may not be opened`, 'nothing can be said of the engine', todo);
  }
  if (absent.has(code)) {
    const todo = 'start it (systemctl start docker), or install Docker Engine 20.10 or newer';
    return fail(
      'engine',
      `nobody listens at ${endpoint}`,
      'there is no engine that volumes could be for',
      todo,
    );
  }
  const what = reason instanceof EngineRefusal || message !== '' ? message : String(reason);
  return fail('engine', `${endpoint}: ${what}`, 'the engine does not work', "see the engine's log");
}
