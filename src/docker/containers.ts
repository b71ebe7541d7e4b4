/** Containers as the engine lists them: those of a volume, and ours. */
import type Docker from 'dockerode';
import { statusOf } from './engine-call.js';

/** One that has it mounted at two places is named twice: the engine mounts it for each. */
export async function volumeUsers(
  docker: Docker,
  volume: string,
  abortSignal: AbortSignal,
): Promise<string[]> {
  const filters = { volume: [volume], status: ['running', 'paused'] };
  const found = await docker.listContainers({ all: true, filters, abortSignal });
  // The engine's filter takes a name for a prefix too.
  return found.flatMap((container) =>
    container.Mounts.filter(({ Name }) => Name === volume).map(() => nameOf(container)),
  );
}

export async function containersWith(
  docker: Docker,
  label: string,
  abortSignal: AbortSignal,
): Promise<string[]> {
  const found = await docker.listContainers({ all: true, filters: { label: [label] }, abortSignal });
  return found.map(nameOf);
}

/** By id and without force: the engine keeps what runs by then, and what has been made anew under the name. */
export async function removeEnded(
  docker: Docker,
  { label, isLeft }: { label: string; isLeft: (name: string) => Promise<boolean> },
  abortSignal: AbortSignal,
): Promise<string[]> {
  const filters = { label: [label], status: ['created', 'exited', 'dead'] };
  const removed: string[] = [];
  const failed: unknown[] = [];
  for (const listed of await docker.listContainers({ all: true, filters, abortSignal })) {
    if (!(await isLeft(nameOf(listed)))) continue;
    try {
      await docker.getContainer(listed.Id).remove({ abortSignal });
      removed.push(nameOf(listed));
    } catch (reason) {
      // One whose end hangs keeps none of the others.
      if (statusOf(reason) !== 404 && statusOf(reason) !== 409) failed.push(reason);
    }
  }
  if (failed.length > 0) throw failed[0];
  return removed;
}

function hasOneOf({ Mounts }: Docker.ContainerInfo, volumes: ReadonlySet<string>): boolean {
  return Mounts.some((mount) => mount.Name !== undefined && volumes.has(mount.Name));
}

function nameOf({ Names, Id }: Docker.ContainerInfo): string {
  return (Names[0] ?? Id).replace(/^\//, '');
}

/**
 * What the engine notes of a container whose start failed so: the mount did, or the plugin died over it, or was
 * disabled, or its mounts did not reach the engine (seen-mounts.ts). An engine that was killed while it started, and
 * started again, may meet what containerd still has of the container; it tries each once.
 */
const WANTS_VOLUME = new RegExp(
  [
    'error while mounting volume',
    'VolumeDriver\\.(Get|Mount)',
    'error looking up volume plugin',
    '/propagated-mount/.*no such file',
    'task [0-9a-f]{64}:? already exists',
    'id already in use',
  ].join('|'),
);

export interface Started {
  /** Names. */
  readonly started: readonly string[];
  readonly failed: readonly {
    readonly container: string;
    readonly volumes: string[];
    readonly reason: string;
  }[];
}

export async function startUnmounted(
  docker: Docker,
  volumes: ReadonlySet<string>,
  abortSignal: AbortSignal,
): Promise<Started> {
  const exited = await docker.listContainers({ all: true, filters: { status: ['exited'] }, abortSignal });
  const started: string[] = [];
  const failed: Started['failed'][number][] = [];
  for (const listed of exited.filter((container) => hasOneOf(container, volumes))) {
    const container = docker.getContainer(listed.Id);
    try {
      const { State, HostConfig } = await container.inspect({ abortSignal });
      const restarts = !['', 'no'].includes(HostConfig.RestartPolicy?.Name ?? '');
      if (!restarts || !WANTS_VOLUME.test(State.Error)) continue;
      await container.start({ abortSignal });
      started.push(nameOf(listed));
    } catch (reason) {
      // One that cannot be started keeps no other down; an engine that is gone does.
      if (statusOf(reason) === undefined) throw reason;
      const wanted = listed.Mounts.map(({ Name }) => Name ?? '').filter((name) => volumes.has(name));
      failed.push({ container: nameOf(listed), volumes: wanted, reason: String(reason) });
    }
  }
  return { started, failed };
}
