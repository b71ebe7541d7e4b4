import type { Case, Group } from '../case.js';
import { eventually, failed, must, ok, sleep, type Method, type Trial } from '../trial.js';
import { request } from '../wire.js';

const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

/** Sends a call, or the first bytes of one, and leaves after a while. Answers whether the answer came before. */
async function abandon(
  trial: Trial,
  method: Method,
  body: unknown,
  { afterMs, cutBytes = 0 }: { afterMs: number; cutBytes?: number },
): Promise<boolean> {
  const bytes = request(`/VolumeDriver.${method}`, JSON.stringify(body));
  const connection = await trial.open();
  connection.send(bytes.subarray(0, bytes.length - cutBytes));
  await sleep(afterMs);
  const answered = connection.unread;
  connection.close();
  const left = answered ? 'left with the answer' : 'left without an answer';
  trial.tell(`${method} ${JSON.stringify(body)} -> ${left} after ${String(afterMs)} ms`);
  return answered;
}

const departures = [0, 2, 20, 200];
/** For a driver that gives back in the background what a lost client had. */
const settleMs = 90_000;

const parallel: Case[] = [
  {
    name: 'ten Creates of one name at once make one volume, and all succeed',
    why: 'each host of a swarm creates the volume of its replica',
    async run(trial) {
      const name = trial.name();
      for (const answer of await Promise.all(times(10, () => trial.create(name)))) ok(answer);
      await trial.present(name);
      ok(await trial.remove(name));
      await trial.absent(name);
      return undefined;
    },
  },
  {
    name: 'ten Creates of ten names at once make ten volumes',
    why: 'docker compose up',
    async run(trial) {
      const names = times(10, () => trial.name());
      for (const answer of await Promise.all(names.map((name) => trial.create(name)))) ok(answer);
      for (const name of names) await trial.present(name);
      for (const answer of await Promise.all(names.map((name) => trial.remove(name)))) ok(answer);
      for (const name of names) await trial.absent(name);
      return undefined;
    },
  },
  {
    name: 'lookups are answered while volumes are made and removed',
    why: 'a driver that answers one call at a time hangs docker ps and volume ls',
    async run(trial) {
      const name = await trial.volume();
      const work = times(3, async () => {
        const other = trial.name();
        ok(await trial.create(other));
        ok(await trial.remove(other));
      });
      let done = false;
      const all = Promise.all(work).finally(() => (done = true));
      let slowest = 0;
      do {
        const start = performance.now();
        await trial.get(name);
        await trial.list();
        slowest = Math.max(slowest, performance.now() - start);
      } while (!(done as boolean));
      await all;
      return `slowest Get and List together: ${slowest.toFixed(0)} ms`;
    },
  },
  {
    name: 'Creates and Removes of one name at once leave all or nothing',
    why: 'one user removes what another creates',
    async run(trial) {
      for (let round = 0; round < 3; round += 1) {
        const name = await trial.volume();
        const answers = await Promise.all(
          times(8, (index) => (index % 2 === 0 ? trial.remove(name) : trial.create(name))),
        );
        for (const answer of answers) must(!answer.dropped, 'it must be answered', answer);
        await trial.agree(name);
        ok(await trial.create(name), 'it must be possible to make the volume now');
        await trial.present(name);
        ok(await trial.remove(name));
        await trial.absent(name);
      }
      return undefined;
    },
  },
];

