import { afterEach, expect, it } from 'vitest';
import { createCare } from '../../src/cluster/care/care.js';
import { isCaretaker } from '../../src/cluster/care/caretaker.js';
import { startLoneCare } from '../../src/cluster/care/lone-care.js';
import { createManagerLock } from '../../src/cluster/formation/manager-lock.js';
import { Observation } from '../../src/cluster/formation/observation.js';
import { createLog } from '../../src/log.js';
import { createEtcdState, type EtcdState } from '../../src/state/etcd-state.js';
import { leaderOf, startMembers, type TestEtcd } from '../support/etcd.js';
import { waitFor } from '../support/exec.js';
import { context } from './state-contract.js';

const QUOTA = 16 * 2 ** 20;
const ctx = context();
const filler = 'x'.repeat(100_000);
let members: TestEtcd[];
let state: EtcdState;

async function start(count: number): Promise<void> {
  members = await startMembers(count, { flags: ['--quota-backend-bytes', String(QUOTA)] });
  state = createEtcdState({
    endpoints: members.map(({ endpoint }) => endpoint),
    log: createLog('silent'),
  });
}

const put = (key: string, more = '') =>
  state.transact(ctx, { if: [], then: [{ put: key, value: filler + more }] });
const alarms = async () => (await state.members.alarms(ctx)).map(({ kind }) => kind);

async function fill(key: (index: number) => string): Promise<void> {
  await expect(
    (async () => {
      for (let index = 0; index < 1000; index += 1) await put(key(index), String(index));
    })(),
  ).rejects.toMatchObject({ code: 'no_space' });
  await waitFor('the alarm', async () => (await alarms()).includes('NOSPACE'));
}

function caring() {
  const observation = new Observation({ state, members: state.members, awayMs: () => 0 });
  const defragmented: string[] = [];
  const care = createCare({
    members: {
      ...state.members,
      defragment: async (caller, url) => {
        defragmented.push(url);
        await state.members.defragment(caller, url);
      },
    },
    quotaBytes: QUOTA,
    graceMs: 60_000,
    isMine: () => Promise.resolve(true),
    begin: () => Promise.resolve(true),
  });
  const look = async () => {
    const list = await state.members.list(ctx);
    return care.look(ctx, await observation.look(ctx, list));
  };
  return { care, defragmented, look };
}

/** Until it has nothing to do. */
async function careFor({ look }: ReturnType<typeof caring>): Promise<void> {
  await waitFor('it is done', async () => !(await look()));
}

afterEach(async () => {
  await state.close();
  await Promise.all(members.map((member) => member[Symbol.asyncDispose]()));
});

for (const count of [1, 3]) {
  it(`makes an etcd of ${String(count)} writable again that history has filled, the leader last`, async () => {
    await start(count);
    await fill(() => '/openebs/again');
    await expect(put('/openebs/more')).rejects.toMatchObject({ code: 'no_space' });
    // Nothing else wakes it up: no put and no new lease.
    await expect(state.lease(ctx, 10_000)).rejects.toMatchObject({ code: 'no_space' });
    const leader = await leaderOf(members);
    const cared = caring();
    await careFor(cared);
    expect(await alarms()).toEqual([]);
    expect(cared.care.doing).toBeNull();
    expect(cared.defragmented).toHaveLength(count);
    expect(cared.defragmented.at(-1)).toBe(leader?.endpoint);
    await put('/openebs/more');
    expect((await state.get(ctx, '/openebs/again'))?.value).toContain(filler);
    for (const { endpoint } of members)
      expect((await state.members.status(ctx, endpoint)).dbBytes).toBeLessThan(QUOTA / 4);
  });
}

it('leaves an etcd alone that is full of data, says of what, and makes room once it was deleted', async () => {
  await start(1);
  await fill((index) => `/openebs/events/node/${String(index)}`);
  const cared = caring();
  await careFor(cared);
  expect(await alarms()).toEqual(['NOSPACE']);
  expect(cared.care.doing).toMatch(
    /^etcd has used up its space, and 1\d MiB of 16 MiB are data\. Most keys: \/openebs\/events\/ \(1\d\d\)\. Delete/,
  );
  const { entries } = await state.range(ctx, '/openebs/events/');
  for (const { key } of entries.slice(0, 100)) await state.transact(ctx, { if: [], then: [{ delete: key }] });
  expect(cared.defragmented).toHaveLength(1);
  // A process that begins now compacts at once; this one does within a minute.
  const next = caring();
  await careFor(next);
  expect(await alarms()).toEqual([]);
  await put('/openebs/more');
});

it('is the business of one host: that with the lock, or with the leader where nobody can take it', async () => {
  await start(3);
  const list = await state.members.list(ctx);
  const hosts = list.members.map(({ id }) => ({ has: id, lock: createManagerLock(`of-${id}`, state) }));
  const observation = new Observation({ state, members: state.members, awayMs: () => 0 });
  const mine = async () => {
    const observed = await observation.look(ctx, list);
    const each = hosts.map(async ({ has, lock }) =>
      (await isCaretaker(ctx, lock, { observed, has })) ? [has] : [],
    );
    return (await Promise.all(each)).flat();
  };
  const leader = (await observation.look(ctx, list)).members.find((member) => member.leader)!.id;
  const holder = hosts.find(({ has }) => has !== leader)!;
  await holder.lock.hold(ctx);
  await fill(() => '/openebs/again');
  expect(await mine()).toEqual([holder.has]);
  await holder.lock.release(ctx);
  expect(await mine()).toEqual([leader]);
});

it('is taken by a host that is alone, with no call from anybody', async () => {
  await start(1);
  await fill(() => '/openebs/again');
  const care = startLoneCare(ctx, {
    state,
    members: state.members,
    quotaBytes: QUOTA,
    graceMs: 60_000,
    paceMs: 100,
  });
  try {
    await waitFor('it is cared for', async () => (await alarms()).length === 0);
    await put('/openebs/more');
    await waitFor('that is told', () => care.view().alarms.length === 0);
    expect(care.view()).toEqual({ doing: null, problem: null, alarms: [] });
  } finally {
    await care.stop();
  }
});
