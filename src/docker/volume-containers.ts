/** The containers of a volume, as the engine lists them. */
import type Docker from 'dockerode';

export async function volumeUsers(docker: Docker, volume: string, signal: AbortSignal): Promise<string[]> {
  const users = await listUsers(docker, volume, { status: ['running', 'paused'], signal });
  return users.map((container) => (container.Names[0] ?? container.Id).replace(/^\//, ''));
}

async function listUsers(
  docker: Docker,
  volume: string,
  { status, signal }: { status: readonly string[]; signal: AbortSignal },
): Promise<Docker.ContainerInfo[]> {
  const filters = { volume: [volume], status: [...status] };
  const found = await docker.listContainers({ all: true, filters, abortSignal: signal });
  // The engine's filter takes a name for a prefix too.
  return found.filter((container) => container.Mounts.some((mount) => mount.Name === volume));
}

/** What the engine notes of a container whose start failed so. */
const WANTS_VOLUME = /error while mounting volume|VolumeDriver\.(Get|Mount)/;

export async function startUnmounted(
  docker: Docker,
  volume: string,
  abortSignal: AbortSignal,
): Promise<string[]> {
  const started: string[] = [];
  for (const { Id } of await listUsers(docker, volume, {
    status: ['exited'],
    signal: abortSignal,
  })) {
    const container = docker.getContainer(Id);
    const { Name, State, HostConfig } = await container.inspect({ abortSignal });
    const restarts = !['', 'no'].includes(HostConfig.RestartPolicy?.Name ?? '');
    if (!restarts || !WANTS_VOLUME.test(State.Error)) continue;
    await container.start({ abortSignal });
    started.push(Name.replace(/^\//, ''));
  }
  return started;
}
