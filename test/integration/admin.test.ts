import { mkdtemp, rm, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createAdminServer, type AdminServer } from '../../src/admin/server.js';
import { AppError } from '../../src/errors.js';
import { createLog } from '../../src/log.js';

let folder: string;
let socketPath: string;
let server: AdminServer;
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

beforeEach(async () => {
  [logged, prefixes] = [[], []];
  folder = await mkdtemp(path.join(tmpdir(), 'admin-'));
  socketPath = path.join(folder, 'admin.sock');
  server = createAdminServer({
    health: () => ({ ready: true, etcd: { password: 'hidden' } }),
    volumes: () => [{ name: 'db', mountpoint: '', createdAt: '2026-01-02T03:04:05Z', status: {} }],
    records(prefix) {
      prefixes.push(prefix);
      if (prefix === '/down') return Promise.reject(new AppError('unavailable', 'etcd does not answer'));
      const value = JSON.stringify({ volume: 'db', chapSecret: 'hidden' });
      return Promise.resolve([{ key: '/openebs/attachments/a', value, modRevision: 7 }]);
    },
    log: createLog('error', { write: (line: string) => void logged.push(line) }),
  });
  await server.listen(socketPath);
});

afterEach(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

describe('the admin API', () => {
  it('listens for root alone', async () => {
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
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
