import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createEngineSwarm } from '../../../src/docker/swarm.js';
import { createLog } from '../../../src/log.js';
import { type FakeEngine, startFakeEngine } from '../../fakes/engine-server.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const noManager = (why: string) => ({ message: `This node is not a swarm manager. ${why}` });
let engine: FakeEngine;

beforeEach(async () => {
  engine = await startFakeEngine();
});
afterEach(() => engine.close());

function answerNodes(status: number, body: unknown): void {
  engine.handle('GET', '/nodes', (_request, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
}
const nodes = () => createEngineSwarm(engine.socketPath).nodes(ctx);

describe("an engine's Swarm", () => {
  it('has nodes, as a manager lists them', async () => {
    answerNodes(200, [
      { Status: { State: 'ready', Addr: '0.0.0.0' }, ManagerStatus: { Leader: true, Addr: '10.0.0.1:2377' } },
      { Status: { State: 'down', Addr: '10.0.0.2' } },
      {},
    ]);
    expect(await nodes()).toEqual([
      { address: '0.0.0.0', managerAddress: '10.0.0.1:2377', isReady: true },
      { address: '10.0.0.2', managerAddress: null, isReady: false },
      { address: '', managerAddress: null, isReady: false },
    ]);
  });

  it('has managers, as a worker knows them', async () => {
    answerNodes(503, noManager("Worker nodes can't be used to view or modify cluster state."));
    const managers = [{ NodeID: 'a', Addr: '10.0.0.1:2377' }];
    engine.info = { Swarm: { LocalNodeState: 'active', RemoteManagers: managers } };
    expect(await nodes()).toEqual([{ address: '', managerAddress: '10.0.0.1:2377', isReady: true }]);
  });

  it.each([
    [{}, 'not part of a Swarm: make it so with docker swarm join'],
    [{ Swarm: { LocalNodeState: 'inactive', RemoteManagers: null } }, 'not part of a Swarm'],
    [
      { Swarm: { LocalNodeState: 'pending', RemoteManagers: null } },
      'is pending in a Swarm and knows no manager',
    ],
    [
      { Swarm: { LocalNodeState: 'active', RemoteManagers: [] } },
      'is active in a Swarm and knows no manager',
    ],
    [{ Swarm: { LocalNodeState: 'locked' } }, 'is locked in a Swarm'],
  ])('has none, with the reason: %j', async (info, reason) => {
    answerNodes(503, noManager('Use "docker swarm init" or "docker swarm join".'));
    engine.info = info;
    await expect(nodes()).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining(reason) as string,
    });
  });

  it('is not known while it has no leader', async () => {
    answerNodes(503, {
      message: "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible",
    });
    await expect(nodes()).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('has no leader at the moment') as string,
    });
  });

  it('is not known where the engine fails, or is away', async () => {
    answerNodes(500, { message: 'boom' });
    await expect(nodes()).rejects.toMatchObject({ code: 'internal' });
    await engine.stop();
    await expect(nodes()).rejects.toMatchObject({ code: 'unavailable' });
  });
});
