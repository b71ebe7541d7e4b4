import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAdminServer, type AdminServer } from '../../src/admin/server.js';
import type { EventsQuery } from '../../src/admin/events-query.js';
import type { ClusterMessage, NodeMessage } from '../../src/admin/messages.js';
import type { AdminDeps } from '../../src/admin/router.js';
import { AppError } from '../../src/errors.js';
import { createLog } from '../../src/log.js';

let folder: string;
let socketPath: string;
let server: AdminServer;
let stopping: AbortController;
let logged: string[];
let prefixes: string[];
let queries: EventsQuery[];

interface Answer<Body> {
  readonly status: number | undefined;
  readonly type: string | undefined;
  readonly body: Body;
}

async function getText(url: string, method = 'GET'): Promise<Answer<string>> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: url, method, agent: false }, (response) => {
      text(response).then((body) => {
        resolve({ status: response.statusCode, type: response.headers['content-type'], body });
      }, reject);
    });
    sent.on('error', reject).end();
  });
}

async function get(url: string, method = 'GET'): Promise<Omit<Answer<unknown>, 'type'>> {
  const { status, body } = await getText(url, method);
  return { status, body: JSON.parse(body) as unknown };
}

const event = {
  node: 'n1',
  type: 'container',
  action: 'start',
  actor: 'c1',
  attributes: { name: 'web', DB_PASSWORD: 'hidden' },
  scope: 'local',
  timeNano: '1767323045123456789',
};

async function answers(): Promise<void> {
  await vi.waitFor(async () => {
    expect((await get('/v1/health')).status).toBe(200);
  });
}

const health = { version: '1.2.3', node: 'n1', cluster: 'c1', healthy: true, problems: {} };
const cluster: ClusterMessage = {
  id: 'c1',
  createdAt: '2026-01-02T03:04:05Z',
  node: 'n1',
  etcd: { own: true, endpoints: ['https://127.0.0.1:23790'], usable: true, problem: null, answerMs: 2 },
};
const node: NodeMessage = {
  id: 'n1',
  self: true,
  state: 'alive',
  since: '2026-01-02T03:04:05Z',
  awaySeconds: null,
  hostname: 'a',
  address: '127.0.0.1',
  engineVersion: '28.2.2',
  pluginVersion: '1.2.3',
  pools: { default: { sizeBytes: 2, freeBytes: 1 } },
  labels: { rack: '7', 'join-token': 'hidden' },
  error: '',
};

/** With all that may be there, unless a test says otherwise. */
function serve(more: Partial<AdminDeps> = observed): void {
  stopping = new AbortController();
  const log = createLog('error', { write: (line: string) => void logged.push(line) });
  const deps: AdminDeps = {
    health: () => ({ ...health, etcd: { password: 'hidden' } }),
    cluster: () => Promise.resolve(cluster),
    nodes: () => Promise.resolve({ nodes: [node], problem: null }),
    volumes: () => [{ name: 'db', mountpoint: '', createdAt: '2026-01-02T03:04:05Z', status: {} }],
    records(prefix) {
      prefixes.push(prefix);
      if (prefix === '/down') return Promise.reject(new AppError('unavailable', 'etcd does not answer'));
      const value = JSON.stringify({ volume: 'db', chapSecret: 'hidden' });
      return Promise.resolve([{ key: '/openebs/attachments/a', value, modRevision: 7 }]);
    },
    events(query) {
      queries.push(query);
      return Promise.resolve({ events: [event], truncated: true, damaged: 2 });
    },
    log,
    ...more,
  };
  server = createAdminServer(deps, 20);
  server.serve({ log, signal: stopping.signal, requestId: 'test' }, socketPath);
}

const registry = { ready: true, backends: {}, policies: [] };
const observed: Partial<AdminDeps> = {
  registry: () => ({ ...registry, token: 't', aclSecret: 'hidden' }),
  metrics: () =>
    Promise.resolve({ contentType: 'text/plain; version=0.0.4; charset=utf-8', text: '# HELP a b\na 1\n' }),
};

async function close(): Promise<void> {
  stopping.abort();
  await server.close();
}

beforeEach(async () => {
  [logged, prefixes, queries] = [[], [], []];
  folder = await mkdtemp(path.join(tmpdir(), 'admin-'));
  socketPath = path.join(folder, 'run/admin.sock');
  serve();
  await answers();
});

afterEach(async () => {
  await close();
  await rm(folder, { recursive: true, force: true });
});

