import type { Case, Group } from '../case.js';
import { failed, must, ok, type Trial } from '../trial.js';

const whyOdd = 'Docker checks no name that is meant for another driver than local';

/** Refused with nothing stored, or a volume like any other. */
async function refusedOrWhole(trial: Trial, name: string, mounts: boolean): Promise<string> {
  if ((await trial.listed(name)).length > 0) return `${name} exists already and is left alone`;
  const answer = await trial.create(name);
  must(!answer.dropped, 'it must be answered', answer);
  if (answer.err !== '') {
    await trial.absent(name);
    return answer.took;
  }
  await trial.present(name);
  if (mounts) {
    const id = trial.id();
    const mountpoint = await trial.mount(name, id);
    const leads = mountpoint.split('/').includes('..');
    must(!leads, `the mountpoint leads out of its directory: ${mountpoint}`);
    ok(await trial.unmount(name, id));
  }
  ok(await trial.remove(name), 'what could be created must be removable');
  await trial.absent(name);
  return answer.took;
}

type Make = (trial: Trial) => string[];

const odd: [what: string, make: Make][] = [
  ['one letter', () => ['q', 'Z', '7']],
  [
    'dots and slashes',
    ({ settings: { prefix } }) => [`../${prefix}`, `${prefix}/b`, `/${prefix}`, `${prefix}/../../x`],
  ],
  ['dots alone', () => ['.', '..', '...']],
  [
    'spaces and shell characters',
    ({ settings: { prefix } }) => [`${prefix} x`, ` ${prefix}`, `${prefix};$(x)`, `\`${prefix}\``],
  ],
  ['a leading dash', ({ settings: { prefix } }) => [`-${prefix}`, `--${prefix}=x`]],
  [
    '300 and 5,000 characters',
    ({ settings: { prefix } }) => [prefix.padEnd(300, 'x'), prefix.padEnd(5000, 'x')],
  ],
  [
    'other scripts',
    ({ settings: { prefix } }) => [`${prefix}-ä`, `${prefix}-a\u0308`, `${prefix}-卷`, `${prefix}-💾`],
  ],
  [
    'control characters',
    ({ settings: { prefix } }) => [`${prefix}\n`, `${prefix}\0x`, `${prefix}\u001b[2J`, `${prefix}\u202ex`],
  ],
  ['percent signs', ({ settings: { prefix } }) => [`${prefix}%2e%2e%2fx`, `${prefix}%00`, `${prefix}%s%n`]],
];

const oddCases = odd.map(([what, make]): Case => ({
  name: `names with ${what} are refused, or work like any other`,
  why: whyOdd,
  async run(trial) {
    let last = '';
    for (const name of make(trial)) last = await refusedOrWhole(trial, name, false);
    return last;
  },
}));

export const names: Group = {
  name: 'names',
  cases: [
    ...oddCases,
    {
      name: 'a name that leads elsewhere is refused, or mounted where it belongs',
      why: whyOdd,
      needs: 'mount',
      run: (trial) => refusedOrWhole(trial, `../../${trial.settings.prefix}`, true),
    },
    {
      name: 'a name of 64 hexadecimal digits works',
      why: "Docker's names of anonymous volumes",
      async run(trial) {
        const name = trial.id();
        ok(await trial.create(name));
        await trial.present(name);
        ok(await trial.remove(name));
        await trial.absent(name);
        return undefined;
      },
    },
    {
      name: 'names that differ in case are two volumes, or one is refused',
      why: 'Docker takes them for two',
      async run(trial) {
        const lower = await trial.volume();
        const upper = lower.toUpperCase();
        failed(await trial.call('Get', { Name: upper }), 'Get of the other case must not find it');
        const answer = await trial.create(upper);
        await trial.present(lower);
        if (answer.err === '') ok(await trial.remove(upper));
        await trial.absent(upper);
        await trial.present(lower);
        return answer.took;
      },
    },
    {
      name: 'a name that begins like another is a volume of its own',
      why: 'names as prefixes of keys, files or filters',
      async run(trial) {
        const short = await trial.volume();
        const long = `${short}0`;
        ok(await trial.create(long));
        ok(await trial.remove(short));
        await trial.absent(short);
        await trial.present(long);
        return undefined;
      },
    },
    {
      name: 'names that mean something to a language are unknown volumes',
      why: 'a table of volumes must have no entries of its own',
      async run(trial) {
        for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'length', 'null', '*'])
          failed(await trial.call('Get', { Name: name }), `there is no volume ${name}`);
        return undefined;
      },
    },
  ],
};
