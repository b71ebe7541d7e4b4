import { describe, expect, it } from 'vitest';
import { formatAddress } from '../../../../src/cluster/discovery/address.js';
import { createSwarmDiscovery } from '../../../../src/cluster/discovery/swarm.js';
import type { Ctx } from '../../../../src/context.js';
import type { SwarmNode } from '../../../../src/docker/swarm.js';
import { AppError } from '../../../../src/errors.js';
import { createLog } from '../../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const node = (address: string, managerAddress: string | null = null, isReady = true): SwarmNode => ({
  address,
  managerAddress,
  isReady,
});
const find = async (...nodes: SwarmNode[]) => {
  const swarm = { nodes: () => Promise.resolve(nodes) };
  return (await createSwarmDiscovery({ swarm, port: 1 }).find(ctx)).map(formatAddress);
};

describe("discovery among Swarm's nodes", () => {
  it('takes what a manager advertises, for its own address may be anything', async () => {
    expect(
      await find(
        node('0.0.0.0', '10.0.0.1:2377'),
        node('127.0.0.1', '10.0.0.2:2377'),
        node('10.0.0.33', '10.0.0.3:2377'),
        node('::1', '[fd00::4]:2377'),
        node('10.0.0.5'),
      ),
    ).toEqual(['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1', '[fd00::4]:1', '10.0.0.5:1']);
  });

  it("takes a manager's own address where it advertises none that leads to it", async () => {
    expect(
      await find(node('10.0.0.1', '0.0.0.0:2377'), node('10.0.0.2', '127.0.0.1:2377'), node('10.0.0.3', '')),
    ).toEqual(['10.0.0.1:1', '10.0.0.2:1', '10.0.0.3:1']);
  });

  it('leaves out nodes of which no address leads anywhere', async () => {
    expect(
      await find(node('0.0.0.0'), node('127.0.0.1', '127.0.0.1:2377'), node(''), node('nonsense')),
    ).toEqual([]);
  });

  it('tries nodes last that are down', async () => {
    expect(await find(node('10.0.0.1', null, false), node('10.0.0.2'), node('10.0.0.3'))).toEqual([
      '10.0.0.2:1',
      '10.0.0.3:1',
      '10.0.0.1:1',
    ]);
  });

  it('says why there is nothing to ask', async () => {
    const swarm = {
      nodes: () => Promise.reject(new AppError('unavailable', 'no part of a Swarm: join one')),
    };
    await expect(createSwarmDiscovery({ swarm, port: 1 }).find(ctx)).rejects.toMatchObject({
      code: 'unavailable',
      message: 'discovery swarm: no part of a Swarm: join one',
    });
  });
});
