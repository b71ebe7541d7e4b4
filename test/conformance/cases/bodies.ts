import { Skip, type Case, type Group } from '../case.js';
import { failed, must, ok, type Method, type Options, type Trial } from '../trial.js';

const naming: readonly Method[] = ['Create', 'Remove', 'Mount', 'Unmount', 'Path', 'Get'];

const meaningless = ['', ' \n', '{}', '[]', 'null', '"x"', '5', 'true', '{', '{"Name"', '\0', '{"Name":""}'];
const misnamed = ['{"Name":null}', '{"Name":5}', '{"Name":["x"]}', '{"Name":{"x":1}}', '{"ID":"x"}'];
const deep = [
  `${'['.repeat(100_000)}${']'.repeat(100_000)}`,
  `${'{"Name":'.repeat(50_000)}1${'}'.repeat(50_000)}`,
];

const names = async (trial: Trial): Promise<string> =>
  (await trial.list())
    .map(({ Name }) => String(Name))
    .sort()
    .join('\n');

function refuses(method: Method, what: string, bodies: readonly string[]): Case {
  return {
    name: `${method} with ${what} is refused and changes nothing`,
    why:
      what === 'no name'
        ? "Docker's retry after a broken connection carries an empty body, and takes success for an answer"
        : 'a driver must survive any body',
    async run(trial) {
      const volume = await trial.volume();
      const before = await names(trial);
      for (const body of bodies) {
        const answer = await trial.post(method, body);
        // A Get that is dropped means "cannot tell", and makes Docker forget nothing.
        if (!(method === 'Get' && answer.dropped)) failed(answer);
      }
      must((await names(trial)) === before, 'the list of volumes has changed');
      await trial.get(volume);
      return `${String(bodies.length)} bodies refused; the last: ${trial.transcript.at(-3) ?? ''}`;
    },
  };
}

/** Whatever the driver makes of it, it must be all or nothing. */
async function settles(trial: Trial, opts: unknown): Promise<string> {
  const name = trial.name();
  const answer = await trial.create(name, opts as Options);
  must(!answer.dropped, 'it must be answered', answer);
  if (answer.err === '') await trial.present(name);
  else await trial.absent(name);
  return answer.took;
}

const optionCases: Case[] = [
  {
    name: 'Create without Opts is served, or says which option it lacks',
    why: '`docker run -v name:/path --volume-driver` sends Opts null',
    async run(trial) {
      await settles(trial, {});
      return settles(trial, null);
    },
  },
  {
    name: 'Opts whose values are no strings are all or nothing',
    why: 'Docker sends strings; other clients send what their users wrote',
    async run(trial) {
      for (const value of [200, 0, true, null, ['200M'], { size: '200M' }])
        await settles(trial, { size: value });
      return settles(trial, { x: 1e308 });
    },
  },
  {
    name: 'Opts that are no object are all or nothing',
    why: 'a driver must survive any body',
    async run(trial) {
      for (const opts of [[], ['size=1G'], 'size=1G', 5, true]) await settles(trial, opts);
      return undefined;
    },
  },
  {
    name: 'an unknown option is refused by its name and stores nothing, or is ignored',
    why: 'a typing error in an option should not make a volume of another kind',
    async run(trial) {
      const option = 'no-such-option';
      const name = trial.name();
      const answer = await trial.create(name, { ...trial.settings.createOpts, [option]: 'x' });
      if (answer.err === '') {
        await trial.present(name);
        return 'ignored';
      }
      must(!answer.dropped && answer.err.includes(option), 'the Err must name the option', answer);
      await trial.absent(name);
      ok(await trial.create(name), 'the name must still be free');
      return answer.took;
    },
  },
  {
    name: 'options named __proto__ and constructor do not reach other volumes',
    why: 'object keys that mean something to the language of the driver',
    async run(trial) {
      for (const text of ['{"__proto__":{"size":"1"}}', '{"constructor":"x"}', '{"":""}']) {
        const name = trial.name();
        trial.touched.add(name);
        const answer = await trial.post('Create', `{"Name":"${name}","Opts":${text}}`);
        must(!answer.dropped, 'it must be answered', answer);
        await trial.agree(name);
      }
      await trial.get(await trial.volume());
      return undefined;
    },
  },
  {
    name: 'a size that is none is refused and stores nothing',
    why: 'sizes are the option that most drivers have',
    async run(trial) {
      const given = trial.settings.createOpts;
      if (given?.['size'] === undefined)
        throw new Skip('no --create-opt size=... tells that this driver has sizes');
      for (const size of ['0', '-1', '10X', '', '99999999999999999999999T', '1e3M ; true']) {
        const name = trial.name();
        failed(await trial.create(name, { ...given, size }), 'a size that is none must be refused');
        await trial.absent(name);
      }
      return undefined;
    },
  },
];

const toleranceCases: Case[] = [
  {
    name: 'fields it does not know are ignored',
    why: 'newer engines send more',
    async run(trial) {
      const name = trial.name();
      const Opts = trial.settings.createOpts;
      ok(await trial.call('Create', { Future: { x: 1 }, Name: name, Opts, Labels: null }));
      await trial.present(name);
      ok(await trial.call('Get', { Name: name, Future: [] }));
      return undefined;
    },
  },
  {
    name: 'escapes and spaces in the JSON mean nothing',
    why: 'JSON',
    async run(trial) {
      const name = await trial.volume();
      const escaped = Array.from(name).map(
        (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
      );
      const answer = ok(await trial.post('Get', ` \n{ "Name" :\t"${escaped.join('')}" }\r\n `));
      must((answer.json['Volume'] as { Name?: unknown }).Name === name, 'it must be the volume', answer);
      return undefined;
    },
  },
  {
    name: 'List and Capabilities answer to any body, or refuse it',
    why: 'retries of these come with an empty body as well',
    async run(trial) {
      for (const method of ['List', 'Capabilities'] as const) {
        for (const body of ['', '[]', 'null', '{', '{"Name":5}']) {
          const answer = await trial.post(method, body);
          must(!answer.dropped, 'it must be answered', answer);
        }
        ok(await trial.call(method));
      }
      return undefined;
    },
  },
  {
    name: 'Mount and Unmount without an ID keep the volume whole',
    why: 'engines send one always; a retry does not',
    async run(trial) {
      const name = await trial.volume();
      const mounted = await trial.call('Mount', { Name: name });
      const unmounted = await trial.call('Unmount', { Name: name });
      must(!mounted.dropped && !unmounted.dropped, 'it must be answered', mounted);
      await trial.present(name);
      ok(await trial.remove(name), 'the volume must be removable after that');
      return mounted.took;
    },
  },
];

export const bodies: Group = {
  name: 'bodies',
  cases: [
    ...naming.map((method) => refuses(method, 'no name', [...meaningless, ...misnamed])),
    ...naming.map((method) => refuses(method, 'JSON a hundred thousand levels deep', deep)),
    ...optionCases,
    ...toleranceCases.map((each): Case =>
      each.name.startsWith('Mount') ? { ...each, needs: 'mount' } : each,
    ),
  ],
};
