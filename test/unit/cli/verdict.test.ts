import { describe, expect, it } from 'vitest';
import type { HealthMessage, NodeMessage, ObservedMessage } from '../../../src/admin/messages.js';
import { textOf } from '../../../src/cli/cluster-status.js';
import { type Documents, findingsOf } from '../../../src/cli/verdict.js';

const policy = { name: 'services', from: 'default', running: true, problem: null };
const backend = { wanted: 7, pending: 0, conflicts: [], foreign: [] };
const registrator = { ready: true, backends: { etcd: backend }, policies: [policy] };
const observed: ObservedMessage = {
  stream: { connected: true, connects: 1, events: 5, duplicates: 0, malformed: 0, queued: 0, dropped: 0 },
  journal: { lost: 0, failures: 0, queued: 0 },
  registrator,
};
const health: HealthMessage = {
  version: '0.1.0',
  node: 'ID-A',
  cluster: 'born',
  healthy: true,
  problems: {},
  recordsComplete: true,
  cache: { state: 'ok', reason: '' },
  repairs: [],
  strays: [],
  image: { current: 'image:1', older: [] },
  observed,
};
const etcd = {
  own: true,
  endpoints: ['https://127.0.0.1:23790'],
  usable: true,
  problem: null,
  answerMs: 3,
};

function node(id: string, hostname: string, more: Partial<NodeMessage> = {}): NodeMessage {
  const facts = {
    address: '10.0.0.1',
    engineVersion: '28.2.2',
    pluginVersion: '0.1.0',
    pools: {},
    labels: {},
  };
  const alive = { state: 'alive' as const, since: '2026-01-02T03:04:05Z', awaySeconds: null, error: '' };
  return { id, self: id === 'ID-A', hostname, ...facts, ...alive, ...more };
}

function volume(name: string, status: Documents['volumes']['volumes'][number]['status'] = {}) {
  const usual = { id: `v-${name}`, state: 'ready' as const, node: 'ID-A', attachedTo: '', error: '' };
  return { name, mountpoint: '', createdAt: '2026-01-02T03:04:05Z', status: { ...usual, ...status } };
}

const well: Documents = {
  health,
  cluster: { id: 'c1', createdAt: '2026-01-01T00:00:00Z', node: 'ID-A', etcd },
  nodes: { nodes: [node('ID-A', 'a'), node('ID-B', 'b')], problem: null },
  volumes: { volumes: [volume('db', { attachedTo: 'ID-A' }), volume('web', { node: 'ID-B' })] },
};

const down = {
  ...etcd,
  usable: false,
  answerMs: null,
  problem: 'etcd at https://127.0.0.1:23790 cannot be reached',
};

interface Case {
  readonly name: string;
  readonly documents: Documents;
  /** `object: what`, without the notes; a part each. */
  readonly wrong?: readonly string[];
  readonly notes?: readonly string[];
}

const withHealth = (more: Partial<HealthMessage>): Documents => ({ ...well, health: { ...health, ...more } });
const withObserved = (more: Partial<ObservedMessage>): Documents =>
  withHealth({ observed: { ...observed, ...more } });
const withNodes = (...nodes: NodeMessage[]): Documents => ({ ...well, nodes: { nodes, problem: null } });
const withVolumes = (...volumes: Documents['volumes']['volumes'][number][]): Documents => ({
  ...well,
  volumes: { volumes },
});

