import type Docker from 'dockerode';
import { expect, it } from 'vitest';
import { removeEnded, startUnmounted } from '../../../src/docker/containers.js';

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
      start: () =>
        exited[id]?.broken
          ? Promise.reject(Object.assign(new Error('no'), { statusCode: 500 }))
          : Promise.resolve(),
    }),
  };
  // Three calls of a class that cannot be implemented otherwise.
  const { signal } = new AbortController();
  const { started, failed } = await startUnmounted(docker as unknown as Docker, new Set(['db']), signal);
  const broken = Object.keys(exited).filter((name) => exited[name]?.broken);
  expect(failed.map(({ container, volumes }) => [container, volumes])).toEqual(
    broken.map((name) => [name, ['db']]),
  );
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

it('one that cannot be started keeps no other down, and is told', async () => {
  const error = 'error while mounting volume';
  expect(await startedOf({ broken: { error, broken: true }, well: { error } })).toEqual(['well']);
  expect(await startedOf({ broken: { error, broken: true } })).toEqual([]);
});

it('containers that were never started are removed by id and without force, if they are left', async () => {
  const removed: unknown[] = [];
  const listed = ['left', 'kept', 'running', 'gone'].map((name) => ({
    Id: `${name}-id`,
    Names: [`/${name}`],
  }));
  const docker = {
    listContainers: (options: unknown) => {
      expect(options).toMatchObject({
        all: true,
        filters: { label: ['role'], status: ['created', 'exited', 'dead'] },
      });
      return Promise.resolve(listed);
    },
    getContainer: (id: string) => ({
      remove: ({ force }: { force?: boolean }) => {
        if (id !== 'left-id')
          return Promise.reject(Object.assign(new Error('no'), { statusCode: id === 'gone-id' ? 404 : 409 }));
        removed.push([id, force]);
        return Promise.resolve();
      },
    }),
  };
  const isLeft = (name: string) => Promise.resolve(name !== 'kept');
  const { signal } = new AbortController();
  const options = { label: 'role', isLeft };
  // Two calls of that class, as above.
  expect(await removeEnded(docker as unknown as Docker, options, signal)).toEqual(['left']);
  expect(removed).toEqual([['left-id', undefined]]);
});
