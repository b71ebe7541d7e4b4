import { describe, expect, it } from 'vitest';
import type {
  FormationMessage,
  HealthMessage,
  MemberMessage,
  NodeMessage,
} from '../../../src/admin/messages.js';
import { textOf } from '../../../src/cli/cluster-status.js';
import { type Documents, findingsOf } from '../../../src/cli/verdict.js';

const health: HealthMessage = {
  version: '0.1.0',
  node: 'ID-a',
  cluster: 'born',
  healthy: true,
  problems: {},
};

function node(name: string, more: Partial<NodeMessage> = {}): NodeMessage {
  return {
    id: `ID-${name}`,
    self: name === 'a',
    hostname: name,
    state: 'alive',
    since: '2026-01-02T03:04:05Z',
    awaySeconds: null,
    address: '10.0.0.1',
    engineVersion: '28.2.2',
    pluginVersion: '0.1.0',
    pools: {},
    labels: {},
    error: '',
    ...more,
  };
}

function member(name: string, more: Partial<MemberMessage> = {}): MemberMessage {
  return {
    id: `m${name}`,
    node: `ID-${name}`,
    peerUrl: `https://10.0.0.${name}:23791`,
    role: 'voter',
    healthy: true,
    leader: name === 'a',
    unreachableSeconds: null,
    lag: 0,
    dbBytes: 2 ** 20,
    version: '3.5.16',
    ...more,
  };
}

const silent = { healthy: false, unreachableSeconds: 200, lag: null, dbBytes: null } as const;
const unseen = { ...silent, unreachableSeconds: 0, coming: 'unseen' } as const;
const starting = { ...silent, role: 'learner', unreachableSeconds: 0, coming: 'not started' } as const;
const three = [member('a'), member('b'), member('c')];
const oneDown = [member('a'), member('b', silent), member('c')];
const twoDown = [member('a'), member('b', silent), member('c', silent)];

const formation: FormationMessage = {
  advertise: '10.0.0.1',
  joinAt: '10.0.0.1:23792',
  role: 'voter',
  voters: 3,
  members: three,
  doing: null,
  manager: 'ID-a',
  problem: null,
  alarms: [],
  backup: {
    file: '/var/lib/openebs/backups/1.json',
    createdAt: '2026-01-02T00:00:00Z',
    cluster: 'c1',
    keys: 7,
    bytes: 900,
    revision: 12,
  },
};

interface Situation {
  readonly formation?: Partial<FormationMessage>;
  /** Why etcd is not usable. */
  readonly problem?: string;
  readonly nodes?: readonly NodeMessage[];
  readonly problems?: Readonly<Record<string, string>>;
}

function documentsOf({ formation: more, problem, nodes, problems = {} }: Situation): Documents {
  const etcd = {
    own: true,
    endpoints: ['https://10.0.0.1:23790'],
    usable: problem === undefined,
    problem: problem ?? null,
    answerMs: problem === undefined ? 3 : null,
  };
  return {
    health: { ...health, problems },
    cluster: {
      id: 'c1',
      createdAt: '2026-01-01T00:00:00Z',
      node: 'ID-a',
      etcd,
      formation: { ...formation, ...more },
    },
    nodes: { nodes: nodes ?? [node('a'), node('b'), node('c')], problem: null },
    volumes: { volumes: [] },
  };
}

interface Case extends Situation {
  readonly name: string;
  /** `object: what | meanwhile | todo`, without the notes; a part each. */
  readonly wrong?: readonly (readonly string[])[];
  readonly notes?: readonly (readonly string[])[];
}

const withSpare = [node('a'), node('b'), node('c'), node('d')];
const alone = {
  role: 'alone',
  advertise: null,
  joinAt: null,
  members: [member('a')],
  manager: null,
} as const;

