import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { EventsQuery } from '../../src/admin/events-query.js';
import type { ClusterMessage, HealthMessage, NodeMessage } from '../../src/admin/messages.js';
import type { AdminDeps } from '../../src/admin/router.js';
import { createAdminServer, type AdminServer } from '../../src/admin/server.js';
import { runProgram } from '../../src/cli/run.js';
import { AppError } from '../../src/errors.js';
import { createLog } from '../../src/log.js';
import type { VolumeView } from '../../src/volumes/volume-service.js';

let folder: string;
let socketPath: string;
let server: AdminServer;
let stopping: AbortController;
let queries: EventsQuery[];

const health: HealthMessage = {
  version: '0.1.0',
  node: 'ID-A',
  cluster: 'born',
  healthy: true,
  problems: {},
  recordsComplete: true,
  cache: { state: 'ok', reason: '' },
  strays: [],
};
const cluster: ClusterMessage = {
  id: 'c1',
  createdAt: '2026-01-01T00:00:00Z',
  node: 'ID-A',
  etcd: { own: true, endpoints: ['https://127.0.0.1:23790'], usable: true, problem: null, answerMs: 3 },
};

function node(id: string, hostname: string, state: NodeMessage['state']): NodeMessage {
  return {
    id,
    self: id === 'ID-A',
    hostname,
    state,
    since: state === 'alive' ? '2026-01-02T03:04:05Z' : null,
    awaySeconds: state === 'away' ? 70 : null,
    address: '10.0.0.1',
    engineVersion: '28.2.2',
    pluginVersion: '0.1.0',
    pools: { default: { sizeBytes: 20 * 2 ** 30, freeBytes: 10 * 2 ** 30 } },
    labels: { rack: '7', 'api-token': 'hidden' },
    error: '',
  };
}

function volume(name: string, more: VolumeView['status'] = {}): VolumeView {
  const status = {
    id: `v-${name}`,
    state: 'ready' as const,
    size: '10 GiB',
    sizeBytes: 10 * 2 ** 30,
    fs: 'ext4',
    pool: 'default',
    node: 'ID-A',
    target: '10.0.0.1:13260',
    iqn: 'iqn.x',
    attachedTo: '',
    mountsHere: 0,
    error: '',
    repaired: '',
  };
  return { name, mountpoint: '', createdAt: '2026-01-02T03:04:05Z', status: { ...status, ...more } };
}

const event = {
  node: 'ID-B',
  type: 'container',
  action: 'start',
  actor: 'c'.repeat(64),
  attributes: { name: 'web', image: 'nginx', 'com.docker.x': 'y', SECRET_TOKEN: 'hidden' },
  scope: 'local',
  timeNano: '1767323045123456789',
};

function serve(more: Partial<AdminDeps> = {}): void {
  const log = createLog('silent');
  const deps: AdminDeps = {
    health: () => health,
    cluster: () => Promise.resolve(cluster),
    nodes: () =>
      Promise.resolve({ nodes: [node('ID-A', 'a', 'alive'), node('ID-B', 'b', 'alive')], problem: null }),
    volumes: () => [
      volume('web', { attachedTo: 'ID-B', fs: 'xfs' }),
      volume('db', { error: 'its data is gone' }),
    ],
    records: () => Promise.reject(new AppError('internal', 'nobody asks for records')),
    events: (query) => {
      queries.push(query);
      return Promise.resolve({ events: [event], truncated: true, damaged: 1 });
    },
    log,
    ...more,
  };
  server = createAdminServer(deps, 20);
  server.serve({ log, signal: stopping.signal, requestId: 'test' }, socketPath);
}

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function runRaw(...args: string[]): Promise<Ran> {
  let [out, err] = ['', ''];
  const code = await runProgram({
    args,
    env: { HOME: folder },
    version: '0.1.0',
    isRoot: true,
    input: { isTerminal: false, readLine: () => Promise.resolve(null) },
    print: (text) => (out += text),
    complain: (text) => (err += text),
  });
  return { code, out, err };
}

const run = (...args: string[]): Promise<Ran> => runRaw('openebs', ...args, '--socket', socketPath);

async function json(...args: string[]): Promise<unknown> {
  return JSON.parse((await run(...args, '--format', 'json')).out) as unknown;
}

async function serveAnew(more: Partial<AdminDeps>): Promise<void> {
  await close();
  stopping = new AbortController();
  serve(more);
  await answers();
}

async function answers(): Promise<void> {
  // The first time loads the program as well.
  await vi.waitFor(
    async () => {
      expect((await run('version')).code).toBe(0);
    },
    { timeout: 10_000 },
  );
}

async function close(): Promise<void> {
  stopping.abort();
  await server.close();
}