const parallelMounts: Case[] = [
  {
    name: 'ten Mounts of ten IDs at once need ten Unmounts',
    why: 'Docker does not put mounts of one volume in order',
    async run(trial) {
      const name = await trial.volume();
      const ids = times(10, () => trial.id());
      await Promise.all(ids.map((id) => trial.mount(name, id)));
      const [last = '', ...rest] = ids;
      for (const answer of await Promise.all(rest.map((id) => trial.unmount(name, id)))) ok(answer);
      failed(await trial.remove(name), 'one ID still holds it: Remove must be refused');
      ok(await trial.unmount(name, last));
      ok(await trial.remove(name));
      return undefined;
    },
  },
  {
    name: 'ten Mounts of one ID at once need ten Unmounts',
    why: 'several docker cp on one container',
    async run(trial) {
      const name = await trial.volume();
      const id = trial.id();
      const mountpoints = await Promise.all(times(10, () => trial.mount(name, id)));
      must(new Set(mountpoints).size === 1, `one ID has several mountpoints: ${mountpoints.join(', ')}`);
      for (const answer of await Promise.all(times(9, () => trial.unmount(name, id)))) ok(answer);
      failed(await trial.remove(name), 'one mount is left: Remove must be refused');
      ok(await trial.unmount(name, id));
      ok(await trial.remove(name));
      return undefined;
    },
  },
  {
    name: 'a mix of Mount, Unmount and Remove ends with all or nothing',
    why: 'containers start and stop while somebody removes volumes',
    async run(trial) {
      const name = await trial.volume();
      const held = trial.id();
      await trial.mount(name, held);
      const answers = await Promise.all(
        times(12, async (index) => {
          if (index % 3 === 2) return { removed: await trial.remove(name) };
          const id = trial.id();
          const mounted = await trial.call('Mount', { Name: name, ID: id });
          if (mounted.err === '') ok(await trial.unmount(name, id));
          return {};
        }),
      );
      for (const { removed } of answers)
        if (removed) failed(removed, 'an ID held the volume all the time: Remove must be refused');
      await trial.present(name);
      ok(await trial.unmount(name, held));
      ok(await trial.remove(name));
      await trial.absent(name);
      return undefined;
    },
  },
];

const lost: Case[] = [
  {
    name: 'a client that leaves in the middle of Create does no harm',
    why: 'engines are killed, and give up after their time limit',
    async run(trial) {
      for (const afterMs of departures) {
        const name = trial.name();
        const body = { Name: name, Opts: trial.settings.createOpts };
        trial.touched.add(name);
        await abandon(trial, 'Create', body, { afterMs });
        ok(await trial.create(name), 'the same call again must succeed');
        await trial.present(name);
        ok(await trial.remove(name));
        await trial.absent(name);
      }
      return undefined;
    },
  },
  {
    name: 'a Create whose body breaks off makes nothing',
    why: 'half a name is a name',
    async run(trial) {
      const name = trial.name();
      const body = { Name: name, Opts: trial.settings.createOpts };
      trial.touched.add(name);
      await abandon(trial, 'Create', body, { afterMs: 20, cutBytes: 5 });
      await sleep(200);
      await trial.absent(name);
      return undefined;
    },
  },
  {
    name: 'a client that leaves in the middle of Remove does no harm',
    why: 'engines are killed, and give up after their time limit',
    async run(trial) {
      for (const afterMs of departures) {
        const name = await trial.volume();
        await abandon(trial, 'Remove', { Name: name }, { afterMs });
        const again = await trial.remove(name);
        must(!again.dropped, 'it must be answered', again);
        await trial.absent(name);
        ok(await trial.create(name), 'the name must be free again');
        ok(await trial.remove(name));
      }
      return undefined;
    },
  },
];

const lostMounts: Case[] = [
  {
    name: 'a client that leaves in the middle of Mount holds the volume no longer than its retry',
    why: 'Docker sends no Unmount for a Mount whose answer it did not get',
    async run(trial) {
      for (const afterMs of departures) {
        const name = await trial.volume();
        const id = trial.id();
        trial.expectMount(name, id);
        const answered = await abandon(trial, 'Mount', { Name: name, ID: id }, { afterMs });
        await trial.mount(name, id);
        if (answered) ok(await trial.unmount(name, id));
        ok(await trial.unmount(name, id));
        // Left in time to be rolled back; or answered before it was noticed that nobody was there to hear it.
        await eventually(settleMs, async () => ok(await trial.remove(name), 'nobody holds the volume'));
        await trial.absent(name);
      }
      return undefined;
    },
  },
  {
    name: 'a client that leaves in the middle of Unmount does no harm',
    why: 'Docker gives an Unmount up after a minute',
    async run(trial) {
      for (const afterMs of departures) {
        const name = await trial.volume();
        const id = trial.id();
        await trial.mount(name, id);
        await abandon(trial, 'Unmount', { Name: name, ID: id }, { afterMs });
        const again = await trial.unmount(name, id);
        must(!again.dropped, 'it must be answered', again);
        await eventually(settleMs, async () => ok(await trial.remove(name), 'nobody holds the volume'));
      }
      return undefined;
    },
  },
];

export const concurrency: Group = {
  name: 'concurrency',
  cases: [
    ...[...parallel, ...lost],
    ...[...parallelMounts, ...lostMounts].map((each): Case => ({ ...each, needs: 'mount' })),
  ],
};
