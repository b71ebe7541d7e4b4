import type { Group } from '../case.js';
import { failed, must, ok, type Options } from '../trial.js';

/** The same options, with each number in them doubled; null when there is none. */
function others(opts: Options): Options {
  const changed = Object.entries(opts ?? {}).map(([key, value]) => [
    key,
    String(value).replace(/^\d+/, (digits) => String(2 * Number(digits))),
  ]);
  const different = Object.fromEntries(changed) as Options;
  return JSON.stringify(different) === JSON.stringify(opts ?? {}) ? null : different;
}

export const idempotence: Group = {
  name: 'idempotence',
  cases: [
    {
      name: 'Create again with the same options succeeds and makes no second volume',
      why: 'Docker creates again what it has forgotten, each host of a swarm does',
      async run(trial) {
        const name = await trial.volume();
        const before = await trial.get(name);
        ok(await trial.create(name));
        ok(await trial.create(name));
        await trial.present(name);
        const { CreatedAt } = await trial.get(name);
        must(CreatedAt === before.CreatedAt, 'CreatedAt has changed: it is another volume');
        return undefined;
      },
    },
    {
      name: 'Create again with other options succeeds or is refused, and changes nothing',
      why: 'a volume that exists has data of another size or kind',
      async run(trial) {
        const name = await trial.volume();
        const before = await trial.get(name);
        const different = others(trial.settings.createOpts) ?? { 'no-such-option': 'x' };
        const answer = await trial.create(name, different);
        must(!answer.dropped, 'it must be answered', answer);
        const after = await trial.get(name);
        must(after.CreatedAt === before.CreatedAt, 'CreatedAt has changed: it is another volume');
        const size = (volume: { Status?: unknown }) =>
          (volume.Status as Record<string, unknown> | null | undefined)?.['size'];
        must(size(after) === size(before), `Status.size has changed to ${String(size(after))}`);
        return answer.took;
      },
    },
    {
      name: 'Remove again succeeds or says that there is none',
      why: 'Docker repeats what it believes lost',
      async run(trial) {
        const name = await trial.volume();
        ok(await trial.remove(name));
        const again = await trial.remove(name);
        must(!again.dropped, 'it must be answered', again);
        await trial.absent(name);
        return again.took;
      },
    },
    {
      name: 'Remove of a volume that never was succeeds or says that there is none',
      why: 'a volume may have been removed on another host',
      async run(trial) {
        const answer = await trial.remove(trial.name());
        must(!answer.dropped, 'it must be answered', answer);
        return answer.took;
      },
    },
    {
      name: 'a volume removed and made again, with other options, is new',
      why: 'removed on another host, then made again here',
      async run(trial) {
        const name = trial.name();
        const { createOpts } = trial.settings;
        for (const opts of [createOpts, others(createOpts) ?? createOpts, createOpts]) {
          ok(await trial.create(name, opts));
          await trial.present(name);
          ok(await trial.remove(name));
          await trial.absent(name);
        }
        return undefined;
      },
    },
    {
      name: 'Mount of a volume that never was is refused and makes none',
      why: 'a volume made by a mistyped name hides that the data is elsewhere',
      needs: 'mount',
      async run(trial) {
        const name = trial.name();
        failed(await trial.call('Mount', { Name: name, ID: trial.id() }));
        await trial.absent(name);
        return undefined;
      },
    },
    {
      name: 'Unmount of a volume that never was succeeds or is refused, and makes none',
      why: 'it may have been removed on another host',
      async run(trial) {
        const name = trial.name();
        const answer = await trial.unmount(name, trial.id());
        must(!answer.dropped, 'it must be answered', answer);
        await trial.absent(name);
        return answer.took;
      },
    },
    {
      name: 'Unmount of an ID that holds nothing leaves the mounts of others',
      why: 'Docker repeats what it believes lost',
      needs: 'mount',
      async run(trial) {
        const name = await trial.volume();
        const id = trial.id();
        await trial.unmount(name, trial.id());
        await trial.mount(name, id);
        const answer = await trial.unmount(name, trial.id());
        must(!answer.dropped, 'it must be answered', answer);
        failed(await trial.remove(name), 'the volume is still mounted: Remove must be refused');
        ok(await trial.unmount(name, id));
        ok(await trial.remove(name));
        return answer.took;
      },
    },
    {
      name: 'an Unmount too many is not held against the next Mount',
      why: 'a count below zero unmounts under a running container',
      needs: 'mount',
      async run(trial) {
        const name = await trial.volume();
        const id = trial.id();
        await trial.mount(name, id);
        ok(await trial.unmount(name, id));
        await trial.unmount(name, id);
        await trial.unmount(name, id);
        await trial.mount(name, id);
        failed(await trial.remove(name), 'the volume is mounted: Remove must be refused');
        ok(await trial.unmount(name, id));
        ok(await trial.remove(name));
        return undefined;
      },
    },
  ],
};
