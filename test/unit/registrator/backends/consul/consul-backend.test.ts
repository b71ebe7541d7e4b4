import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RegistryBackend } from '../../../../../src/registrator/backends/backend.js';
import { createConsulBackend } from '../../../../../src/registrator/backends/consul/consul-backend.js';
import { createLogLines } from '../../../../support/log-lines.js';

// An agent that fails as a real one cannot be made to; test/contract/ has the real one.
let agent: Server;
let address: string;
let calls: string[];
/** By the end of a call's path, or the id in its body. */
let failing: Map<string, { status: number; text: string } | 'hang'>;
let listing: string | undefined;
let services: Map<string, object>;
let backend: RegistryBackend;
let lines: ReturnType<typeof createLogLines>;

beforeEach(async () => {
  calls = [];
  failing = new Map();
  listing = undefined;
  services = new Map();
  agent = createServer((request, response) => {
    const path = new URL(request.url ?? '', 'http://agent').pathname;
    let body = '';
    request.on('data', (chunk: Buffer) => (body += chunk.toString()));
    request.on('end', () => {
      if (path === '/v1/agent/services')
        response.end(listing ?? JSON.stringify(Object.fromEntries(services)));
      else answer(path, body, response);
    });
  });
  await new Promise<void>((listening) => agent.listen(0, '127.0.0.1', listening));
  address = `http://127.0.0.1:${String((agent.address() as AddressInfo).port)}`;
  lines = createLogLines();
  backend = createConsulBackend({ address, owner: 'one', log: lines.log, retryMinMs: 50 });
});

function answer(path: string, body: string, response: ServerResponse): void {
  const given = body === '' ? null : (JSON.parse(body) as { ID: string; Name: string; Meta: object });
  const id = given?.ID ?? path.split('/').at(-1) ?? '';
  calls.push(`${given ? 'register' : 'deregister'} ${id}`);
  const failure = failing.get(id);
  if (failure === 'hang') return;
  if (failure) response.writeHead(failure.status).end(failure.text);
  else {
    if (given) services.set(id, { Service: given.Name, Meta: given.Meta });
    else services.delete(id);
    response.end();
  }
}

afterEach(async () => {
  await backend.close('hand-over');
  agent.closeAllConnections();
  agent.close();
});

function want(...ids: string[]): void {
  const value = JSON.stringify({ Name: 'web' });
  for (const id of ids)
    backend.want(`consul:/${id}`, { value, merge: 'min', overwrite: false, source: 'test' });
}

describe('the backend of consul', () => {
  it('tries again what the agent could not do, less and less often, and does the others meanwhile', async () => {
    failing.set('bad', { status: 500, text: 'No cluster leader' });
    want('bad', 'a');
    await expect.poll(() => [...services.keys()]).toEqual(['a']);
    for (const id of ['b', 'c', 'd']) {
      want(id);
      await delay(100);
    }
    await delay(1_000);
    expect([...services.keys()]).toEqual(['a', 'b', 'c', 'd']);
    const tries = calls.filter((call) => call === 'register bad').length;
    expect(tries).toBeGreaterThan(2);
    expect(tries).toBeLessThan(20);
    expect(lines.lines).toMatchObject([
      { level: 'warn', key: 'consul:/bad', problem: '500, No cluster leader' },
    ]);
    expect(backend.stats().pending).toBeGreaterThan(0);
    failing.clear();
    await backend.settled();
    expect(services.has('bad')).toBe(true);
  });

  it('does the others while the agent has no answer for one', async () => {
    failing.set('bad', 'hang');
    want('bad', ...Array.from({ length: 50 }, (_, index) => String(index)));
    await expect.poll(() => services.size).toBe(50);
    await expect.poll(() => backend.stats().failures, { timeout: 10_000 }).toBe(1);
    want('late');
    await expect.poll(() => services.has('late'), { timeout: 10_000 }).toBe(true);
  });

  it('takes a service that the agent does not know for one that is gone', async () => {
    want('a');
    await backend.settled();
    failing.set('a', { status: 404, text: 'Unknown service ID "a". Ensure that the service ID is passed.' });
    const said = JSON.stringify(Object.fromEntries(services));
    listing = said;
    backend.want('consul:/a', null);
    await backend.settled();
    expect(backend.stats()).toMatchObject({ writes: 2, failures: 0 });
  });

  it('writes nothing while it cannot read what is there', async () => {
    listing = '<html>';
    want('a');
    await expect.poll(() => backend.stats().failures).toBeGreaterThan(2);
    expect(calls).toEqual([]);
    expect(lines.lines).toHaveLength(1);
    listing = undefined;
    await backend.settled();
    expect(calls).toEqual(['register a']);
  });
});
