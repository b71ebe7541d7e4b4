import { describe, expect, it } from 'vitest';
import { createClusterView, type ClusterViewDeps } from '../../../src/admin/cluster-view.js';
import type { Ctx } from '../../../src/context.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';
import { keys } from '../../../src/state/keys.js';
import { records } from '../../../src/state/records.js';
import type { Entry, State } from '../../../src/state/state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const etcd = { own: true, endpoints: ['https://127.0.0.1:23790'] };

function entry(key: string, value: string): Entry {
  return { key, value, createRevision: 1, modRevision: 1 };
}

function nodeEntry(id: string, hostname: string): Entry {
  const facts = { address: '10.0.0.1', engineVersion: '28.2.2', pluginVersion: '0.1.0' };
  const pools = { default: { sizeBytes: 100, freeBytes: 40 } };
  const record = { schema: 1 as const, id, hostname, ...facts, pools, labels: { rack: '7' } };
  return entry(keys.node(id), records.node.encode(record));
}

function aliveEntry(id: string): Entry {
  return entry(keys.alive(id), records.alive.encode({ schema: 1, node: id, since: '2026-01-02T03:04:05Z' }));
}

const clusterEntry = entry(
  keys.cluster,
  records.cluster.encode({ schema: 1, id: 'c1', createdAt: '2026-01-01T00:00:00Z' }),
);

/** @param shared what etcd has; null: it does not answer */
function view(shared: readonly Entry[] | null, more: Partial<ClusterViewDeps> = {}, timeoutMs = 3000) {
  return createClusterView(
    {
      node: 'n1',
      state: {
        range: (_ctx, prefix) =>
          shared === null
            ? Promise.reject(new AppError('unavailable', 'etcd at x cannot be reached'))
            : Promise.resolve({ entries: shared.filter(({ key }) => key.startsWith(prefix)), revision: 1 }),
      },
      replica: { get: () => null, list: () => [] },
      liveness: { awayMs: () => 0 },
      etcd,
      formation: null,
      ...more,
    },
    timeoutMs,
  );
}

describe('the cluster', () => {
  it('is that of the record in shared state, not the one this host was born with', async () => {
    expect(await view([clusterEntry]).cluster(ctx)).toEqual({
      id: 'c1',
      createdAt: '2026-01-01T00:00:00Z',
      node: 'n1',
      etcd: { ...etcd, usable: true, problem: null, answerMs: expect.any(Number) as unknown },
    });
  });

  it('is told from memory while etcd does not answer, with the reason', async () => {
    const remembering = view(null, { replica: { get: () => clusterEntry, list: () => [] } });
    expect(await remembering.cluster(ctx)).toMatchObject({
      id: 'c1',
      etcd: { usable: false, problem: 'etcd at x cannot be reached', answerMs: null },
    });
  });

  it('is none before anybody has written its record, or where that is damaged', async () => {
    expect(await view([]).cluster(ctx)).toMatchObject({
      id: null,
      createdAt: null,
      etcd: { usable: true },
    });
    expect(await view([entry(keys.cluster, 'x')]).cluster(ctx)).toMatchObject({ id: null });
  });

  it('speaks of no etcd where there is none', async () => {
    const alone = { none: true, own: false, endpoints: [] };
    const slow = () => Promise.reject(new AppError('deadline_exceeded', 'a call was not finished'));
    expect(await view(null, { etcd: alone, state: { range: slow } }).cluster(ctx)).toMatchObject({
      etcd: { ...alone, usable: false, problem: 'a call was not finished' },
    });
    expect(await view([clusterEntry], { etcd: alone }).cluster(ctx)).toMatchObject({
      id: 'c1',
      etcd: { ...alone, usable: true },
    });
  });

  it.each([
    ['etcd at x does not serve', 'etcd at x does not serve'],
    ['reading it was not finished: etcd at x cannot be reached', 'etcd at x cannot be reached'],
    [
      'reading it was not finished',
      'etcd at https://127.0.0.1:23790 does not answer (reading it was not finished)',
    ],
  ])('is answered within its time, however long etcd is silent: %s', async (message, problem) => {
    const range: State['range'] = ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          reject(new AppError('deadline_exceeded', message));
        });
      });
    const silent = view([], { state: { range } }, 20);
    expect(await silent.cluster(ctx)).toMatchObject({ etcd: { usable: false, problem } });
    expect(await silent.nodes(ctx)).toEqual({ nodes: [], problem });
  });
});

describe('the nodes', () => {
  const shared = [nodeEntry('n2', 'b'), nodeEntry('n1', 'a'), aliveEntry('n1')];

  it('are alive with a sign of life, and away without; sorted by name', async () => {
    const { nodes, problem } = await view(shared, { liveness: { awayMs: () => 61_900 } }).nodes(ctx);
    expect(problem).toBeNull();
    const facts = {
      address: '10.0.0.1',
      engineVersion: '28.2.2',
      pluginVersion: '0.1.0',
      pools: { default: { sizeBytes: 100, freeBytes: 40 } },
      labels: { rack: '7' },
      drained: false,
      error: '',
    };
    const since = '2026-01-02T03:04:05Z';
    expect(nodes).toEqual([
      { id: 'n1', self: true, hostname: 'a', state: 'alive', since, awaySeconds: null, ...facts },
      { id: 'n2', self: false, hostname: 'b', state: 'away', since: null, awaySeconds: 61, ...facts },
    ]);
  });

  it('are those of memory while etcd does not answer, and nobody can tell who is alive', async () => {
    const remembering = view(null, { replica: { get: () => null, list: () => [nodeEntry('n1', 'a')] } });
    expect(await remembering.nodes(ctx)).toMatchObject({
      nodes: [{ id: 'n1', self: true, hostname: 'a', state: 'unknown', awaySeconds: null }],
      problem: 'etcd at x cannot be reached',
    });
  });

  it('tell which is drained, from memory too, and damaged settings say nothing', async () => {
    const drained = entry(
      keys.nodeSettings('n1'),
      records.nodeSettings.encode({ schema: 1, labels: {}, drained: true }),
    );
    const all = [nodeEntry('n1', 'a'), nodeEntry('n2', 'b'), drained, entry(keys.nodeSettings('n2'), 'x')];
    const list = (prefix: string) => all.filter(({ key }) => key.startsWith(prefix));
    const expected = [
      { id: 'n1', drained: true },
      { id: 'n2', drained: false },
    ];
    expect((await view(all).nodes(ctx)).nodes).toMatchObject(expected);
    expect((await view(null, { replica: { get: () => null, list } }).nodes(ctx)).nodes).toMatchObject(
      expected,
    );
  });

  it('are shown with the reason when a record is damaged or not there yet', async () => {
    const { nodes } = await view([entry(keys.node('n1'), '{"schema":1}'), aliveEntry('n3')]).nodes(ctx);
    expect(nodes).toMatchObject([
      { id: 'n1', state: 'away', hostname: '', error: expect.stringContaining('is damaged') as unknown },
      { id: 'n3', state: 'alive', hostname: '', error: 'it has no record yet' },
    ]);
  });
});