describe('the admin API', () => {
  it('listens for root alone', async () => {
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
  });

  it('is served again when its directory was deleted', async () => {
    await rm(path.dirname(socketPath), { recursive: true });
    await answers();
    expect((await stat(path.dirname(socketPath))).mode & 0o777).toBe(0o700);
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
    expect(logged).toEqual([]);
  });

  it('is served once what was in its way is gone, and says once what that is', async () => {
    await close();
    await writeFile(socketPath, '');
    serve();
    await vi.waitFor(() => {
      expect(logged.join()).toContain('it exists and is no socket; remove it');
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(logged).toHaveLength(1);
    await rm(socketPath);
    await answers();
  });

  it('tells health and volumes, without secrets', async () => {
    expect(await get('/v1/health')).toEqual({
      status: 200,
      body: { ...health, etcd: { password: '[redacted]' } },
    });
    expect(await get('/v1/volumes')).toMatchObject({ status: 200, body: { volumes: [{ name: 'db' }] } });
  });

  it('tells of the cluster and its nodes, without secrets', async () => {
    expect(await get('/v1/cluster')).toEqual({ status: 200, body: cluster });
    expect(await get('/v1/nodes')).toEqual({
      status: 200,
      body: { nodes: [{ ...node, labels: { rack: '7', 'join-token': '[redacted]' } }], problem: null },
    });
  });

  it('shows the records below a prefix, without secrets', async () => {
    expect(await get('/v1/records?prefix=/openebs/att')).toEqual({
      status: 200,
      body: {
        entries: [
          {
            key: '/openebs/attachments/a',
            modRevision: 7,
            value: { volume: 'db', chapSecret: '[redacted]' },
          },
        ],
      },
    });
    await get('/v1/records');
    expect(prefixes).toEqual(['/openebs/att', '']);
  });

  it('shows the events of a range of time, without secrets', async () => {
    const range = 'since=1767323045.123456789&until=2026-01-02T04:04:05%2B01:00';
    const rest = 'type=container,volume&action=start,exec_create&actor=web&node=ABCD:EF&limit=7';
    expect(await get(`/v1/events?${range}&${rest}`)).toEqual({
      status: 200,
      body: {
        events: [{ ...event, attributes: { name: 'web', DB_PASSWORD: '[redacted]' } }],
        truncated: true,
        damaged: 2,
      },
    });
    await get('/v1/events');
    expect(queries).toEqual([
      {
        sinceNano: 1_767_323_045_123_456_789n,
        untilNano: 1_767_323_045_000_000_000n,
        types: ['container', 'volume'],
        actions: ['start', 'exec_create'],
        actor: 'web',
        node: 'ABCD:EF',
        limit: 7,
      },
      {},
    ]);
  });

  it('counts how long ago from now', async () => {
    await get('/v1/events?since=10m');
    const agoMs = Date.now() - Number((queries[0]?.sinceNano ?? 0n) / 1_000_000n);
    expect(agoMs).toBeGreaterThanOrEqual(600_000);
    expect(agoMs).toBeLessThan(630_000);
  });

  const allowed = 'it takes since, until, type, action, actor, node, limit, each once';
  it.each([
    ['/v1/events?sinse=10m', `there is no parameter "sinse": ${allowed}; did you mean since?`],
    ['/v1/events?__proto__=x', `there is no parameter "__proto__": ${allowed}`],
    ['/v1/events?since=1m&since=2m', `since is there more than once: ${allowed}`],
    ['/v1/events?since=tomorrow', 'since is "tomorrow": give a time as 2026-01-02T03:04:05.678Z'],
    ['/v1/events?until=', 'until is "": give a time as'],
    ['/v1/events?type=container,', 'type is empty: leave it out to get all'],
    ['/v1/events?node=', 'node is empty: leave it out to get all'],
    ['/v1/events?limit=many', 'limit is "many": give a whole number'],
    ['/v1/events?limit=-1', 'limit is "-1": give a whole number'],
    [
      '/v1/records?prefx=a',
      'there is no parameter "prefx": it takes prefix, each once; did you mean prefix?',
    ],
    ['/v1/registry?a=b', 'there is no parameter "a": it takes none'],
    ['/metrics?name=a', 'there is no parameter "name": it takes none'],
  ])('refuses %s and says what is allowed', async (url, message) => {
    const { status, body } = await get(url);
    expect(status).toBe(400);
    expect(body).toMatchObject({
      error: { code: 'invalid_argument', message: expect.stringContaining(message) as unknown },
    });
    expect(queries).toEqual([]);
  });

  it('tells how the registrator is doing, without secrets, and gives Prometheus its text', async () => {
    expect(await get('/v1/registry')).toEqual({
      status: 200,
      body: { ...registry, token: '[redacted]', aclSecret: '[redacted]' },
    });
    expect(await getText('/metrics')).toEqual({
      status: 200,
      type: 'text/plain; version=0.0.4; charset=utf-8',
      body: '# HELP a b\na 1\n',
    });
  });

  it('says what does not run here', async () => {
    await close();
    serve({});
    await answers();
    for (const url of ['/v1/registry', '/metrics'])
      expect(await get(url)).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } });
  });

  it('says with a code why it cannot, and logs it once', async () => {
    expect(await get('/v1/records?prefix=/down')).toEqual({
      status: 503,
      body: { error: { code: 'unavailable', message: 'etcd does not answer' } },
    });
    expect(logged).toHaveLength(1);
  });

  it.each([
    ['GET', '/', 404],
    ['POST', '/v1/health', 404],
    ['GET', '/v1/records?prefix=a&prefix=b', 400],
  ])('answers %s %s with %d', async (method, url, status) => {
    expect(await get(url, method)).toMatchObject({ status });
  });
});