const cases: readonly Case[] = [
  { name: 'three voters of three are well' },
  { name: 'a host that is alone misses nothing', formation: alone },
  {
    name: 'a host that is alone, and cannot join',
    formation: { ...alone, problem: 'the token has expired' },
    wrong: [['etcd member: the token has expired']],
  },
  {
    name: 'a host that is alone, its etcd down: as ever',
    formation: { ...alone, members: [] },
    problem: 'it does not answer',
    wrong: [['etcd: it does not answer', 'starts it again', 'docker logs openebs-etcd']],
  },
  {
    name: 'a voter is down, no spare',
    formation: { members: oneDown },
    wrong: [
      [
        'node b: its member of etcd (voter) does not answer for 3 min',
        'etcd goes on with 2 of 3 voters, and stops when one more fails; there is no spare host to take its place',
        'let another host join',
      ],
    ],
  },
  {
    name: 'a voter is down, and a spare there',
    formation: { members: oneDown },
    nodes: withSpare,
    wrong: [
      ['node b: ', 'a spare host takes its place after the grace time', 'if it is gone for good, nothing'],
    ],
  },
  {
    name: 'a host that is drained, or away, or a member, is no spare',
    formation: { members: oneDown },
    nodes: [node('a'), node('b'), node('d', { drained: true }), node('e', { state: 'unknown' })],
    wrong: [['node b: ', 'there is no spare host']],
    notes: [['node d: is drained']],
  },
  {
    name: 'a voter is being replaced',
    formation: { members: oneDown, doing: 'removing the member of b' },
    wrong: [['node b: ', '2 of 3 voters, and stops when one more fails; removing the member of b (by a)']],
  },
  {
    name: 'the member here waits to be made anew',
    formation: { renewal: { why: 'b has to catch up first', failed: false } },
    notes: [
      ['etcd member: here runs from the image of another version', 'b has to catch up first', 'nothing'],
    ],
  },
  {
    name: 'the member here did not come up from the new image',
    formation: { renewal: { why: 'it has not come up: exit 1', failed: true } },
    wrong: [['etcd member: it has not come up: exit 1', 'the other hosts keep', 'Do not go back']],
  },
  {
    name: 'nobody manages the members',
    formation: { members: oneDown, manager: null },
    wrong: [['node b: ', 'no host manages the members now']],
  },
  {
    name: 'one of five is down',
    formation: { voters: 5, members: [...oneDown, member('d'), member('e')] },
    wrong: [['node b: ', 'goes on with 4 of 5 voters, and can lose 1 more']],
  },
  {
    name: 'the majority is lost',
    formation: { members: twoDown },
    problem: 'no leader',
    wrong: [
      [
        'etcd: the majority is lost: 1 of 3 voters answering; down: b, c; here: no leader',
        'nobody can tell hosts that are gone from hosts that are cut off',
        'bring b, c back: .*docker openebs cluster recover',
      ],
    ],
  },
  {
    name: 'of two voters one is not the majority',
    formation: { members: [member('a'), member('b', silent)] },
    problem: 'no leader',
    wrong: [['etcd: the majority is lost: 1 of 2 voters answering']],
  },
  {
    name: 'the members cannot be asked, as the plugin cannot run its own',
    formation: { members: [] },
    problem: 'no leader',
    problems: { etcd: 'the port is taken' },
    wrong: [
      [
        'etcd: its members cannot be asked: no leader; the plugin cannot run it: the port is taken',
        'are left as they are',
        'cluster recover',
      ],
    ],
  },
  {
    name: 'this host alone does not reach etcd',
    formation: { members: oneDown },
    problem: 'connection refused',
    wrong: [['etcd: connection refused', 'tries again by itself', 'docker logs openebs-etcd']],
  },
  {
    name: 'a learner is new',
    formation: { members: [...three, member('d', { ...silent, role: 'learner' })], doing: 'd catches up' },
    nodes: withSpare,
    notes: [['node d: its member of etcd (learner) does not answer for 3 min; d catches up']],
  },
  {
    name: 'a learner that starts is not down',
    formation: { members: [...three, member('d', starting)], doing: 'the new member on d starts' },
    nodes: withSpare,
    notes: [['node d: its member of etcd (learner) is not started yet; the new member on d starts']],
  },
  {
    name: 'a voter that was not seen yet is not down',
    formation: { members: [member('a'), member('b'), member('c', unseen)] },
  },
  {
    name: 'a voter that was not seen yet does not count for the majority',
    formation: { members: [member('a'), member('b', silent), member('c', unseen)] },
    problem: 'no leader',
    wrong: [['etcd: the majority is lost: 1 of 3 voters answering; down: b, c; here: no leader']],
  },
  {
    name: 'a learner is down, and nobody cares',
    formation: { members: [...three, member('d', { ...silent, role: 'learner' })] },
    nodes: withSpare,
    wrong: [['node d: its member of etcd (learner)', 'goes on with 3 of 3 voters, and can lose 1 more']],
  },
  {
    name: 'a member of a host that is not known',
    formation: { members: [...three.slice(0, 2), member('x', { ...silent, node: null })] },
    wrong: [['node member mx: its member']],
    notes: [['etcd: its member mx at https://10.0.0.x:23791 is of no known host']],
  },
  {
    name: 'the first host of three',
    formation: { members: [member('a')] },
    notes: [['etcd: it has 1 voter of 3 wanted, and outlives the loss of none', 'cluster token create']],
  },
  {
    name: 'three voters of five',
    formation: { voters: 5 },
    notes: [['etcd: it has 3 voters of 5 wanted, and outlives the loss of 1']],
  },
  {
    name: 'two voters on their way to three',
    formation: { members: three.slice(0, 2), doing: 'making c a voter' },
    notes: [['etcd: it has 2 voters of 3 wanted for a moment: making c a voter (by a)']],
  },
  {
    name: 'two voters that stay',
    formation: { members: three.slice(0, 2) },
    wrong: [['etcd: it has 2 voters of 3 wanted, and outlives the loss of none', 'cluster token create']],
  },
  {
    name: 'more voters than wanted',
    formation: { voters: 1 },
    notes: [['etcd: it has 3 voters of 1 wanted']],
  },
  {
    name: 'four voters on their way to three',
    formation: { members: [...three, member('d')] },
    wrong: [['etcd: it has 4 voters of 3 wanted, and outlives the loss of 1', 'nothing: one is taken away']],
  },
  {
    name: 'the data of the member here are lost',
    formation: { role: 'lost', doing: 'replacing the member of a' },
    wrong: [
      ['this host: its member of etcd has lost its data', 'replacing the member of a', 'nothing: it gets'],
    ],
  },
  {
    name: 'the data of the only member are lost',
    formation: { role: 'lost', members: [] },
    problem: 'no member runs',
    wrong: [
      ['etcd: its members cannot be asked'],
      ['this host: ', 'not started with nothing', 'cluster restore'],
    ],
  },
  {
    name: 'a problem is told once',
    formation: { problem: 'the port is taken' },
    problems: { etcd: 'the port is taken' },
    wrong: [['etcd: the port is taken']],
  },
  {
    name: 'alarms',
    formation: { alarms: ['NOSPACE', 'CORRUPT', 'toString'] },
    wrong: [
      ['etcd: its space is used up (NOSPACE)', 'the plugin compacts it', 'nothing; if it lasts'],
      ['etcd: its members hold different data (CORRUPT)', 'leaves all members', 'cluster remove-node'],
      ['etcd: it raises the alarm toString'],
    ],
  },
];

