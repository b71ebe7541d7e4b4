import { type ServerResponse } from 'node:http';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { type ContainerSpec, createEngine, type Engine } from '../../../src/docker/engine.js';
import { createLog } from '../../../src/log.js';
import { type FakeEngine, startFakeEngine } from '../../fakes/engine-server.js';

const log = createLog('silent');
const spec: ContainerSpec = {
  name: 'role',
  image: 'image:1',
  command: ['role'],
  labels: {},
  binds: [],
  capabilities: [],
  devices: [],
  deviceRules: [],
  securityOptions: [],
  stopTimeoutSeconds: 1,
};
const ctx: Ctx = { log, signal: new AbortController().signal, requestId: 'test' };
let fake: FakeEngine;
/** What the engine has, and what it did, in order. */
let exists: boolean;
let did: string[];
/** Creations that the engine has begun, whether or not anybody still waits for them. */
let begun: (() => void)[];

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

beforeEach(async () => {
  fake = await startFakeEngine();
  exists = false;
  did = [];
  begun = [];
  fake.handle('GET', '/containers/json', (_request, response) => {
    answer(response, 200, []);
  });
  fake.handle('POST', '/containers/create', (_request, response) => {
    begun.push(() => {
      if (exists) {
        answer(response, 409, { message: 'the name is in use' });
        return;
      }
      exists = true;
      did.push('created');
      answer(response, 201, { Id: 'x' });
    });
  });
  fake.handle('GET', '/containers/role/json', (_request, response) => {
    if (exists) answer(response, 200, { State: { Running: true, Restarting: false } });
    else answer(response, 404, { message: 'no such container' });
  });
  fake.handle('POST', '/containers/role/start', (_request, response) => {
    did.push('started');
    response.writeHead(204).end();
  });
  fake.handle('GET', '/containers/role/top', (_request, response) => {
    answer(response, 200, { Titles: ['PID'], Processes: [['1']] });
  });
  fake.handle('DELETE', '/containers/role', (_request, response) => {
    did.push(exists ? 'removed' : 'nothing to remove');
    answer(response, exists ? 204 : 404, {});
    exists = false;
  });
});

afterEach(async () => {
  await fake.close();
});

const begins = (count: number) =>
  vi.waitFor(() => {
    expect(begun).toHaveLength(count);
  });

/** Has begun a creation whose caller has left. */
async function engineLeftAlone(): Promise<Engine> {
  const engine = createEngine(fake.socketPath);
  const leaving = new AbortController();
  const made = engine.ensureContainer({ ...ctx, signal: leaving.signal }, spec);
  await begins(1);
  leaving.abort();
  await expect(made).rejects.toMatchObject({ code: 'canceled' });
  return engine;
}

it('a container whose creation its caller gave up is removed once the engine has made it, not before', async () => {
  const engine = await engineLeftAlone();
  const removed = engine.removeContainer(ctx, 'role', 0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(did).toEqual([]);
  begun[0]?.();
  await removed;
  expect(did).toEqual(['created', 'removed']);
  expect(exists).toBe(false);
});

it('who asks for the container again meanwhile gets the one that is under way', async () => {
  const engine = await engineLeftAlone();
  const second = engine.ensureContainer(ctx, spec);
  begun[0]?.();
  await begins(2);
  begun[1]?.();
  expect(await second).toBe('running');
  expect(did).toEqual(['created']);
});

it('a name that an earlier process has taken, and no container yet, is waited for', async () => {
  const engine = createEngine(fake.socketPath);
  let taken = true;
  fake.handle('POST', '/containers/create', (_request, response) => {
    if (taken) answer(response, 409, { message: 'the name is in use' });
    else answer(response, 201, { Id: 'x' });
    begun.push(() => undefined);
  });
  const made = engine.ensureContainer(ctx, spec);
  await begins(2);
  taken = false;
  expect(await made).toBe('created');
  expect(did).toEqual(['started']);
});

it('a removal whose time is over before the creation has ended says so', async () => {
  const engine = await engineLeftAlone();
  const hurried: Ctx = { ...ctx, signal: AbortSignal.timeout(50) };
  await expect(engine.removeContainer(hurried, 'role', 0)).rejects.toMatchObject({ code: 'canceled' });
  expect(did).toEqual([]);
});

it.each([
  ['container 0123abc is not running', 'replaced'],
  ['container is not running', 'replaced'],
  ['task 0123abc not found: not found', 'replaced'],
  ['ps: exec: "ps": executable file not found in $PATH', 'running'],
  ["Couldn't find PID field in ps output", 'running'],
  ['connection refused: unavailable', 'running'],
])(
  'one that is said to run, and of whose processes the engine says "%s", is %s',
  async (message, expected) => {
    exists = true;
    fake.handle('GET', '/containers/role/top', (_request, response) => {
      answer(response, 500, { message });
    });
    const made = createEngine(fake.socketPath).ensureContainer(ctx, spec);
    await begins(1);
    begun[0]?.();
    if (expected === 'replaced') {
      await begins(2);
      begun[1]?.();
    }
    expect(await made).toBe(expected);
    expect(did).toEqual(expected === 'replaced' ? ['removed', 'created', 'started'] : []);
  },
);