const cases: readonly Case[] = [
  { name: 'all is well', documents: well },
  {
    name: 'etcd is down: told once, whatever else fails for that',
    documents: {
      ...withHealth({ problems: { cluster: down.problem, volumes: 'etcd at x did not answer in time' } }),
      cluster: { ...well.cluster, etcd: down },
      nodes: { nodes: [node('ID-A', 'a', { state: 'unknown' })], problem: down.problem },
    },
    wrong: ['etcd: etcd at https://127.0.0.1:23790 cannot be reached'],
  },
  {
    name: 'etcd is down, as the plugin cannot run it',
    documents: {
      ...withHealth({ problems: { etcd: 'its data is lost', cluster: down.problem } }),
      cluster: { ...well.cluster, etcd: down },
    },
    wrong: ['cannot be reached; the plugin cannot run it: its data is lost'],
  },
  {
    name: 'etcd is down, and something else is wrong as well',
    documents: {
      ...withHealth({ problems: { mounts: 'the engine does not see what the plugin mounts' } }),
      cluster: { ...well.cluster, etcd: down },
    },
    wrong: ['etcd: ', 'mounts: the engine does not see'],
  },
  {
    name: 'the plugin has a problem while etcd answers',
    documents: withHealth({ problems: { image: 'no space for the image', etcd: 'slow' } }),
    wrong: ['data-plane image: no space', 'etcd: slow'],
  },
  {
    name: 'a changed NODE_ID is refused',
    documents: {
      ...well,
      health: {
        version: '0.1.0',
        node: 'x',
        cluster: 'born',
        healthy: false,
        problems: { node: 'NODE_ID was changed' },
      },
    },
    wrong: ['node name: NODE_ID was changed'],
  },
  {
    name: 'a node is away, with data',
    documents: {
      ...withNodes(node('ID-A', 'a'), node('ID-B', 'b', { state: 'away', awaySeconds: 130 })),
      volumes: { volumes: [volume('db', { attachedTo: 'ID-B' }), volume('web', { node: 'ID-B' })] },
    },
    wrong: ['node b: is away for 2 min at least; the data of 1 volume is there: web'],
  },
  {
    name: 'two nodes of one name are told apart by their IDs',
    documents: withNodes(node('ID-A', 'a'), node('ID-B', 'a', { state: 'away' })),
    wrong: ['node ID-B: is away'],
  },
  {
    name: 'this node has no sign of life',
    documents: withNodes(node('ID-A', 'a', { state: 'away', awaySeconds: 20 })),
    wrong: ['this node: has no sign of life in etcd for 20 s'],
  },
  {
    name: 'the record of a node is damaged',
    documents: withNodes(node('ID-A', 'a'), node('ID-B', '', { error: 'the node record is damaged' })),
    wrong: ['node ID-B: the node record is damaged'],
  },
  {
    name: 'plugins of two versions',
    documents: withNodes(node('ID-A', 'a'), node('ID-B', 'b', { pluginVersion: '0.2.0' })),
    notes: ['nodes: they run plugins of 2 versions: 0.1.0, 0.2.0'],
  },
  {
    name: 'a node is drained',
    documents: withNodes(node('ID-A', 'a'), node('ID-B', 'b', { drained: true })),
    notes: ['node b: is drained'],
  },
  {
    name: 'volumes are troubled',
    documents: withVolumes(
      volume('db', { error: 'its data is gone' }),
      volume('far', { node: 'ID-B', error: 'x' }),
      volume('odd', { state: 'unreadable', node: '', error: 'its record is damaged' }),
      volume('fine'),
    ),
    wrong: [
      'volume db: ready, its data on a (this host): its data is gone',
      'volume far: ready, its data on b: x',
      'volume odd: unreadable: its record is damaged',
    ],
  },
  {
    name: 'volumes come and go',
    documents: withVolumes(
      volume('new', { state: 'creating' }),
      volume('old', { state: 'removing', node: 'ID-B' }),
    ),
    notes: ['volume new: creating, by node a', 'volume old: removing, by node b'],
  },
  {
    name: 'records are incomplete, the cache damaged',
    documents: withHealth({
      recordsComplete: false,
      cache: { state: 'damaged', reason: 'records.json was damaged' },
    }),
    wrong: ['records: this host does not know all volumes', 'cache: records.json was damaged'],
  },
  {
    name: 'the cache was rebuilt',
    documents: withHealth({ cache: { state: 'rebuilt', reason: 'records.json was damaged' } }),
    notes: ['cache: records.json was damaged; read anew'],
  },
  {
    name: 'strays',
    documents: withHealth({
      strays: [{ what: '/var/lib/openebs/pools/default/v1', hint: 'restore the record' }],
    }),
    wrong: ['stray: /var/lib/openebs/pools/default/v1 belongs to no volume'],
  },
  {
    name: 'events are not received',
    documents: withObserved({ stream: { ...observed.stream, connected: false } }),
    wrong: ["events: the engine's events are not received"],
  },
  {
    name: 'events are lost',
    documents: withObserved({ journal: { lost: 2, failures: 1, queued: 0 } }),
    notes: ['events: 2 events lost'],
  },
  { name: 'the registrator is off', documents: withObserved({ registrator: null }) },
  {
    name: 'the registrator starts',
    documents: withObserved({ registrator: { ...registrator, ready: false } }),
    notes: ['registrator: not all that was there'],
  },
  {
    name: 'a policy has a problem',
    documents: withObserved({
      registrator: {
        ...registrator,
        policies: [{ name: 'dns', from: '/x/dns.js', running: false, problem: 'it throws' }],
      },
    }),
    wrong: ['policy dns: it throws (/x/dns.js)'],
  },
  {
    name: 'keys of others, and conflicts',
    documents: withObserved({
      registrator: { ...registrator, backends: { etcd: { ...backend, foreign: ['/a'], conflicts: ['/b'] } } },
    }),
    notes: [
      'registrator: written by somebody else, and left alone: /a',
      'registrator: wanted with different values: /b',
    ],
  },
  {
    name: 'older images and repairs',
    documents: withHealth({
      image: { current: 'image:2', older: [{ container: 'openebs-target-v1', image: 'image:1' }] },
      repairs: [
        { time: '2026-01-02T03:04:05Z', container: 'openebs-target-v1', volume: 'db', what: 'brought back' },
      ],
    }),
    notes: ['upgrade: in use, and so of an older image still: openebs-target-v1', 'repairs: 1 repair since'],
  },
];

