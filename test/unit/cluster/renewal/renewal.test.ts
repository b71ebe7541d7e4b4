/** Hosts that are all to make their members anew at once, over one shared state. */
import { afterEach, describe, expect, it } from 'vitest';
import { createManagerLock } from '../../../../src/cluster/formation/manager-lock.js';
import type { Observed } from '../../../../src/cluster/formation/observation.js';
import { createRenewal, type Renewal } from '../../../../src/cluster/renewal/renewal.js';
import { createRenewalLock } from '../../../../src/cluster/renewal/renewal-lock.js';
import type { Ctx } from '../../../../src/context.js';
import { AppError } from '../../../../src/errors.js';
import { sleep } from '../../../../src/lib/sleep.js';
import { createLog } from '../../../../src/log.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import type { State } from '../../../../src/state/state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const states: State[] = [];

afterEach(async () => {
  for (const state of states.splice(0)) await state.close();
});

function world(names: readonly string[]) {
  const state = createMemoryState();
  states.push(state);
  const now = {
    leader: names[0]!,
    down: new Set<string>(),
    due: new Set(names),
    mostDown: 0,
    bad: '',
    calls: [] as string[],
  };
  const list = () => ({
    clusterId: '1',
    members: names.map((id) => ({
      id,
      name: id,
      peerUrls: [id],
      clientUrls: [`https://${id}`],
      learner: false,
    })),
  });
  const observe = (): Observed => ({
    list: list(),
    members: names.map((id) => ({
      ...{ id, peerUrl: id, learner: false, started: true, learnerMs: 0 },
      ...{ unreachableMs: now.down.has(id) ? 5 : 0, lag: now.down.has(id) ? null : 0 },
      leader: id === now.leader && !now.down.has(id),
    })),
    hosts: [],
    statuses: new Map(),
    strangers: [],
    unseen: new Set(),
    corrupt: false,
    alarms: [],
    voters: 3,
    renewing: null,
  });
  const hostOf = (id: string): Renewal =>
    createRenewal({
      lock: createRenewalLock(id, state),
      members: {
        list: () => Promise.resolve(list()),
        moveLeader(_ctx, url, to) {
          now.calls.push(`${url.replace('https://', '')} hands over to ${to}`);
          now.leader = to;
          return Promise.resolve();
        },
      },
      observation: { look: () => Promise.resolve(observe()) },
      me: () => id,
      hostname: () => Promise.resolve(`host-${id}`),
      isDue: () => now.due.has(id),
      async renew() {
        now.calls.push(`renew ${id}`);
        now.due.delete(id);
        now.down.add(id);
        now.mostDown = Math.max(now.mostDown, now.down.size);
        if (now.leader === id) throw new Error('a leader was ended');
        await sleep(5);
        if (now.bad === id)
          throw new AppError('unavailable', 'openebs-etcd is not ready: etcd ended: exit 1');
        // It serves, and follows the leader a moment later.
        void sleep(5).then(() => now.down.delete(id));
      },
      pollMs: 1,
    });
  const hosts = new Map(names.map((id) => [id, hostOf(id)]));
  const turn = (id: string) => hosts.get(id)!.look(ctx, observe());
  const turns = () => Promise.all(names.map(turn));
  return { state, now, hosts, turn, turns };
}

describe('members that are made anew', () => {
  it('take turns, though all hosts begin at once, and no leader is ended', async () => {
    const { now, hosts, turns } = world(['a', 'b', 'c']);
    for (let round = 0; now.due.size > 0; round += 1) {
      expect(round).toBeLessThan(10);
      await turns();
    }
    expect(now.mostDown).toBe(1);
    expect(now.calls.filter((call) => call.startsWith('renew')).sort()).toEqual([
      'renew a',
      'renew b',
      'renew c',
    ]);
    expect([...hosts.values()].map(({ view }) => view)).toEqual([null, null, null]);
  });

  it('is one that is alone at once', async () => {
    const { now, turn } = world(['a']);
    now.leader = 'nobody';
    expect(await turn('a')).toBe(true);
    expect(now.calls).toEqual(['renew a']);
  });

  it('wait while another does not answer, and say so', async () => {
    const { now, hosts, turn } = world(['a', 'b', 'c']);
    now.down.add('c');
    expect(await turn('b')).toBe(false);
    expect(hosts.get('b')!.view).toEqual({
      why: 'all others have to answer, and c does not',
      failed: false,
    });
    now.down.clear();
    expect(await turn('b')).toBe(true);
    expect(now.calls).toEqual(['renew b']);
  });

  it('that did not come up stays so and says why; the others are kept as they are', async () => {
    const { now, hosts, turn, turns } = world(['a', 'b', 'c']);
    now.bad = 'b';
    await turn('b');
    expect(hosts.get('b')!.view).toEqual({
      why: 'it has not come up from the image of this plugin: openebs-etcd is not ready: etcd ended: exit 1',
      failed: true,
    });
    await turns();
    await turns();
    expect(now.calls).toEqual(['renew b']);
    expect(hosts.get('c')!.view?.why).toBe('all others have to answer, and b does not');
    // A person has mended it.
    now.down.clear();
    await turn('b');
    expect(hosts.get('b')!.view).toBeNull();
  });

  it('are left alone while the members are changed, and the members while one is made anew', async () => {
    const { state, now, hosts, turn } = world(['a', 'b', 'c']);
    const manager = createManagerLock('c', state);
    await manager.hold(ctx);
    expect(await manager.begin(ctx, 'd gets a member')).toBe(true);
    await turn('b');
    expect(hosts.get('b')!.view?.why).toBe('d gets a member');
    await manager.write(ctx, '');
    const lock = createRenewalLock('b', state);
    expect(await lock.take(ctx, 'host-b')).toBeNull();
    expect(await manager.begin(ctx, 'd gets a member')).toBe(false);
    // It holds its own lock still: what it waits for is told.
    expect(await manager.write(ctx, 'waits')).toBe(true);
    await turn('c');
    expect(hosts.get('c')!.view?.why).toBe('the member on host-b is made anew from the image of its plugin');
    await lock.release(ctx);
    expect(await manager.begin(ctx, 'd gets a member')).toBe(true);
    expect(now.calls).toEqual([]);
  });

  it('need a manager that does nothing at the very moment, not a moment before', async () => {
    const { state } = world(['a']);
    const manager = createManagerLock('c', state);
    await manager.hold(ctx);
    const slow: Pick<State, 'get' | 'transact' | 'lease'> = {
      get: (caller, key) => state.get(caller, key),
      transact: (caller, transaction) => state.transact(caller, transaction),
      async lease(caller, ttlMs) {
        await manager.begin(caller, 'd gets a member');
        return state.lease(caller, ttlMs);
      },
    };
    const lock = createRenewalLock('b', slow);
    expect(await lock.take(ctx, 'host-b')).toBe('another host was faster');
    expect(lock.held).toBe(false);
    expect(await state.get(ctx, keys.renewal)).toBeNull();
  });
});
