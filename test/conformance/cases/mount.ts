import type { Case, Group } from '../case.js';
import { failed, must, ok } from '../trial.js';

const cases: Omit<Case, 'needs'>[] = [
  {
    name: 'Mount answers an absolute path; Path and Get say the same, or nothing',
    why: 'Docker binds what it is told into the container',
    async run(trial) {
      const name = await trial.volume();
      const id = trial.id();
      const mountpoint = await trial.mount(name, id);
      must(mountpoint.startsWith('/'), `the mountpoint is ${mountpoint}`);
      const path = ok(await trial.call('Path', { Name: name })).json['Mountpoint'];
      const { Mountpoint: got } = await trial.get(name);
      for (const seen of [path, got])
        must(
          seen == null || seen === '' || seen === mountpoint,
          `Mount answers ${mountpoint}, later ${String(seen)}`,
        );
      ok(await trial.unmount(name, id));
      ok(await trial.remove(name));
      return mountpoint;
    },
  },
  {
    name: 'a volume is mounted, unmounted and mounted again',
    why: 'docker run mounts twice when it copies the content of an image',
    async run(trial) {
      const name = await trial.volume();
      for (let round = 0; round < 3; round += 1) {
        const id = trial.id();
        await trial.mount(name, id);
        ok(await trial.unmount(name, id));
      }
      ok(await trial.remove(name));
      await trial.absent(name);
      return undefined;
    },
  },
  {
    name: 'Remove of a mounted volume is refused, and the volume still works',
    why: 'after one failed Get Docker has forgotten who uses a volume, and sends Remove',
    async run(trial) {
      const name = await trial.volume();
      const [one, two] = [trial.id(), trial.id()];
      await trial.mount(name, one);
      const refused = failed(await trial.remove(name), 'Remove of a mounted volume must be refused');
      await trial.present(name);
      await trial.mount(name, two);
      ok(await trial.unmount(name, two));
      failed(await trial.remove(name), 'Remove of a mounted volume must be refused');
      ok(await trial.unmount(name, one));
      ok(await trial.remove(name));
      return refused.took;
    },
  },
  {
    name: 'two IDs hold a volume until both have let go',
    why: 'two containers share a volume; the first to stop must not take it away',
    async run(trial) {
      const name = await trial.volume();
      const [one, two] = [trial.id(), trial.id()];
      await trial.mount(name, one);
      await trial.mount(name, two);
      ok(await trial.unmount(name, one));
      failed(await trial.remove(name), 'the second ID still holds it: Remove must be refused');
      ok(await trial.unmount(name, two));
      ok(await trial.remove(name));
      return undefined;
    },
  },
  {
    name: 'the same ID mounted twice needs two Unmounts',
    why: 'docker cp mounts with the ID of the running container, and unmounts with it',
    async run(trial) {
      const name = await trial.volume();
      const id = trial.id();
      const first = await trial.mount(name, id);
      const second = await trial.mount(name, id);
      must(first === second, `one ID has two mountpoints: ${first}, ${second}`);
      ok(await trial.unmount(name, id));
      failed(await trial.remove(name), 'the container still runs: Remove must be refused');
      ok(await trial.unmount(name, id));
      ok(await trial.remove(name), 'nothing holds the volume any more');
      return undefined;
    },
  },
  {
    name: 'Create of a mounted volume leaves it mounted',
    why: 'Docker creates again what it has forgotten',
    async run(trial) {
      const name = await trial.volume();
      const id = trial.id();
      const before = await trial.mount(name, id);
      ok(await trial.create(name));
      const again = await trial.mount(name, id);
      must(before === again, `the mountpoint changes: ${before}, ${again}`);
      ok(await trial.unmount(name, id));
      failed(await trial.remove(name), 'the volume is mounted: Remove must be refused');
      ok(await trial.unmount(name, id));
      return undefined;
    },
  },
  {
    name: 'a late Unmount of a removed volume harms none that has its name now',
    why: 'the Unmount of a container that was killed may come after its volume went',
    async run(trial) {
      const name = await trial.volume();
      const [old, fresh] = [trial.id(), trial.id()];
      await trial.mount(name, old);
      ok(await trial.unmount(name, old));
      ok(await trial.remove(name));
      ok(await trial.create(name));
      await trial.mount(name, fresh);
      await trial.unmount(name, old);
      failed(await trial.remove(name), 'the volume is mounted: Remove must be refused');
      ok(await trial.unmount(name, fresh));
      return undefined;
    },
  },
  {
    name: 'IDs of any shape are kept apart',
    why: 'engines send 64 hexadecimal digits; other clients send names',
    async run(trial) {
      const name = await trial.volume();
      const ids = ['x', '__proto__', '../x', 'a b', 'x'.repeat(300)];
      const taken: string[] = [];
      for (const ID of ids) {
        const answer = await trial.call('Mount', { Name: name, ID });
        must(!answer.dropped, 'it must be answered', answer);
        if (answer.err === '') taken.push(ID);
      }
      for (const [index, id] of taken.entries()) {
        ok(await trial.unmount(name, id));
        if (index < taken.length - 1)
          failed(await trial.remove(name), 'other IDs hold it: Remove must be refused');
      }
      ok(await trial.remove(name));
      return `${String(taken.length)} of ${String(ids.length)} shapes taken`;
    },
  },
];

export const mount: Group = { name: 'mount', cases: cases.map((each) => ({ ...each, needs: 'mount' })) };
