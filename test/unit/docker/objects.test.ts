import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createEngineObjects, objectKinds, type ObjectKind } from '../../../src/docker/objects.js';
import { createLog } from '../../../src/log.js';
import { type FakeEngine, startFakeEngine } from '../../fakes/engine-server.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const swarmKinds = ['service', 'node', 'secret', 'config'] as const;
const otherKinds = objectKinds.filter((kind) => !swarmKinds.some((one) => one === kind));

/** By kind: what the engine is asked, and how it answers of an object `x` that it has. */
const calls: Record<ObjectKind, { list: string; inspect: string; listed: unknown; inspected: unknown }> = {
  container: {
    list: '/containers/json',
    inspect: '/containers/x/json',
    ...answers([{ Id: 'x' }], { Id: 'x' }),
  },
  image: { list: '/images/json', inspect: '/images/x/json', ...answers([{ Id: 'x' }], { Id: 'x' }) },
  plugin: { list: '/plugins', inspect: '/plugins/x/json', ...answers([{ Id: 'x' }], { Id: 'x' }) },
  volume: {
    list: '/volumes',
    inspect: '/volumes/x',
    ...answers({ Volumes: [{ Name: 'x' }] }, { Name: 'x' }),
  },
  network: { list: '/networks', inspect: '/networks/x', ...answers([{ Id: 'x' }], { Id: 'x' }) },
  daemon: { list: '/info', inspect: '/info', ...answers({ ID: 'x' }, { ID: 'x' }) },
  service: { list: '/services', inspect: '/services/x', ...answers([{ ID: 'x' }], { ID: 'x' }) },
  node: { list: '/nodes', inspect: '/nodes/x', ...answers([{ ID: 'x' }], { ID: 'x' }) },
  secret: { list: '/secrets', inspect: '/secrets/x', ...answers([{ ID: 'x' }], { ID: 'x' }) },
  config: { list: '/configs', inspect: '/configs/x', ...answers([{ ID: 'x' }], { ID: 'x' }) },
};

function answers(listed: unknown, inspected: unknown) {
  return { listed, inspected };
}

let engine: FakeEngine;

beforeEach(async () => {
  engine = await startFakeEngine();
});

afterEach(async () => {
  await engine.close();
});

function answer(path: string, status: number, body: unknown): void {
  engine.handle('GET', path, (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
}

const refuse = (path: string, status: number, message: string) => {
  answer(path, status, { message });
};

describe('objects of an engine', () => {
  it.each(objectKinds)('are listed and inspected: %s', async (kind) => {
    const { list, inspect, listed, inspected } = calls[kind];
    answer(list, 200, listed);
    answer(inspect, 200, inspected);
    const objects = createEngineObjects(engine.socketPath);
    expect(await objects.list(ctx, kind)).toEqual(['x']);
    expect(await objects.inspect(ctx, kind, 'x')).toEqual(inspected);
  });

  it('are none where an engine has no list of volumes', async () => {
    answer('/volumes', 200, { Volumes: null, Warnings: null });
    expect(await createEngineObjects(engine.socketPath).list(ctx, 'volume')).toEqual([]);
  });

  it.each(objectKinds.filter((kind) => kind !== 'daemon'))('that are gone are null: %s', async (kind) => {
    refuse(calls[kind].inspect, 404, `no such ${kind}: x`);
    expect(await createEngineObjects(engine.socketPath).inspect(ctx, kind, 'x')).toBeNull();
  });

  it('are gone with an engine that has become another one', async () => {
    answer('/info', 200, { ID: 'another' });
    expect(await createEngineObjects(engine.socketPath).inspect(ctx, 'daemon', 'x')).toBeNull();
  });

  it.each(swarmKinds)('of Swarm are none where the engine is no manager: %s', async (kind) => {
    const { list, inspect } = calls[kind];
    const objects = createEngineObjects(engine.socketPath);
    for (const text of [
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
      "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.",
      'This node is not part of a swarm',
    ]) {
      for (const path of [list, inspect]) refuse(path, 503, text);
      expect(await objects.list(ctx, kind)).toEqual([]);
      expect(await objects.inspect(ctx, kind, 'x')).toBeNull();
    }
  });

  it.each(swarmKinds)('of Swarm are not known while it has no leader: %s', async (kind) => {
    const { list, inspect } = calls[kind];
    const text =
      "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online.";
    for (const path of [list, inspect]) refuse(path, 503, text);
    const objects = createEngineObjects(engine.socketPath);
    await expect(objects.list(ctx, kind)).rejects.toThrow(/list every .*does not have a leader/);
    await expect(objects.inspect(ctx, kind, 'x')).rejects.toThrow(/inspect .* x: .*does not have a leader/);
  });

  it.each(otherKinds)('are not taken for gone when the engine fails over them: %s', async (kind) => {
    const { list, inspect } = calls[kind];
    for (const path of [list, inspect]) refuse(path, 500, 'the driver says: not a swarm manager');
    const objects = createEngineObjects(engine.socketPath);
    await expect(objects.list(ctx, kind)).rejects.toMatchObject({ code: 'internal' });
    await expect(objects.inspect(ctx, kind, 'x')).rejects.toMatchObject({ code: 'internal' });
  });

  it.each(objectKinds)('that it takes its time over are not waited for: %s', async (kind) => {
    const open = new Set<object>();
    for (const path of [calls[kind].list, calls[kind].inspect])
      engine.handle('GET', path, ({ socket }) => {
        open.add(socket);
        socket.on('close', () => open.delete(socket));
      });
    const objects = createEngineObjects(engine.socketPath, 50);
    for (const call of [objects.list(ctx, kind), objects.inspect(ctx, kind, 'x')])
      await expect(call).rejects.toMatchObject({
        code: 'unavailable',
        message: expect.stringContaining('does not answer') as string,
      });
    // Nor is a socket kept for each.
    await vi.waitFor(() => {
      expect(open.size).toBe(0);
    });
  });

  it('are not known where there is no engine', async () => {
    await engine.stop();
    const objects = createEngineObjects(engine.socketPath);
    await expect(objects.list(ctx, 'container')).rejects.toMatchObject({ code: 'unavailable' });
    await expect(objects.inspect(ctx, 'container', 'x')).rejects.toMatchObject({ code: 'unavailable' });
  });
});
