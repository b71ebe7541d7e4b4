import { afterEach, beforeEach, expect, it } from 'vitest';
import { manage, type ManagerDeps } from '../../../../src/cluster/formation/manager.js';
import { createManagerLock } from '../../../../src/cluster/formation/manager-lock.js';
import { Observation, type Observed } from '../../../../src/cluster/formation/observation.js';
import type { Ctx } from '../../../../src/context.js';
import { createLog } from '../../../../src/log.js';
import { keys } from '../../../../src/state/keys.js';
import type { MemberCare, Members } from '../../../../src/state/members.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import { records } from '../../../../src/state/records.js';
import type { State } from '../../../../src/state/state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let state: State;

beforeEach(() => {
  state = createMemoryState();
});

afterEach(() => state.close());

async function put(key: string, value: string): Promise<void> {
  await state.transact(ctx, { if: [], then: [{ put: key, value }] });
}

async function join(node: string, member: string | null, duty: string | null): Promise<void> {
  const urls = { clientUrl: `https://10.0.0.${node}:23790`, peerUrl: `https://10.0.0.${node}:23791` };
  const peer = { schema: 1 as const, node, hostname: node, ...urls, member, lost: false, leaving: false };
  await put(keys.peer(node), records.peer.encode(peer));
  if (duty === null) return;
  const told = { schema: 1 as const, node, member: duty, name: 'x', initialCluster: 'x', clusterId: '7' };
  await put(keys.duty(node), records.duty.encode(told));
}

it('takes back a duty of which the member is gone, as whoever removed it may have died in between', async () => {
  const members = {
    status: () => Promise.resolve({ id: '1', clusterId: '7', leader: '1', appliedIndex: 5 }),
    alarms: () => Promise.resolve([]),
    // The cast: it is asked for nothing else; anything more throws.
  } as unknown as Members & MemberCare;
  const observation = new Observation({ state, members, awayMs: () => 0 });
  const lock = createManagerLock('1', state);
  const deps: ManagerDeps = { state, members, lock, observation, graceMs: 1000, stallMs: 1000 };
  const has = (member: string, host: string) => ({
    id: member,
    name: host,
    peerUrls: [`https://10.0.0.${host}:23791`],
    clientUrls: [`https://10.0.0.${host}:23790`],
    learner: false,
  });
  await join('1', '1', '1');
  await join('2', null, '2');
  const observed: Observed = await observation.look(ctx, { clusterId: '7', members: [has('1', '1')] });
  expect(await manage(ctx, deps, observed)).toBe(false);
  const { entries } = await state.range(ctx, keys.duties);
  expect(entries.map(({ key }) => key)).toEqual([keys.duty('1')]);
});