describe('the verdict on how etcd is spread', () => {
  it.each(cases)('$name', ({ wrong = [], notes = [], ...situation }) => {
    const findings = findingsOf(documentsOf(situation));
    const shown = (level: string) => findings.filter((found) => found.level === level);
    for (const [level, expected] of [
      ['wrong', wrong],
      ['note', notes],
    ] as const) {
      const texts = shown(level).map(
        ({ object, what, meanwhile, todo }) => `${object}: ${what} | ${meanwhile} | ${todo}`,
      );
      expect(texts).toEqual(expected.map((parts) => expect.stringMatching(patternOf(parts)) as unknown));
    }
  });

  it('says of all that is wrong what to do', () => {
    for (const situation of cases)
      for (const { level, todo } of findingsOf(documentsOf(situation)))
        if (level === 'wrong') expect(todo).not.toBe('');
  });
});

/** The parts in this order; `.*` stays what it is. */
function patternOf(parts: readonly string[]): RegExp {
  const quoted = parts.map((part) =>
    part
      .split('.*')
      .map((text) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`))
      .join('.*'),
  );
  return new RegExp(`^${quoted.join('.*')}`);
}

const now = Date.parse('2026-01-02T03:00:00Z');

describe('the status of a cluster', () => {
  it('shows the members, who manages them, and how old the backup is', () => {
    const documents = documentsOf({
      formation: {
        members: [...oneDown, member('d', { role: 'learner', lag: 40, node: null })],
        doing: 'd catches up',
      },
    });
    const text = textOf(documents, [], now);
    expect(text).toContain(
      [
        'etcd          answers in 3 ms: https://10.0.0.1:23790 (run by the plugin)',
        'etcd here     voter, at 10.0.0.1',
        'voters        2 of 3; 1 down',
        'managed by    a',
        'being done    d catches up',
        'join at       10.0.0.1:23792',
        'backup here   3 h old: /var/lib/openebs/backups/1.json',
        'nodes         3: 3 alive',
      ].join('\n'),
    );
    expect(text).toContain(
      [
        '',
        'MEMBER   NODE   ROLE            STATE        BEHIND   SIZE    ETCD',
        'ma       a      voter, leader   healthy      0        1 MiB   3.5.16',
        'mb       b      voter           down 3 min                    3.5.16',
        'mc       c      voter           healthy      0        1 MiB   3.5.16',
        'md       ?      learner         healthy      40       1 MiB   3.5.16',
        '',
      ].join('\n'),
    );
  });

  it('calls nobody down who is only about to come', () => {
    const members = [member('a'), member('b', silent), member('c', unseen), member('d', starting)];
    const text = textOf(documentsOf({ formation: { members } }), [], now);
    expect(text).toContain('voters        1 of 3; 1 down; 1 not seen yet\n');
    expect(text).toMatch(/^mc .*voter +not seen yet/m);
    expect(text).toMatch(/^md .*learner +starting/m);
  });

  it('tells what is not known', () => {
    const text = textOf(
      documentsOf({ formation: { members: [], manager: null, backup: null, joinAt: null }, problem: 'x' }),
      [],
      now,
    );
    expect(text).toContain(
      'voters        3 wanted; which there are is not known\nmanaged by    nobody now\n',
    );
    expect(text).toContain('join at       nowhere\nbackup here   none yet\n');
    expect(text).not.toContain('MEMBER');
  });

  it('is that of a host without a cluster while it is alone', () => {
    const { id, createdAt, node: self, etcd } = documentsOf({}).cluster;
    const without = { ...documentsOf({}), cluster: { id, createdAt, node: self, etcd } };
    expect(textOf(documentsOf({ formation: alone }), [], now)).toBe(textOf(without, [], now));
  });
});
