import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAdminServer, type AdminServer } from '../../src/admin/server.js';
import type { AdminDeps } from '../../src/admin/router.js';
import { AppError } from '../../src/errors.js';
import { createLog } from '../../src/log.js';

let folder: string;
let socketPath: string;
let server: AdminServer;
let stopping: AbortController;
let logged: string[];
let prefixes: string[];

async function get(url: string, method = 'GET'): Promise<{ status: number | undefined; body: unknown }> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path: url, method, agent: false }, (response) => {
      text(response).then((body) => {
        resolve({ status: response.statusCode, body: JSON.parse(body) as unknown });
      }, reject);
    });
    sent.on('error', reject).end();
  });
}

async function answers(): Promise<void> {
  await vi.waitFor(async () => {
    expect((await get('/v1/health')).status).toBe(200);
  });
}

function serve(): void {
  stopping = new AbortController();
  const log = createLog('error', { write: (line: string) => void logged.push(line) });
  const deps: AdminDeps = {
    health: () => ({ ready: true, etcd: { password: 'hidden' } }),
    volumes: () => [{ name: 'db', mountpoint: '', createdAt: '2026-01-02T03:04:05Z', status: {} }],
    records(prefix) {
      prefixes.push(prefix);
      if (prefix === '/down') return Promise.reject(new AppError('unavailable', 'etcd does not answer'));
      const value = JSON.stringify({ volume: 'db', chapSecret: 'hidden' });
      return Promise.resolve([{ key: '/openebs/attachments/a', value, modRevision: 7 }]);
    },
    log,
  };
  server = createAdminServer(deps, 20);
  server.serve({ log, signal: stopping.signal, requestId: 'test' }, socketPath);
}

async function close(): Promise<void> {
  stopping.abort();
  await server.close();
}

beforeEach(async () => {
  [logged, prefixes] = [[], []];
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
      body: { ready: true, etcd: { password: '[redacted]' } },
    });
    expect(await get('/v1/volumes')).toMatchObject({ status: 200, body: { volumes: [{ name: 'db' }] } });
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
