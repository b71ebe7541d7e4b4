import type { Group } from '../case.js';
import { failed, must, ok } from '../trial.js';

/** Docker asks every driver in turn for a name it does not know. */
const quickMs = 10_000;

export const lookup: Group = {
  name: 'lookup',
  cases: [
    {
      name: 'Get of an unknown volume answers Err quickly',
      why: 'Docker asks every driver for a name it does not know, before each Create',
      async run(trial) {
        const answer = failed(await trial.call('Get', { Name: trial.name() }));
        must(answer.ms < quickMs, `it took ${answer.ms.toFixed(0)} ms`, answer);
        const parallel = await Promise.all(
          Array.from({ length: 50 }, () => trial.call('Get', { Name: trial.name() })),
        );
        for (const each of parallel) failed(each);
        return answer.took;
      },
    },
    {
      name: 'Path of an unknown volume answers Err',
      why: 'an empty path would be joined onto the root of the plugin',
      async run(trial) {
        return failed(await trial.call('Path', { Name: trial.name() })).took;
      },
    },
    {
      name: 'Path of a known volume answers a string or nothing',
      why: 'Docker decodes it as a string',
      async run(trial) {
        const answer = ok(await trial.call('Path', { Name: await trial.volume() }));
        const path = answer.json['Mountpoint'];
        must(path === undefined || typeof path === 'string', 'Mountpoint must be a string', answer);
        return undefined;
      },
    },
    {
      name: 'List has each volume once, and agrees with Get',
      why: 'docker volume ls and inspect must not differ',
      async run(trial) {
        const made = [await trial.volume(), await trial.volume(), await trial.volume()];
        const listed = await trial.list();
        for (const name of made) await trial.present(name);
        const own = listed.filter((volume) => made.includes(String(volume.Name)));
        const sample = [...own, ...listed.slice(0, 20)];
        for (const volume of sample) {
          const got = await trial.get(String(volume.Name));
          const same = got.CreatedAt === volume.CreatedAt || volume.CreatedAt === undefined;
          must(same, `CreatedAt of ${String(volume.Name)} differs between List and Get`);
        }
        const names = listed.map((volume) => volume.Name);
        must(new Set(names).size === names.length, 'List has a name twice');
        return `${String(listed.length)} volumes listed, ${String(sample.length)} compared`;
      },
    },
    {
      name: 'Capabilities answers a Scope of local or global, always the same',
      why: 'asked before nearly every other call; anything else counts as local',
      async run(trial) {
        const connection = await trial.open();
        const scopes = new Set<unknown>();
        for (let round = 0; round < 100; round += 1) {
          const answer = ok(await trial.on(connection, 'Capabilities', '{}'));
          scopes.add((answer.json['Capabilities'] as { Scope?: unknown } | undefined)?.Scope);
        }
        connection.close();
        const [scope] = scopes;
        must(scopes.size === 1, `the Scope changes: ${[...scopes].join(', ')}`);
        must(typeof scope === 'string' && /^(local|global)$/i.test(scope), `the Scope is ${String(scope)}`);
        return scope;
      },
    },
    {
      name: 'Status, when given, is an object, and Mountpoint a string',
      why: 'anything else breaks the decoding of Get',
      async run(trial) {
        const { Status, Mountpoint } = await trial.get(await trial.volume());
        const object = Status == null || (typeof Status === 'object' && !Array.isArray(Status));
        must(object, `Status is ${JSON.stringify(Status)}`);
        must(
          Mountpoint == null || typeof Mountpoint === 'string',
          `Mountpoint is ${JSON.stringify(Mountpoint)}`,
        );
        return undefined;
      },
    },
  ],
};
