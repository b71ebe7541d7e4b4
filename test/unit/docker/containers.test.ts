import type Docker from 'dockerode';
import { expect, it } from 'vitest';
import { startUnmounted } from '../../../src/docker/containers.js';

interface Exited {
  readonly error: string;
  readonly restart?: string;
  readonly volume?: string;
  /** Cannot be started at all. */
  readonly broken?: boolean;
}

/** Names of what is started, of containers that have ended so. */
async function startedOf(exited: Readonly<Record<string, Exited>>): Promise<string[]> {
  const docker = {
    listContainers: () =>
      Promise.resolve(
        Object.entries(exited).map(([name, { volume = 'db' }]) => ({
          Id: name,
          Names: [`/${name}`],
          Mounts: [{ Name: volume }],
        })),
      ),
    getContainer: (id: string) => ({
      inspect: () =>
        Promise.resolve({
          State: { Error: exited[id]?.error },
          HostConfig: { RestartPolicy: { Name: exited[id]?.restart ?? 'always' } },
        }),
      start: () => (exited[id]?.broken ? Promise.reject(new Error('no')) : Promise.resolve()),
    }),
  };
  // Three calls of a class that cannot be implemented otherwise.
  const { signal } = new AbortController();
  const { started, all } = await startUnmounted(docker as unknown as Docker, new Set(['db']), signal);
  expect(all).toBe(!Object.values(exited).some(({ broken }) => broken));
  return [...started];
}

const id = 'a'.repeat(64);

it.each([
  'error while mounting volume /var/lib/docker/plugins/x: VolumeDriver.Mount: etcd is away',
  'Post "http://%2Frun%2Fdocker%2Fplugins%2Fx%2Fopenebs.sock/VolumeDriver.Mount": EOF',
  'VolumeDriver.Get: still starting',
  'error looking up volume plugin openebs: plugin "openebs" not found',
  `OCI runtime create failed: lstat /var/lib/docker/plugins/x/propagated-mount/v1/data: no such file or directory`,
  `task ${id}: already exists`,
  'id already in use',
  `failed to create task for container: task ${id}: already exists: unknown`,
])('a container whose start failed with "%s" is started', async (error) => {
  expect(await startedOf({ one: { error } })).toEqual(['one']);
});

it('others are left as they are: what ended by itself, was not to come back, or has none of the volumes', async () => {
  const error = 'error while mounting volume';
  expect(
    await startedOf({
      ended: { error: '' },
      wrong: { error: 'OCI runtime create failed: exec: "nothing": executable file not found' },
      once: { error, restart: 'no' },
      never: { error, restart: '' },
      other: { error, volume: 'other' },
      right: { error, restart: 'unless-stopped' },
    }),
  ).toEqual(['right']);
});

it('one that cannot be started keeps no other down, and is told when it is the only one', async () => {
  const error = 'error while mounting volume';
  expect(await startedOf({ broken: { error, broken: true }, well: { error } })).toEqual(['well']);
  await expect(startedOf({ broken: { error, broken: true } })).rejects.toThrow('no');
});