describe('the verdict', () => {
  it.each(cases)('$name', ({ documents, wrong = [], notes = [] }) => {
    const findings = findingsOf(documents);
    const shown = (level: string) =>
      findings.filter((found) => found.level === level).map(({ object, what }) => `${object}: ${what}`);
    expect(shown('wrong')).toEqual(wrong.map((part) => expect.stringContaining(part) as unknown));
    expect(shown('note')).toEqual(notes.map((part) => expect.stringContaining(part) as unknown));
  });

  it('says of all that is wrong what to do', () => {
    for (const { documents } of cases)
      for (const { level, todo } of findingsOf(documents)) if (level === 'wrong') expect(todo).not.toBe('');
  });
});

describe('the status', () => {
  it('shows everything at a glance', () => {
    expect(textOf(well, findingsOf(well))).toBe(
      [
        'cluster       c1, since 2026-01-01T00:00:00Z',
        'this node     a (ID-A), plugin 0.1.0',
        'etcd          answers in 3 ms: https://127.0.0.1:23790 (run by the plugin)',
        'nodes         2: 2 alive',
        'volumes       2: 2 ready; 1 attached',
        'records       complete; cache ok; no strays',
        'registrator   ready: 1 policy, 7 keys',
        '',
        'All is well.',
        '',
      ].join('\n'),
    );
  });

  it('names what is wrong, what goes on meanwhile, and what to do', () => {
    const documents = { ...well, cluster: { ...well.cluster, id: null, etcd: { ...down, own: false } } };
    const text = textOf(documents, findingsOf(documents));
    expect(text).toContain('cluster       not known yet\n');
    expect(text).toContain('etcd          NOT USABLE: https://127.0.0.1:23790 (yours)\n');
    expect(text).toMatch(
      /1 thing is wrong:\n {2}etcd: .*\n {6}meanwhile: volumes that this .* work on.*\n {6}to do: mend what it names/,
    );
  });

  it('says of a host without a cluster that it keeps its state itself, and what is wrong with that', () => {
    const alone = { ...etcd, none: true, own: false, endpoints: [] };
    const documents = { ...well, cluster: { ...well.cluster, etcd: alone } };
    const text = textOf(documents, findingsOf(documents));
    expect(text).toContain('etcd          none, no cluster: this host keeps its state itself\n');
    expect(text).toContain('All is well.');
    const why = '/var/lib/openebs/local/state is damaged at byte 7: restore it';
    const broken = { ...alone, usable: false, problem: why };
    const damaged = {
      ...withHealth({ problems: { etcd: why, cluster: why } }),
      cluster: { ...well.cluster, etcd: broken },
    };
    const shown = textOf(damaged, findingsOf(damaged));
    expect(shown).toContain('keeps its state itself; NOT USABLE\n');
    expect(shown).toContain(`1 thing is wrong:\n  state of this host: ${why}\n`);
    expect(shown).not.toContain('openebs-etcd');
  });

  it('shows nothing that a terminal would obey', () => {
    const documents = withVolumes(volume('db', { error: 'bad\u001b[2J' }));
    expect(textOf(documents, findingsOf(documents))).toContain('bad\\u{1b}[2J');
  });
});
