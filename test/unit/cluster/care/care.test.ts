import { describe, expect, it } from 'vitest';
import { createCare } from '../../../../src/cluster/care/care.js';
import type { Observed } from '../../../../src/cluster/formation/observation.js';
import { AppError } from '../../../../src/errors.js';
import { createLog } from '../../../../src/log.js';
import type { MemberStatus } from '../../../../src/state/members.js';

const MIB = 2 ** 20;
const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };

interface Database {
  bytes: number;
  inUse: number;
  garbage: number;
}

/** Members a, the leader, b and c in memory, with the clock of the test. */
function world({ quotaMib = 100 } = {}) {
  const databases = new Map<string, Database>();
  for (const id of ['a', 'b', 'c'])
    databases.set(id, { bytes: 100 * MIB, inUse: 100 * MIB, garbage: 90 * MIB });
  const calls: string[] = [];
  const state = {
    ...{ now: 0, mine: true, free: true, noSpace: true, corrupt: false, fails: false },
    ...{ inFlight: 0, atOnce: 0 },
  };
  const of = (url: string) => databases.get(url.replace('https://', ''))!;
  const care = createCare({
    quotaBytes: quotaMib * MIB,
    graceMs: 60_000,
    now: () => state.now,
    isMine: () => Promise.resolve(state.mine),
    begin: () => Promise.resolve(state.free),
    members: {
      alarms: () => Promise.reject(new Error('it is told what is seen')),
      async compact() {
        calls.push('compact');
        for (const database of databases.values()) {
          database.inUse -= database.garbage;
          database.garbage = 0;
        }
        await Promise.resolve();
      },
      async defragment(_ctx, url) {
        calls.push(`defragment ${url.replace('https://', '')}`);
        state.inFlight += 1;
        state.atOnce = Math.max(state.atOnce, state.inFlight);
        await Promise.resolve();
        state.inFlight -= 1;
        if (state.fails) throw new AppError('deadline_exceeded', 'too slow');
        of(url).bytes = of(url).inUse;
      },
      async disarmNoSpace() {
        calls.push('disarm');
        state.noSpace = [...databases.values()].some(({ bytes }) => bytes >= quotaMib * MIB);
        await Promise.resolve();
      },
      count: (_ctx, prefix) =>
        Promise.resolve(prefix === '' || prefix === '/openebs/' ? 7 : prefix.includes('events') ? 5 : 0),
      async moveLeader() {
        await Promise.reject(new Error('not while it is full'));
      },
    },
  });
  const observe = (): Observed => {
    const ids = [...databases.keys()];
    return {
      list: {
        clusterId: '1',
        members: ids.map((id) => ({
          id,
          name: id,
          peerUrls: [id],
          clientUrls: [`https://${id}`],
          learner: false,
        })),
      },
      members: ids.map((id) => ({
        ...{ id, peerUrl: id, learner: false, started: true, unreachableMs: 0, lag: 0, learnerMs: 0 },
        leader: id === 'a',
      })),
      hosts: [],
      statuses: new Map(
        [...databases].map(([id, { bytes, inUse }]): [string, MemberStatus] => [
          id,
          {
            ...{ id, clusterId: '1', version: '', leader: 'a', appliedIndex: 1, learner: false },
            ...{ dbBytes: bytes, dbBytesInUse: inUse },
          },
        ]),
      ),
      unseen: new Set(),
      strangers: [],
      corrupt: state.corrupt,
      alarms: [...(state.noSpace ? ['NOSPACE'] : []), ...(state.corrupt ? ['CORRUPT'] : [])],
      voters: 3,
      renewing: null,
    };
  };
  const look = () => care.look(ctx, observe());
  const untilDone = async () => {
    while (await look()) state.now += 100;
  };
  return { care, calls, databases, look, state, untilDone };
}

describe('the care for the space of etcd', () => {
  it('compacts, defragments one after the other with the leader last, and disarms', async () => {
    const { care, calls, state, untilDone } = world();
    await untilDone();
    expect(calls).toEqual(['compact', 'defragment b', 'defragment c', 'defragment a', 'disarm']);
    expect(state.atOnce).toBe(1);
    expect(care.doing).toBeNull();
  });

  it('does nothing where it is not the turn of this host, and says that another is at it', async () => {
    const { care, calls, state, untilDone } = world();
    state.mine = false;
    await untilDone();
    expect(calls).toEqual([]);
    expect(care.doing).toBe('etcd has used up its space: another host makes room');
    state.noSpace = false;
    await untilDone();
    expect(care.doing).toBeNull();
  });

  it('never touches an etcd with corrupt data', async () => {
    const { calls, state, untilDone } = world();
    state.corrupt = true;
    await untilDone();
    expect(calls).toEqual([]);
  });

  it('starts no second defragmentation while one may go on whose answer was not had', async () => {
    const { calls, look, state } = world();
    await look();
    state.fails = true;
    await expect(look()).rejects.toThrow('too slow');
    state.fails = false;
    state.now += 299_000;
    await look();
    expect(calls).toEqual(['compact', 'defragment b']);
    state.now += 2000;
    await look();
    expect(calls.length).toBe(3);
  });

  it('gives no space free by routine while another member is made anew', async () => {
    const { calls, databases, look, state } = world({ quotaMib: 1000 });
    state.noSpace = false;
    for (const database of databases.values()) database.inUse = 10 * MIB;
    databases.get('b')!.bytes = 200 * MIB;
    await look();
    state.now += 600_000;
    state.free = false;
    await look();
    expect(calls).toEqual([]);
    state.free = true;
    await look();
    expect(calls).toEqual(['defragment b']);
  });

  it('does not disarm what data alone fills, says which, and sees when there is less', async () => {
    const { care, calls, databases, state, untilDone } = world();
    for (const database of databases.values()) database.garbage = 1 * MIB;
    await untilDone();
    expect(calls).toEqual(['compact', 'defragment b', 'defragment c', 'defragment a']);
    expect(care.doing).toBe(
      'etcd has used up its space, and 99 MiB of 100 MiB are data. Most keys: /openebs/events/ (5). ' +
        'Delete what is not needed: fewer events (EVENTS_MAX_COUNT), policies that register less, volumes, keys of others; ' +
        'room is made by itself after that',
    );
    for (const database of databases.values()) database.garbage = 50 * MIB;
    calls.length = 0;
    state.now += 300_000;
    await untilDone();
    expect(calls).toEqual(['compact', 'defragment b', 'defragment c', 'defragment a', 'disarm']);
    expect(care.doing).toBeNull();
  });
});