beforeEach(async () => {
  queries = [];
  folder = await mkdtemp(path.join(tmpdir(), 'cli-'));
  socketPath = path.join(folder, 'run/admin.sock');
  stopping = new AbortController();
  serve();
  await answers();
});

afterEach(async () => {
  await close();
  await rm(folder, { recursive: true, force: true });
});

describe('docker openebs volume', () => {
  it('ls lists volumes, sorted, with the names of nodes', async () => {
    expect(await run('volume', 'ls')).toEqual({
      code: 0,
      out:
        'NAME   STATE   SIZE     FS     DATA ON   ATTACHED TO   TROUBLE\n' +
        'db     ready   10 GiB   ext4   a                       its data is gone\n' +
        'web    ready   10 GiB   xfs    a         b\n',
      err: '',
    });
    expect(await json('volume', 'ls')).toMatchObject({ volumes: [{ name: 'db' }, { name: 'web' }] });
    expect((await run('volume', 'ls', '-q')).out).toBe('db\nweb\n');
  });

  it.each([
    [['name=b'], 'db\nweb\n'],
    [['name=we'], 'web\n'],
    [['attached=b'], 'web\n'],
    [['attached=ID-B', 'fs=ext4'], ''],
    [['fs=ext4', 'fs=xfs'], 'db\nweb\n'],
    [['node=a', 'state=ready', 'pool=default'], 'db\nweb\n'],
    [['node=unknown'], ''],
    [['troubled=true'], 'db\n'],
    [['troubled=false'], 'web\n'],
  ])('ls --filter %j', async (filters, out) => {
    expect(await run('volume', 'ls', '-q', ...filters.flatMap((text) => ['-f', text]))).toEqual({
      code: 0,
      out,
      err: '',
    });
  });

  it.each(['size=1', 'name', 'toString=x', 'troubled=yes'])('ls refuses the filter %s', async (filter) => {
    const { code, out, err } = await run('volume', 'ls', '--filter', filter);
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(/^--filter .*give /);
  });

  it('inspect shows those that are there, and names the others', async () => {
    const { code, out, err } = await run('volume', 'inspect', 'web', 'dbb', 'zzzzz');
    expect(code).toBe(1);
    expect(out).toMatch(/^name {10}web\n/);
    expect(out).toContain('attached to   ID-B\n');
    expect(err).toBe(
      'there is no volume "dbb"; did you mean db?\nthere is no volume "zzzzz"; there is web, db\n',
    );
    expect(await json('volume', 'inspect', 'web')).toMatchObject([{ name: 'web', status: { id: 'v-web' } }]);
  });
});

describe('docker openebs node', () => {
  it('ls marks this host, and says who is away', async () => {
    await serveAnew({
      nodes: () =>
        Promise.resolve({ nodes: [node('ID-A', 'a', 'alive'), node('ID-B', 'b', 'away')], problem: null }),
    });
    expect(await run('node', 'ls')).toEqual({
      code: 0,
      out:
        'NODE     HOST   STATE       ADDRESS    ENGINE   PLUGIN   FREE\n' +
        'ID-A *   a      alive       10.0.0.1   28.2.2   0.1.0    10 GiB\n' +
        'ID-B     b      away 70 s   10.0.0.1   28.2.2   0.1.0    10 GiB\n',
      err: '',
    });
    expect((await run('node', 'ls', '-q')).out).toBe('ID-A\nID-B\n');
  });

  it('ls says when nobody can tell who is alive', async () => {
    await serveAnew({
      nodes: () =>
        Promise.resolve({ nodes: [node('ID-A', 'a', 'unknown')], problem: 'etcd does not answer' }),
    });
    const { code, out, err } = await run('node', 'ls');
    expect([code, err]).toEqual([0, 'nobody can tell who is alive: etcd does not answer\n']);
    expect(out).toContain('unknown');
    expect(await json('node', 'ls')).toMatchObject({ problem: 'etcd does not answer' });
  });

  it('inspect finds a node by host name, ID, or the beginning of an ID, and shows no secret', async () => {
    expect(await json('node', 'inspect', 'b', 'ID-A')).toMatchObject([{ id: 'ID-B' }, { id: 'ID-A' }]);
    const { code, out, err } = await run('node', 'inspect', 'b', 'ID', 'c');
    expect(code).toBe(1);
    expect(out).toContain('labels    rack=7 api-token=[redacted]\n');
    expect(err).toMatch(
      /^"ID" is more than one node: give the ID of one: ID-A, ID-B\nthere is no node "c"; /,
    );
  });
});

