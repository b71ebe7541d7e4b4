/** What a host makes of the list of the members, with its process dying at every named point. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  putAside,
  readIncarnation,
  writeIncarnation,
} from '../../../../src/cluster/formation/incarnation.js';
import { createLocalMember, type LocalMember } from '../../../../src/cluster/formation/local-member.js';
import { readMembership } from '../../../../src/cluster/formation/membership.js';
import {
  carryOutMove,
  decideTransition,
  readTransition,
  type Move,
} from '../../../../src/cluster/formation/transition.js';
import type { Ctx } from '../../../../src/context.js';
import { createHostPaths, type HostPaths } from '../../../../src/dataplane/host-paths.js';
import { hookFailPoints } from '../../../../src/lib/fail-points.js';
import { createLog } from '../../../../src/log.js';
import { keys } from '../../../../src/state/keys.js';
import type { Member, MemberList, Members } from '../../../../src/state/members.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import { records } from '../../../../src/state/records.js';
import type { State } from '../../../../src/state/state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const mine = 'https://10.0.0.2:23791';
const here = 'https://10.0.0.2:23790';
let root: string;
let paths: HostPaths;
let state: State;
let runs: string[];
let stops: number;
let moved: string[];
let leaving: boolean;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'local-member-'));
  mkdirSync(join(root, 'var/lib/openebs/etcd'), { recursive: true });
  paths = createHostPaths(root, '/mnt');
  state = createMemoryState();
  runs = [];
  stops = 0;
  moved = [];
  leaving = false;
});

afterEach(async () => {
  hookFailPoints(null);
  await state.close();
  rmSync(root, { recursive: true });
});

function member(id: string, more: Partial<Member> = {}): Member {
  return {
    id,
    name: `m-${id}`,
    peerUrls: [`https://10.0.0.${id}:23791`],
    clientUrls: ['x'],
    learner: false,
    ...more,
  };
}

const listOf = (...members: Member[]): MemberList => ({ clusterId: '77', members });

function host(): LocalMember {
  return createLocalMember({
    node: 'n2',
    advertise: '10.0.0.2',
    port: 23_790,
    paths,
    state,
    // The cast: it calls nothing else of them; anything more throws.
    members: {
      move: (_ctx: Ctx, id: string, url: string) => {
        moved.push(`${id} ${url}`);
        return Promise.resolve();
      },
      status: (_ctx: Ctx, url: string) => Promise.resolve({ id: url === 'x' ? '1' : '2', clusterId: '77' }),
      // The cast: a local member asks for nothing else; anything more throws.
    } as unknown as Members,
    hostname: () => Promise.resolve('two'),
    run: (_ctx, { member: id = '', initialCluster = 'alone' }) => {
      runs.push(`${id} ${initialCluster}`);
      pretendData();
      return Promise.resolve();
    },
    retire: async () => {
      stops += 1;
      await putAside(paths);
    },
    isLeaving: () => leaving,
  });
}

function pretendData(): void {
  const wal = join(root, 'var/lib/openebs/etcd/member/wal');
  mkdirSync(wal, { recursive: true });
  writeFileSync(join(wal, '0.wal'), 'log');
}

async function assign(id: string): Promise<void> {
  const value = records.duty.encode({
    schema: 1,
    node: 'n2',
    member: id,
    name: `openebs-${id}`,
    initialCluster: `m-1=https://10.0.0.1:23791,openebs-${id}=${mine}`,
    clusterId: '77',
  });
  await state.transact(ctx, { if: [], then: [{ put: keys.duty('n2'), value }] });
}

async function told() {
  const entry = await state.get(ctx, keys.peer('n2'));
  return entry && records.peer.decode(entry.key, entry.value);
}

const fresh = (id: string) => member(id, { name: '', clientUrls: [], peerUrls: [mine], learner: true });

describe('a host and the list of the members', () => {
  it('without a duty is a spare, and says so once', async () => {
    const here = host();
    await here.follow(ctx, listOf(member('1')));
    await here.follow(ctx, listOf(member('1')));
    expect(here).toMatchObject({ has: null, lost: false });
    expect(await told()).toMatchObject({
      member: null,
      lost: false,
      leaving: false,
      peerUrl: mine,
      hostname: 'two',
    });
    expect((await state.range(ctx, '/')).revision).toBe(2);
  });

  it('becomes the member that it is told to be, with its number on disk before the start', async () => {
    await assign('2');
    const here = host();
    await here.follow(ctx, listOf(member('1'), fresh('2')));
    expect(runs).toEqual([`2 m-1=https://10.0.0.1:23791,openebs-2=${mine}`]);
    expect(await readIncarnation(paths)).toMatchObject({ member: '2', clusterId: '77', formed: false });
    expect(await told()).toMatchObject({ member: '2', lost: false });
  });

  it('takes no duty of a member that is not in the list, or of another etcd', async () => {
    await assign('2');
    await host().follow(ctx, listOf(member('1')));
    await host().follow(ctx, { clusterId: '78', members: [member('1'), fresh('2')] });
    expect(runs).toEqual([]);
    expect(await readIncarnation(paths)).toBeNull();
  });

  it('that finds its member started, and nothing of it here, has lost it: it is not started again', async () => {
    await assign('2');
    const here = host();
    await here.follow(ctx, listOf(member('1'), member('2')));
    expect(runs).toEqual([]);
    expect(await told()).toMatchObject({ member: '2', lost: true });
    await here.follow(ctx, listOf(member('1')));
    expect(await told()).toMatchObject({ member: null, lost: false });
  });

  it('that lost the log of its member says so', async () => {
    await writeIncarnation(paths, { token: 't', formed: true, name: 'x', member: '2', clusterId: '77' });
    const here = host();
    await here.follow(ctx, listOf(member('1'), member('2')));
    expect(await told()).toMatchObject({ member: '2', lost: true });
    expect(stops).toBe(0);
  });

  it('whose member was removed puts its data aside, and becomes a spare', async () => {
    pretendData();
    await writeIncarnation(paths, { token: 't', formed: true, name: 'x', member: '2', clusterId: '77' });
    const here = host();
    await here.follow(ctx, listOf(member('1'), member('3')));
    expect(stops).toBe(1);
    expect(existsSync(join(root, 'var/lib/openebs/etcd/member'))).toBe(false);
    expect(readdirSync(join(root, 'var/lib/openebs/etcd/former'))).toHaveLength(1);
    expect(await told()).toMatchObject({ member: null });
  });

  it('keeps its data when the list is of another etcd, until that is known to be the next of the cluster', async () => {
    pretendData();
    await writeIncarnation(paths, { token: 't', formed: true, name: 'x', member: '2', clusterId: '66' });
    const here = host();
    await here.follow(ctx, listOf(member('1')));
    expect(stops).toBe(0);
    await here.yield(ctx, listOf(member('1')));
    expect(stops).toBe(1);
    expect(await readIncarnation(paths)).toBeNull();
  });

  it('begins nothing over data that nobody knows', async () => {
    pretendData();
    await assign('2');
    await expect(host().follow(ctx, listOf(member('1'), fresh('2')))).rejects.toMatchObject({
      code: 'conflict',
    });
    expect(runs).toEqual([]);
  });

  it('with another address tells the others, and with the same nobody', async () => {
    pretendData();
    await writeIncarnation(paths, { token: 't', formed: true, name: 'x', member: '2', clusterId: '77' });
    // It answers here already, and on loopback, where it was before.
    const clientUrls = ['https://127.0.0.1:23790', here];
    const there = member('2', { peerUrls: ['https://10.0.0.9:23791'], clientUrls });
    await host().follow(ctx, listOf(member('1'), there));
    await host().follow(ctx, listOf(member('1'), member('2', { peerUrls: [mine] })));
    expect(moved).toEqual([`2 ${mine}`]);
  });

  it('whose member answers at the former address has a copy of its data, and tells nobody of its own address', async () => {
    await writeIncarnation(paths, { token: 't', formed: true, name: 'm-2', member: '2', clusterId: '77' });
    pretendData();
    const there = member('2', {
      peerUrls: ['https://10.0.0.9:23791'],
      clientUrls: ['https://10.0.0.9:23790'],
    });
    await expect(host().follow(ctx, listOf(member('1'), there))).rejects.toThrow(/is a copy/);
    expect(moved).toEqual([]);
    expect(await told()).toBeNull();
  });

  it('with a member is no spare before it has seen the list: who leaves would leave it behind', async () => {
    await writeIncarnation(paths, { token: 't', formed: true, name: 'x', member: '2', clusterId: '77' });
    pretendData();
    const again = host();
    await again.recall();
    expect(again.has).toBe('2');
  });

  it('says that it is to leave', async () => {
    leaving = true;
    await host().follow(ctx, listOf(member('1')));
    expect(await told()).toMatchObject({ leaving: true });
  });

  it('keeps the last three of the data directories that were put aside', async () => {
    for (let day = 1; day <= 5; day++) {
      pretendData();
      await putAside(paths, new Date(Date.UTC(2026, 0, day)).toISOString());
    }
    expect(readdirSync(join(root, 'var/lib/openebs/etcd/former')).map((name) => name.slice(0, 10))).toEqual([
      '2026-01-03',
      '2026-01-04',
      '2026-01-05',
    ]);
  });
});

describe('what is put aside by a name', () => {
  it('is what was there before the first try, however often it is tried again', async () => {
    const former = join(root, 'var/lib/openebs/etcd/former');
    for (let attempt = 1; attempt <= 6; attempt++) {
      pretendData();
      writeFileSync(join(root, 'var/lib/openebs/etcd/member/attempt'), String(attempt));
      await putAside(paths, '2026-01-01-rescue');
      expect(existsSync(join(root, 'var/lib/openebs/etcd/member'))).toBe(false);
    }
    expect(readdirSync(former)).toEqual(['2026-01-01-rescue']);
    expect(readFileSync(join(former, '2026-01-01-rescue/attempt'), 'utf8')).toBe('1');
  });
});

describe('a change of the cluster, with the process dying at every point of it', () => {
  const join2: Move = {
    kind: 'join',
    cluster: 'c-other',
    incarnation: 4,
    authority: 'AUTHORITY',
    authorityKey: 'KEY',
    advertise: '10.0.0.2',
    endpoints: ['https://10.0.0.1:23790'],
  };

  async function carryOut(log: string[]): Promise<void> {
    const decided = await readTransition(paths);
    if (decided === null || decided.kind === 'recover' || decided.kind === 'end') return;
    await carryOutMove(ctx, decided, {
      paths,
      roles: { remove: (_ctx, name) => Promise.resolve(void log.push(`remove ${name}`)) },
      keepCluster: (cluster) => Promise.resolve(void log.push(`cluster ${cluster}`)),
    });
  }

  it.each([['join'], ['leave']] as const)('%s is carried out by the next start', async (kind) => {
    const transition: Move = kind === 'join' ? join2 : { kind: 'leave', cluster: 'c-new' };
    for (let at = 0; ; at++) {
      rmSync(join(root, 'var/lib/openebs'), { recursive: true });
      mkdirSync(join(root, 'var/lib/openebs/cache'), { recursive: true });
      mkdirSync(join(root, 'var/lib/openebs/certificates'), { recursive: true });
      for (const file of ['ca.crt', 'ca.key', 'server.crt', 'server.key'])
        writeFileSync(join(root, 'var/lib/openebs/certificates', file), 'of the old cluster');
      writeFileSync(join(root, 'var/lib/openebs/cache/records.json'), 'old');
      pretendData();
      await writeIncarnation(paths, { token: 't', formed: true, name: 'openebs' });
      await decideTransition(paths, transition);
      let left = at;
      const death = { came: false };
      hookFailPoints(() => {
        if (left-- > 0) return undefined;
        death.came = true;
        return Promise.reject(new Error('died'));
      });
      await carryOut([]).catch(() => undefined);
      hookFailPoints(null);
      const log: string[] = [];
      await carryOut(log);
      expect(await readTransition(paths)).toBeNull();
      expect(existsSync(join(root, 'var/lib/openebs/etcd/member'))).toBe(false);
      expect(await readIncarnation(paths)).toBeNull();
      expect(existsSync(join(root, 'var/lib/openebs/cache/records.json'))).toBe(false);
      const certificates = join(root, 'var/lib/openebs/certificates');
      if (kind === 'join') {
        expect(
          readdirSync(certificates)
            .filter((name) => !name.endsWith('.tmp'))
            .sort(),
        ).toEqual(['ca.crt', 'ca.key']);
        expect(readFileSync(join(certificates, 'ca.crt'), 'utf8')).toBe('AUTHORITY');
        expect(await readMembership(paths)).toMatchObject({ advertise: '10.0.0.2', incarnation: 4 });
      } else {
        expect(existsSync(certificates)).toBe(false);
        expect(await readMembership(paths)).toBeNull();
      }
      if (!death.came) {
        // More points than one: the test would be blind otherwise.
        expect(at).toBeGreaterThanOrEqual(3);
        return;
      }
    }
  });
});
