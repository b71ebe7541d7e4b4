import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createEngine } from '../../../src/docker/engine.js';
import { createLog } from '../../../src/log.js';
import { startFakeEngine, type FakeEngine } from '../../fakes/engine-server.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let fake: FakeEngine;

beforeEach(async () => {
  fake = await startFakeEngine();
  fake.handle('GET', '/containers/json', (_request, response) => response.end('[]'));
});

afterEach(async () => {
  await fake.close();
});

function refuseRemoval(message: string): void {
  fake.handle('DELETE', '/containers/one', (_request, response) => {
    response.writeHead(409, { 'Content-Type': 'application/json' }).end(JSON.stringify({ message }));
  });
}

it('waits for a removal that is in progress already, as one whose caller has left', async () => {
  refuseRemoval('removal of container one is already in progress');
  let looks = 0;
  fake.handle('GET', '/containers/one/json', (_request, response) => {
    looks += 1;
    response.writeHead(looks < 3 ? 200 : 404, { 'Content-Type': 'application/json' }).end('{}');
  });
  await createEngine(fake.socketPath).removeContainer(ctx, 'one', 0);
  expect(looks).toBe(3);
});

it('passes any other refusal on', async () => {
  refuseRemoval('container one is in use');
  await expect(createEngine(fake.socketPath).removeContainer(ctx, 'one', 0)).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringContaining('in use') as string,
  });
});
