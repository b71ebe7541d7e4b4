import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createEngine, type Engine } from '../../../src/docker/engine.js';
import { createLog } from '../../../src/log.js';

let directory: string;
let server: Server;
const sockets = new Set<Socket>();

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'hung-'));
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).resume();
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(join(directory, 'docker.sock'), resolve));
});

afterEach(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
  rmSync(directory, { recursive: true });
});

const calls: Record<string, (engine: Engine, ctx: Ctx) => Promise<unknown>> = {
  info: (engine, ctx) => engine.info(ctx),
  hasImage: (engine, ctx) => engine.hasImage(ctx, 'image:1'),
  removeOldTags: (engine, ctx) => engine.removeOldTags(ctx, 'image', 'image:1'),
  removeContainer: (engine, ctx) => engine.removeContainer(ctx, 'role', 0),
  volumeUsers: (engine, ctx) => engine.volumeUsers(ctx, 'db'),
  startUnmounted: (engine, ctx) => engine.startUnmounted(ctx, new Set(['db'])),
  withLabel: (engine, ctx) => engine.withLabel(ctx, 'openebs.role'),
  findsDirectory: (engine, ctx) => engine.findsDirectory(ctx, '/somewhere'),
};

it.each(Object.keys(calls))(
  'an engine that takes %s and does not answer keeps no socket of ours',
  async (name) => {
    const engine = createEngine(join(directory, 'docker.sock'));
    const stopping = new AbortController();
    const ctx: Ctx = { log: createLog('silent'), signal: stopping.signal, requestId: 'test' };
    const calling = calls[name]?.(engine, ctx);
    await vi.waitFor(() => {
      expect(sockets.size).toBe(1);
    });
    stopping.abort();
    await expect(calling).rejects.toMatchObject({ code: 'canceled' });
    await vi.waitFor(() => {
      expect(sockets.size).toBe(0);
    });
  },
);

it('an engine that does not answer a ping within its second keeps no socket of ours', async () => {
  const engine = createEngine(join(directory, 'docker.sock'));
  const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
  expect(await engine.answers(ctx)).toBe(false);
  await vi.waitFor(() => {
    expect(sockets.size).toBe(0);
  });
});
