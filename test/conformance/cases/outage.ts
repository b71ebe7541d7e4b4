/**
 * The driver's backend is away. Docker takes any answer of Get but a volume for "no such volume", and then
 * forgets labels, options and the containers that use it: so what was known must stay known.
 */
import type { Case, Group } from '../case.js';
import { eventually, failed, must, ok, type Trial } from '../trial.js';
import { fill, measures } from './latency.js';

interface Known {
  readonly names: readonly string[];
  readonly createdAt: unknown;
  /** One of our own, not mounted. */
  readonly idle: string;
  /** To be removed meanwhile. */
  readonly doomed: string;
}

const before = new WeakMap<Trial, Known>();

async function prepare(trial: Trial): Promise<void> {
  await fill(trial);
  const [idle, doomed] = [await trial.volume(), await trial.volume()];
  const { CreatedAt: createdAt } = await trial.get(idle);
  const names = (await trial.list()).map(({ Name }) => String(Name)).sort();
  before.set(trial, { names, createdAt, idle, doomed });
}

function known(trial: Trial): Known {
  const found = before.get(trial);
  must(found !== undefined, 'the volumes for the outage could not be made');
  return found;
}

const reads: Case[] = [
  {
    name: 'Get of a known volume answers the volume',
    why: 'any other answer makes Docker forget its labels, options and containers',
    async run(trial) {
      const { idle, createdAt } = known(trial);
      for (let round = 0; round < 20; round += 1) {
        const { CreatedAt } = await trial.get(idle);
        must(CreatedAt === createdAt, `CreatedAt was ${String(createdAt)}, now ${String(CreatedAt)}`);
      }
      return undefined;
    },
  },
  {
    name: 'Get of each volume answers the volume',
    why: 'at its start Docker asks for all volumes it knows',
    async run(trial) {
      const { names } = known(trial);
      const connection = await trial.open();
      for (const name of names) {
        const answer = ok(await trial.on(connection, 'Get', JSON.stringify({ Name: name })));
        const volume = answer.json['Volume'] as { Name?: unknown } | null | undefined;
        must(volume?.Name === name, `Get must answer ${name}`, answer);
      }
      connection.close();
      return `${String(names.length)} volumes`;
    },
  },
  {
    name: 'List answers all that was there',
    why: 'docker volume ls shows an error otherwise',
    async run(trial) {
      const { names } = known(trial);
      const listed = new Set((await trial.list()).map(({ Name }) => String(Name)));
      const missing = names.filter((name) => !listed.has(name));
      must(missing.length === 0, `${String(missing.length)} volumes are missing, as ${String(missing[0])}`);
      return `${String(listed.size)} volumes`;
    },
  },
  {
    name: 'Path of a known volume is answered',
    why: 'it is not known to be gone',
    async run(trial) {
      return ok(await trial.call('Path', { Name: known(trial).idle })).took;
    },
  },
  {
    name: "Get of an unknown volume ends within Docker's limit, and finds none",
    why: 'Docker asks every driver for a name it does not know: a driver that hangs hangs docker',
    async run(trial) {
      const answer = await trial.call('Get', { Name: trial.name() });
      must(answer.dropped || answer.err !== '', 'it must answer Err, or drop the connection', answer);
      return answer.took;
    },
  },
  {
    name: 'lookups of unknown volumes hold up none of known ones',
    why: 'one hung call must not hang all',
    async run(trial) {
      const { idle } = known(trial);
      const unknown = Promise.all(
        Array.from({ length: 20 }, () => trial.call('Get', { Name: trial.name() }).catch(() => undefined)),
      );
      const start = performance.now();
      await trial.get(idle);
      const took = performance.now() - start;
      must(took < 10_000, `Get of a known volume took ${took.toFixed(0)} ms`);
      await unknown;
      return `${took.toFixed(0)} ms`;
    },
  },
];

const writes: Case[] = [
  {
    name: "Create ends within Docker's limit, with a volume or a reason",
    why: 'a reason of the driver helps the user; a timeout of Docker is repeated without the body',
    async run(trial) {
      const name = trial.name();
      const answer = await trial.create(name);
      must(!answer.dropped, 'it must be answered', answer);
      if (answer.err === '') await trial.get(name);
      return answer.took;
    },
  },
  {
    name: "Create of a volume that exists ends within Docker's limit, and changes nothing",
    why: 'Docker creates again what it has forgotten',
    async run(trial) {
      const { idle, createdAt } = known(trial);
      const answer = await trial.create(idle);
      must(!answer.dropped, 'it must be answered', answer);
      must((await trial.get(idle)).CreatedAt === createdAt, 'CreatedAt has changed');
      return answer.took;
    },
  },
  {
    name: "Mount and Unmount end within Docker's limit",
    why: 'containers that start meanwhile',
    needs: 'mount',
    async run(trial) {
      const { idle } = known(trial);
      const id = trial.id();
      const mounted = await trial.call('Mount', { Name: idle, ID: id });
      must(!mounted.dropped, 'it must be answered', mounted);
      const unmounted = await trial.unmount(idle, id);
      must(!unmounted.dropped, 'it must be answered', unmounted);
      await trial.get(idle);
      return mounted.took;
    },
  },
  {
    name: "Remove ends within Docker's limit, and Get and List agree after it",
    why: 'half a removal must not look like a volume',
    async run(trial) {
      const { doomed } = known(trial);
      const answer = await trial.remove(doomed);
      must(!answer.dropped, 'it must be answered', answer);
      const there = (await trial.listed(doomed)).length > 0;
      const get = await trial.call('Get', { Name: doomed });
      must((get.err === '') === there, `List ${there ? 'has' : 'lacks'} it, but Get differs`, get);
      return answer.took;
    },
  },
];

const recovery: Case[] = [
  {
    name: 'volumes can be made again soon after the outage',
    why: 'a driver must find its backend again by itself',
    async run(trial) {
      const name = trial.name();
      await eventually(90_000, async () => ok(await trial.create(name)));
      await trial.present(name);
      return undefined;
    },
  },
  {
    name: 'all that was there before is there, and is the same',
    why: 'what was answered from a cache must have been true',
    async run(trial) {
      const { names, idle, createdAt, doomed } = known(trial);
      const listed = new Set((await trial.list()).map(({ Name }) => String(Name)));
      const missing = names.filter((name) => name !== doomed && !listed.has(name));
      must(missing.length === 0, `missing: ${missing.join(', ')}`);
      must((await trial.get(idle)).CreatedAt === createdAt, 'CreatedAt has changed');
      return undefined;
    },
  },
  {
    name: 'a volume that was used in the outage mounts, unmounts and goes',
    why: 'no count or attachment may be left of what failed',
    needs: 'mount',
    async run(trial) {
      const { idle } = known(trial);
      const id = trial.id();
      await eventually(60_000, () => trial.mount(idle, id));
      failed(await trial.remove(idle), 'it is mounted: Remove must be refused');
      ok(await trial.unmount(idle, id));
      await eventually(60_000, async () => ok(await trial.remove(idle)));
      await trial.absent(idle);
      return undefined;
    },
  },
  {
    name: 'a volume whose removal met the outage can be removed',
    why: 'it must not be stuck half way',
    async run(trial) {
      const { doomed } = known(trial);
      await eventually(60_000, async () => {
        await trial.remove(doomed);
        await trial.absent(doomed);
      });
      return undefined;
    },
  },
];

export const outage: Group = {
  name: 'outage',
  needs: 'outage',
  keeps: true,
  before: prepare,
  cases: [...reads, ...writes, ...measures],
  after: recovery,
};
