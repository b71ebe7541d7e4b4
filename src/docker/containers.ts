/** Containers as the engine lists them: those of a volume, and ours. */
import type Docker from 'dockerode';

export async function volumeUsers(
  docker: Docker,
  volume: string,
  abortSignal: AbortSignal,
): Promise<string[]> {
  const filters = { volume: [volume], status: ['running', 'paused'] };
  const found = await docker.listContainers({ all: true, filters, abortSignal });
  // The engine's filter takes a name for a prefix too.
  return found.filter((container) => hasOneOf(container, new Set([volume]))).map(nameOf);
}

export async function containersWith(
  docker: Docker,
  filters: Readonly<Record<string, string[]>>,
  abortSignal: AbortSignal,
): Promise<string[]> {
  const found = await docker.listContainers({ all: true, filters: { ...filters }, abortSignal });
  return found.map(nameOf);
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
  readonly started: readonly string[];
  /** False when others could not be started. */
  readonly all: boolean;
}

export async function startUnmounted(
  docker: Docker,
  volumes: ReadonlySet<string>,
  abortSignal: AbortSignal,
): Promise<Started> {
  const exited = await docker.listContainers({ all: true, filters: { status: ['exited'] }, abortSignal });
  const started: string[] = [];
  const failures: unknown[] = [];
  for (const listed of exited.filter((container) => hasOneOf(container, volumes))) {
    const container = docker.getContainer(listed.Id);
    try {
      const { State, HostConfig } = await container.inspect({ abortSignal });
      const restarts = !['', 'no'].includes(HostConfig.RestartPolicy?.Name ?? '');
      if (!restarts || !WANTS_VOLUME.test(State.Error)) continue;
      await container.start({ abortSignal });
      started.push(nameOf(listed));
    } catch (reason) {
      // One that cannot be started keeps no other down.
      failures.push(reason);
    }
  }
  if (failures.length > 0 && started.length === 0) throw failures[0];
  return { started, all: failures.length === 0 };
}