describe('docker openebs events', () => {
  it('shows what happened, by local names, and tells of what it leaves out', async () => {
    const { code, out, err } = await run('events');
    expect(code).toBe(0);
    expect(out).toBe(
      'TIME                       NODE   TYPE        ACTION   OBJECT   ATTRIBUTES\n' +
        '2026-01-02T03:04:05.123Z   b      container   start    web      image=nginx SECRET_TOKEN=[redacted]\n',
    );
    expect(err).toMatch(
      /^there are more: these are the newest 1 event.*\n1 record of events could not be read/,
    );
  });

  it('asks for what the options say', async () => {
    const options = ['--since', '1767323045', '--type', 'container', '--type', 'volume', '--action', 'die'];
    await run('events', ...options, '--actor', 'web', '--node', 'b', '-n', '5');
    const types = ['container', 'volume'];
    const sinceNano = 1_767_323_045_000_000_000n;
    expect(queries).toEqual([{ sinceNano, types, actions: ['die'], actor: 'web', node: 'ID-B', limit: 5 }]);
  });

  it('is one event a line for programs', async () => {
    const { out } = await run('events', '--format', 'json');
    const attributes = { ...event.attributes, SECRET_TOKEN: '[redacted]' };
    expect(
      out
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([{ ...event, attributes }]);
  });

  it('says what the plugin does not take, and which node is none', async () => {
    const wrong = await run('events', '--since', 'tomorrow');
    expect(wrong.code).toBe(2);
    expect(wrong.err).toMatch(/^since is "tomorrow": give a time as /);
    const unknown = await run('events', '--node', 'x');
    expect([unknown.code, unknown.err]).toEqual([1, expect.stringMatching(/^there is no node "x"/)]);
    expect(queries).toEqual([]);
  });
});

describe('docker openebs cluster status', () => {
  it('ends with 0 when all is well, and with 1 when something is wrong', async () => {
    const wrong = await run('cluster', 'status');
    expect(wrong.code).toBe(1);
    expect(wrong.out).toContain(
      '1 thing is wrong:\n  volume db: ready, its data on a (this host): its data is gone\n',
    );
    expect(await json('cluster', 'status')).toMatchObject({
      healthy: false,
      findings: [{ level: 'wrong', object: 'volume db' }],
      volumes: { total: 2, byState: { ready: 2 }, attached: 1 },
    });
    await serveAnew({ volumes: () => [volume('web')] });
    const well = await run('cluster', 'status');
    expect(well.code).toBe(0);
    expect(well.out).toContain('All is well.\n');
  });
});

describe('docker openebs', () => {
  it('version tells of both sides, and of this one alone where nobody answers', async () => {
    expect(await run('version')).toEqual({
      code: 0,
      out: 'docker openebs   0.1.0\nplugin           0.1.0 on node ID-A\n',
      err: '',
    });
    await close();
    const alone = await run('version');
    expect(alone.code).toBe(3);
    expect(alone.out).toBe('docker openebs   0.1.0\n');
    expect(alone.err).toMatch(/^nobody listens at .*: correct --socket, or start the plugin there\n$/);
    expect(await json('version')).toMatchObject({ client: { version: '0.1.0' }, plugin: null });
  });

  it('completes names', async () => {
    const { out } = await runRaw('__complete', 'openebs', '--socket', socketPath, 'volume', 'inspect', 'd');
    expect(out).toBe('db\n:4\n');
  });

  it('does not take this host for one that docker reaches over the network', async () => {
    const { code, err } = await runRaw('-H', 'ssh://far', 'openebs', 'volume', 'ls');
    expect(code).toBe(3);
    expect(err).toMatch(/^docker talks to the engine at ssh:\/\/far, .*: run it on that host/);
    expect((await runRaw('-H', 'ssh://far', 'openebs', 'volume', 'ls', '--socket', socketPath)).code).toBe(0);
  });

  it('says what the plugin failed at', async () => {
    await serveAnew({ nodes: () => Promise.reject(new AppError('unavailable', 'etcd is away')) });
    expect(await run('node', 'ls')).toEqual({ code: 1, out: '', err: 'etcd is away\n' });
  });

  it.each([
    [
      404,
      '{"error":{"code":"not_found","message":"there is no GET /v1/nodes"}}',
      1,
      /is older than this program/,
    ],
    [200, '<html>', 3, /what answers at .* is not the plugin/],
    [500, '{}', 3, /what answers at .* is not the plugin/],
    [500, 'null', 3, /what answers at .* is not the plugin/],
  ])('takes nothing for an answer that is none: %d %s', async (status, body, code, message) => {
    const other: Server = createServer((_request, response) => response.writeHead(status).end(body));
    const place = path.join(folder, 'other.sock');
    await new Promise<void>((resolve) => other.listen(place, resolve));
    const ran = await runRaw('openebs', 'node', 'ls', '--socket', place);
    expect(ran).toEqual({ code, out: '', err: expect.stringMatching(message) as unknown });
    other.close();
  });
});
