/** All that an engine has, by kind: what there is, and what it says of each. */
import Docker from 'dockerode';
import type { Ctx } from '../context.js';
import { call, orAbsent } from './engine-call.js';
import { saysNoManager } from './swarm.js';

export const objectKinds = [
  'container',
  'image',
  'plugin',
  'volume',
  'network',
  'daemon',
  'service',
  'node',
  'secret',
  'config',
] as const;
export type ObjectKind = (typeof objectKinds)[number];

/** As the engine's API answers it. */
export type Inspected = Readonly<Record<string, unknown>>;

export interface EngineObjects {
  /** Ids, a volume's name. None of swarm's kinds where the engine is no manager. @throws AppError `unavailable` */
  list(ctx: Ctx, kind: ObjectKind): Promise<string[]>;
  /** Null when it is gone. @throws AppError `unavailable`; `internal` when the engine fails over it. */
  inspect(ctx: Ctx, kind: ObjectKind, id: string): Promise<Inspected | null>;
}

/** An object of a driver that does not answer, say, holds up none of the others for longer. */
const TIMEOUT_MS = 15_000;

export function createEngineObjects(socketPath: string, timeoutMs = TIMEOUT_MS): EngineObjects {
  const docker = new Docker({ socketPath });
  const list = listers(docker);
  const inspect = inspectors(docker);
  return {
    list: (ctx, kind) =>
      call(
        ctx,
        `list every ${kind}`,
        (signal) => whereManager(kind, () => list[kind](signal), []),
        timeoutMs,
      ),
    inspect: (ctx, kind, id) =>
      call(
        ctx,
        `inspect ${kind} ${id}`,
        (signal) =>
          whereManager(
            kind,
            () => orAbsent(async () => (await inspect[kind](id, signal)) as Inspected, null),
            null,
          ),
        timeoutMs,
      ),
  };
}

/** An engine that is no manager, or no more, knows no object of Swarm's. */
async function whereManager<T>(kind: ObjectKind, operation: () => Promise<T>, otherwise: T): Promise<T> {
  try {
    return await operation();
  } catch (reason) {
    if (isOfSwarm(kind) && saysNoManager(reason)) return otherwise;
    throw reason;
  }
}

function isOfSwarm(kind: ObjectKind): boolean {
  return ['service', 'node', 'secret', 'config'].includes(kind);
}

/** The types of the package leave out what each of these calls takes: an abort signal. */
interface Calls {
  listContainers(options: unknown): Promise<{ Id: string }[]>;
  listImages(options: unknown): Promise<{ Id: string }[]>;
  listPlugins(options: unknown): Promise<{ Id: string }[]>;
  listVolumes(options: unknown): Promise<{ Volumes: { Name: string }[] | null }>;
  listNetworks(options: unknown): Promise<{ Id: string }[]>;
  listServices(options: unknown): Promise<{ ID: string }[]>;
  listNodes(options: unknown): Promise<{ ID: string }[]>;
  listSecrets(options: unknown): Promise<{ ID: string }[]>;
  listConfigs(options: unknown): Promise<{ ID: string }[]>;
  info(options: unknown): Promise<{ ID: string }>;
}

// The double cast: the package's own declarations have no parameter, or another's answer, so the types do not overlap.
const callsOf = (docker: Docker) => docker as unknown as Calls;

function listers(docker: Docker): Record<ObjectKind, (abortSignal: AbortSignal) => Promise<string[]>> {
  const calls = callsOf(docker);
  const big = async (found: Promise<{ Id: string }[]>) => (await found).map(({ Id }) => Id);
  const small = async (found: Promise<{ ID: string }[]>) => (await found).map(({ ID }) => ID);
  return {
    container: (abortSignal) => big(calls.listContainers({ all: true, abortSignal })),
    image: (abortSignal) => big(calls.listImages({ abortSignal })),
    plugin: (abortSignal) => big(calls.listPlugins({ abortSignal })),
    volume: async (abortSignal) =>
      ((await calls.listVolumes({ abortSignal })).Volumes ?? []).map(({ Name }) => Name),
    network: (abortSignal) => big(calls.listNetworks({ abortSignal })),
    daemon: async (abortSignal) => [(await calls.info({ abortSignal })).ID],
    service: (abortSignal) => small(calls.listServices({ abortSignal })),
    node: (abortSignal) => small(calls.listNodes({ abortSignal })),
    secret: (abortSignal) => small(calls.listSecrets({ abortSignal })),
    config: (abortSignal) => small(calls.listConfigs({ abortSignal })),
  };
}

interface Inspectable {
  inspect(options: { abortSignal: AbortSignal }): Promise<unknown>;
}

function inspectors(
  docker: Docker,
): Record<ObjectKind, (id: string, abortSignal: AbortSignal) => Promise<unknown>> {
  const of = (find: (id: string) => unknown) => (id: string, abortSignal: AbortSignal) =>
    (find(id) as Inspectable).inspect({ abortSignal });
  return {
    container: of((id) => docker.getContainer(id)),
    image: (id, abortSignal) => get(docker, `/images/${id}/json`, abortSignal),
    plugin: of((id) => docker.getPlugin(id, '')),
    volume: of((id) => docker.getVolume(id)),
    network: (id, abortSignal) => get(docker, `/networks/${id}`, abortSignal),
    daemon: async (id, abortSignal) => {
      const info = await callsOf(docker).info({ abortSignal });
      // Another engine by now, or the same under a new name.
      return info.ID === id ? info : null;
    },
    service: of((id) => docker.getService(id)),
    node: of((id) => docker.getNode(id)),
    secret: of((id) => docker.getSecret(id)),
    config: of((id) => docker.getConfig(id)),
  };
}

interface Dialer {
  dial(request: object, answered: (reason: Error | null, answer: unknown) => void): void;
}

/** For what the package's own `inspect` does not pass the signal on: a call of it would never end. */
function get(docker: Docker, path: string, abortSignal: AbortSignal): Promise<unknown> {
  const statusCodes = { 200: true, 404: 'no such object', 500: 'server error' };
  return new Promise((resolve, reject) => {
    (docker.modem as Dialer).dial({ path, method: 'GET', abortSignal, statusCodes }, (reason, answer) => {
      if (reason) reject(reason);
      else resolve(answer);
    });
  });
}
