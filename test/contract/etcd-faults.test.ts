import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setTimeout as delay } from 'node:timers/promises';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import type { State } from '../../src/state/state.js';
import { startEtcd, startMembers, type TestEtcd } from '../support/etcd.js';
import { createTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { context, createMirror, freshPrefix, until } from './state-contract.js';

const log = createLog('silent');
const ctx = context();
const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('etcd behind a bad wire', () => {
  let etcd: TestEtcd;
  let proxy: TcpProxy;
  let state: State;
  let direct: State;
  beforeAll(async () => {
    etcd = await startEtcd();
    proxy = await createTcpProxy(etcd.port);
    state = createEtcdState({ endpoints: [`http://127.0.0.1:${String(proxy.port)}`], log });
    direct = createEtcdState({ endpoints: [etcd.endpoint], log });
  }, 60_000);
  afterAll(async () => {
    await state.close();
    await direct.close();
    await proxy[Symbol.asyncDispose]();
    await etcd[Symbol.asyncDispose]();
  });

  /** Sends a transaction of which etcd's answer is lost. */
  const loseAnswer = async <T>(call: () => Promise<T>, meanwhile?: () => Promise<unknown>): Promise<T> => {
    await state.get(ctx, '/openebs/connect-first');
    proxy.holdReplies();
    const held = proxy.heldReply();
    const pending = call();
    pending.catch(() => undefined);
    await held;
    await meanwhile?.();
    proxy.dropReplies();
    return pending;
  };

  const value = async (key: string) => (await direct.get(ctx, key))?.value;

  it('finds out that a write was carried out though its answer was lost', async () => {
    const key = `${freshPrefix()}a`;
    const result = await loseAnswer(
      () => state.transact(ctx, { if: [{ key, absent: true }], then: [{ put: key, value: 'mine' }] }),
      () => until2(async () => (await value(key)) === 'mine'),
    );
    expect(result).toEqual({ ok: true, revision: (await direct.get(ctx, key))?.modRevision });
    expect((await direct.get(ctx, key))?.modRevision).toBe((await direct.get(ctx, key))?.createRevision);
  });

  it('finds out that its write came first when another has covered it by now', async () => {
    const key = `${freshPrefix()}a`;
    await direct.transact(ctx, { if: [], then: [{ put: key, value: 'old' }] });
    const before = await direct.get(ctx, key);
    let mine: number | undefined;
    const result = await loseAnswer(
      () =>
        state.transact(ctx, {
          if: [{ key, modRevision: before!.modRevision }],
          then: [{ put: key, value: 'mine' }],
        }),
      async () => {
        await until2(async () => (await value(key)) === 'mine');
        mine = (await direct.get(ctx, key))?.modRevision;
        await direct.transact(ctx, { if: [], then: [{ put: key, value: 'theirs' }] });
        await direct.transact(ctx, { if: [], then: [{ put: key, value: 'theirs again' }] });
      },
    );
    expect(result).toEqual({ ok: true, revision: mine });
    expect(await value(key)).toBe('theirs again');
  });

  /** A swap that is carried out, whose answer is lost, and whose value others cover so often. */
  const covered = async (times: number, meanwhile?: (key: string) => Promise<unknown>) => {
    const key = `${freshPrefix()}a`;
    await direct.transact(ctx, { if: [], then: [{ put: key, value: 'old' }] });
    const before = await direct.get(ctx, key);
    let mine: number | undefined;
    const result = loseAnswer(
      () =>
        state.transact(ctx, {
          if: [{ key, modRevision: before!.modRevision }],
          then: [{ put: key, value: 'mine' }],
        }),
      async () => {
        await until2(async () => (await value(key)) === 'mine');
        mine = (await direct.get(ctx, key))?.modRevision;
        for (let time = 0; time < times; time++)
          await direct.transact(ctx, { if: [], then: [{ put: key, value: `theirs ${String(time)}` }] });
        await meanwhile?.(key);
      },
    );
    return { result: await result.catch((error: unknown) => error), mine };
  };

  it('finds out that its write came first when others have covered it many times', async () => {
    const { result, mine } = await covered(40);
    expect(result).toEqual({ ok: true, revision: mine });
  });

  it('does not say that a comparison failed when what was before is compacted', async () => {
    const { result } = await covered(2, async (key) => {
      const revision = (await direct.get(ctx, key))!.modRevision;
      await etcd.admin('kv/compaction', { revision: String(revision), physical: true });
    });
    expect(result).toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('not known') as string,
    });
  });

  it('finds out that a comparison failed though that answer was lost', async () => {
    const key = `${freshPrefix()}a`;
    await direct.transact(ctx, { if: [], then: [{ put: key, value: 'theirs' }] });
    const result = await loseAnswer(() =>
      state.transact(ctx, { if: [{ key, absent: true }], then: [{ put: key, value: 'mine' }] }),
    );
    expect(result).toEqual({ ok: false, reason: 'compare_failed' });
    expect(await value(key)).toBe('theirs');
  });

  it('finds out that a delete was carried out though its answer was lost', async () => {
    const key = `${freshPrefix()}a`;
    await direct.transact(ctx, { if: [], then: [{ put: key, value: 'x' }] });
    const before = await direct.get(ctx, key);
    const result = await loseAnswer(
      () => state.transact(ctx, { if: [{ key, modRevision: before!.modRevision }], then: [{ delete: key }] }),
      () => until2(async () => (await value(key)) === undefined),
    );
    expect(result.ok).toBe(true);
  });

  it('sends again what never arrived, once', async () => {
    const key = `${freshPrefix()}a`;
    await state.get(ctx, key);
    proxy.holdRequests();
    const pending = state.transact(ctx, { if: [{ key, absent: true }], then: [{ put: key, value: 'mine' }] });
    await delay(100);
    proxy.dropReplies();
    proxy.restore();
    expect((await pending).ok).toBe(true);
    const entry = await direct.get(ctx, key);
    expect(entry?.value).toBe('mine');
    expect(entry?.modRevision).toBe(entry?.createRevision);
  });

  it('does not send again what could take effect twice', async () => {
    const key = `${freshPrefix()}a`;
    await state.get(ctx, key);
    proxy.holdRequests();
    const pending = state.transact(ctx, { if: [], then: [{ put: key, value: 'mine' }] });
    pending.catch(() => undefined);
    await delay(100);
    proxy.dropReplies();
    proxy.restore();
    await expect(pending).rejects.toMatchObject({ code: 'unavailable' });
    expect(await value(key)).toBeUndefined();
  });

  it('counts right through a wire that breaks all the time', async () => {
    const key = `${freshPrefix()}count`;
    await direct.transact(ctx, { if: [], then: [{ put: key, value: '0 start' }] });
    const working = { on: true };
    const breaking = (async () => {
      for (let breaks = 1; working.on; breaks += 1) {
        // Now and then whole for longer: on a busy machine 37 ms may be too short to connect, time after time.
        await delay(breaks % 20 === 0 ? 500 : 37);
        proxy.dropReplies();
        await delay(11);
        proxy.holdReplies();
        await delay(9);
        proxy.dropReplies();
      }
    })();
    let acknowledged = 0;
    try {
      for (let index = 0; acknowledged < 40; index++) {
        const entry = await state.get(ctx, key);
        const [count] = entry!.value.split(' ');
        const result = await state.transact(ctx, {
          if: [{ key, modRevision: entry!.modRevision }],
          then: [{ put: key, value: `${String(Number(count) + 1)} nonce ${String(index)}` }],
        });
        if (result.ok) acknowledged++;
      }
    } finally {
      working.on = false;
      await breaking;
      proxy.restore();
    }
    expect((await value(key))?.split(' ')[0]).toBe('40');
  });

  it('reads and writes again at once when a wire that was cut is back', async () => {
    const key = `${freshPrefix()}a`;
    proxy.cut();
    const failures = await Promise.allSettled(
      Array.from({ length: 10 }, () => state.get(context(AbortSignal.timeout(300)), key)),
    );
    expect(failures.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 'rejected'));
    const write = state.transact(ctx, { if: [{ key, absent: true }], then: [{ put: key, value: 'mine' }] });
    await delay(500);
    proxy.restore();
    expect(await write).toMatchObject({ ok: true });
    expect((await state.get(ctx, key))?.value).toBe('mine');
  });

  it('names the endpoints and the cause when nothing answers', async () => {
    const nobody = createEtcdState({ endpoints: ['http://127.0.0.1:1'], log, callTimeoutMs: 1_000 });
    const error = nobody.get(ctx, '/openebs/x');
    await expect(error).rejects.toMatchObject({ code: 'unavailable' });
    await expect(error).rejects.toThrow(/etcd at http:\/\/127\.0\.0\.1:1 cannot be reached .*ECONNREFUSED/);
    const write = nobody.transact(ctx, { if: [], then: [{ put: '/openebs/x', value: 'x' }] });
    await expect(write).rejects.toMatchObject({ code: 'unavailable' });
    await nobody.close();
  });

  it('says at the first call, not before, that its settings are no good', async () => {
    const broken = createEtcdState({
      endpoints: ['https://127.0.0.1:1'],
      tls: { ca: Buffer.from('not a certificate'), certificate: Buffer.from('x'), key: Buffer.from('x') },
      log,
    });
    await expect(broken.get(ctx, '/openebs/x')).rejects.toMatchObject({ code: 'invalid_argument' });
    await broken.close();
    const mixed = createEtcdState({ endpoints: ['https://a:1', 'http://b:1'], log });
    await expect(mixed.get(ctx, '/openebs/x')).rejects.toMatchObject({ code: 'invalid_argument' });
    await mixed.close();
  });

  it('shows a watch all that happened while its wire was cut and history was compacted', async () => {
    const prefix = freshPrefix();
    const mirror = createMirror();
    await direct.transact(ctx, { if: [], then: [{ put: `${prefix}gone`, value: 'x' }] });
    const watch = state.watch(prefix, mirror.listener);
    await until(() => mirror.known.has(`${prefix}gone`));
    proxy.cut();
    await direct.transact(ctx, { if: [], then: [{ delete: `${prefix}gone` }] });
    const last = await direct.transact(ctx, { if: [], then: [{ put: `${prefix}new`, value: 'y' }] });
    await etcd.admin('kv/compaction', { revision: String(last.ok && last.revision), physical: true });
    proxy.restore();
    await until(() => mirror.known.has(`${prefix}new`));
    expect(mirror.known).toEqual(new Map([[`${prefix}new`, 'y']]));
    expect(mirror.snapshots()).toBeGreaterThan(1);
    await direct.transact(ctx, { if: [], then: [{ put: `${prefix}more`, value: 'z' }] });
    await until(() => mirror.known.has(`${prefix}more`));
    watch.close();
  });

  it('carries all watches over one stream and leaves none behind', async () => {
    const prefix = freshPrefix();
    const mirrors = Array.from({ length: 20 }, createMirror);
    const before = proxy.connections;
    const watches = mirrors.map((mirror, index) =>
      state.watch(`${prefix}${String(index)}/`, mirror.listener),
    );
    await until(() => mirrors.every((mirror) => mirror.snapshots() === 1));
    await direct.transact(ctx, {
      if: [],
      then: mirrors.map((_, index) => ({ put: `${prefix}${String(index)}/a`, value: 'x' })),
    });
    await until(() => mirrors.every((mirror) => mirror.known.size === 1));
    expect(proxy.connections - before).toBeLessThanOrEqual(1);
    for (const watch of watches) watch.close();
  });

  it.each([
    [
      'nothing gets through',
      () => {
        proxy.cut();
      },
    ],
    [
      'keepalives get through but not their answers',
      () => {
        proxy.holdReplies();
      },
    ],
  ])('says that a lease is lost before etcd lets anybody else in, when %s', async (_what, disturb) => {
    const key = `${freshPrefix()}owner`;
    const lease = await state.lease(ctx, 2_000);
    await state.transact(ctx, { if: [], then: [{ put: key, value: 'me', lease }] });
    const order: string[] = [];
    const mirror = createMirror();
    const watch = direct.watch(key, (event) => {
      mirror.listener(event);
      if (event.type === 'changes' && !mirror.known.has(key)) order.push('expired');
    });
    await until(() => mirror.known.has(key));
    lease.lost.addEventListener('abort', () => order.push('lost'));
    await delay(2_500);
    expect(order).toEqual([]);
    disturb();
    await until(() => order.length === 2);
    expect(order).toEqual(['lost', 'expired']);
    proxy.restore();
    watch.close();
  });

  it('keeps a lease through interruptions shorter than its time to live', async () => {
    const key = `${freshPrefix()}owner`;
    const lease = await state.lease(ctx, 3_000);
    await state.transact(ctx, { if: [], then: [{ put: key, value: 'me', lease }] });
    for (let round = 0; round < 5; round++) {
      proxy.cut();
      await delay(500);
      proxy.restore();
      await delay(700);
    }
    expect(lease.lost.aborted).toBe(false);
    expect(await value(key)).toBe('me');
    await lease.revoke(ctx);
  });

  it('keeps a lease by its number when the process that granted it is gone, and trusts it no longer than it lasts', async () => {
    const key = `${freshPrefix()}shared`;
    const id = '4611686018427387905';
    const gone = createEtcdState({ endpoints: [etcd.endpoint], log });
    const first = await gone.lease(ctx, 8_000, id);
    await gone.transact(ctx, { if: [], then: [{ put: key, value: 'ours', lease: first }] });
    await gone.close();
    await delay(4_000);
    // What is left of it is 4 s, and no keepalive is answered from here on.
    const last = await state.lease(ctx, 8_000, id);
    proxy.cut();
    await until(() => last.lost.aborted);
    expect(await value(key)).toBe('ours');
    proxy.restore();
    const again = await direct.lease(ctx, 8_000, id);
    await delay(9_000);
    expect(again.lost.aborted).toBe(false);
    await again.revoke(ctx);
  });

  it('grants one lease when the answer to the first try was lost', async () => {
    const count = async () =>
      ((await etcd.admin('lease/leases', {}))['leases'] as unknown[] | undefined)?.length ?? 0;
    // Leases have a connection of their own: it must be up before its answers are held.
    await (await state.lease(ctx, 5_000)).revoke(ctx);
    const before = await count();
    const lease = await loseAnswer(
      () => state.lease(ctx, 5_000),
      () => until2(async () => (await count()) > before),
    );
    expect(lease.lost.aborted).toBe(false);
    expect(await count()).toBe(before + 1);
    await lease.revoke(ctx);
    expect(await count()).toBe(before);
  });
});

/** As `until`, for a question that takes a call. */
async function until2(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await delay(10);
}

describe('etcd that fails itself', () => {
  it('loses no change of a watch over kill -9 and restart', async () => {
    await using etcd = await startEtcd();
    const state = createEtcdState({ endpoints: [etcd.endpoint], log });
    const prefix = freshPrefix();
    const mirror = createMirror();
    state.watch(prefix, mirror.listener);
    const acknowledged: string[] = [];
    for (let index = 0; index < 60; index++) {
      const key = `${prefix}${String(index)}`;
      if (index % 20 === 10) {
        await etcd.stop();
        void etcd.start();
      }
      const result = await state.transact(ctx, {
        if: [{ key, absent: true }],
        then: [{ put: key, value: key }],
      });
      expect(result.ok).toBe(true);
      acknowledged.push(key);
    }
    await until(() => mirror.known.size === 60);
    expect([...mirror.known.keys()].sort()).toEqual(acknowledged.sort());
    expect(mirror.snapshots()).toBeGreaterThan(1);
    for (const [index, event] of mirror.events.entries()) {
      const previous = mirror.revisions[index - 1];
      if (event.type === 'changes') expect(event.revision).toBeGreaterThan(previous!);
    }
    await state.close();
  });

  it('keeps deadlines while etcd is stopped, and serves again when it goes on', async () => {
    await using etcd = await startEtcd();
    const state = createEtcdState({ endpoints: [etcd.endpoint], log, callTimeoutMs: 1_500 });
    const key = '/openebs/a';
    await state.transact(ctx, { if: [], then: [{ put: key, value: 'x' }] });
    etcd.kill('SIGSTOP');
    await expect(state.get(ctx, key)).rejects.toMatchObject({ code: 'deadline_exceeded' });
    const write = state.transact(ctx, { if: [{ key, absent: true }], then: [{ put: key, value: 'y' }] });
    await expect(write).rejects.toMatchObject({ code: 'deadline_exceeded' });
    await expect(write).rejects.toThrow(/whether it was carried out is not known/);
    await expect(state.lease(ctx, 2_000)).rejects.toMatchObject({ code: 'deadline_exceeded' });
    await expect(state.get(context(AbortSignal.timeout(100)), key)).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
    const controller = new AbortController();
    const canceled = state.get(context(controller.signal), key);
    controller.abort();
    await expect(canceled).rejects.toMatchObject({ code: 'canceled' });
    etcd.kill('SIGCONT');
    expect((await state.get(ctx, key))?.value).toBe('x');
    await state.close();
  });

  it('reads, deletes and keeps leases when the space quota is used up, and names it for writes', async () => {
    await using etcd = await startEtcd({ flags: ['--quota-backend-bytes', '65536'] });
    const state = createEtcdState({ endpoints: [etcd.endpoint], log });
    const lease = await state.lease(ctx, 3_000);
    await state.transact(ctx, { if: [], then: [{ put: '/openebs/kept', value: 'kept', lease }] });
    const former = createEtcdState({ endpoints: [etcd.endpoint], log });
    await former.lease(ctx, 10_000, '4711');
    let written = 0;
    const fill = async () => {
      for (; written < 100; written++) {
        const key = `/openebs/fill/${String(written)}`;
        const value = `${String(written)} ${'x'.repeat(20_000)}`;
        const result = await state.transact(ctx, {
          if: [{ key, absent: true }],
          then: [{ put: key, value }],
        });
        expect(result.ok).toBe(true);
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: 'no_space' });
    // What was reported as written is there, and nothing else.
    expect((await state.range(ctx, '/openebs/fill/')).entries).toHaveLength(written);
    for (let round = 0; round < 6; round++) {
      const again = state.transact(ctx, { if: [], then: [{ put: '/openebs/more', value: 'x' }] });
      await expect(again).rejects.toMatchObject({ code: 'no_space' });
      expect((await state.get(ctx, '/openebs/kept'))?.value).toBe('kept');
    }
    await expect(state.lease(ctx, 3_000)).rejects.toMatchObject({ code: 'no_space' });
    await expect(state.lease(ctx, 3_000, '4712')).rejects.toMatchObject({ code: 'no_space' });
    await former.close();
    const taken = await state.lease(ctx, 10_000, '4711');
    await delay(3_500);
    expect(lease.lost.aborted).toBe(false);
    await delay(8_000);
    expect(taken.lost.aborted).toBe(false);
    expect(taken.ageMs()).toBeLessThan(8_000);
    expect(await state.transact(ctx, { if: [], then: [{ delete: '/openebs/fill/0' }] })).toMatchObject({
      ok: true,
    });
    await state.close();
  });

  it('says no_leader when the majority is gone, and uses the members that answer before that', async () => {
    const members = await startMembers(3);
    const state = createEtcdState({
      endpoints: members.map(({ endpoint }) => endpoint),
      log,
      callTimeoutMs: 4_000,
    });
    await state.transact(ctx, { if: [], then: [{ put: '/openebs/a', value: 'x' }] });
    await members[0]!.stop();
    for (let round = 0; round < 5; round++) expect((await state.get(ctx, '/openebs/a'))?.value).toBe('x');
    await members[1]!.stop();
    const lone = createEtcdState({ endpoints: [members[2]!.endpoint], log, callTimeoutMs: 4_000 });
    const mirror = createMirror();
    lone.watch('/openebs/', mirror.listener);
    await until2(
      async () => (await lone.get(ctx, '/openebs/a').catch((error: unknown) => error)) instanceof Error,
    );
    await expect(lone.get(ctx, '/openebs/a')).rejects.toMatchObject({ code: 'no_leader' });
    await expect(
      lone.transact(ctx, { if: [], then: [{ put: '/openebs/a', value: 'y' }] }),
    ).rejects.toMatchObject({ code: 'no_leader' });
    await members[1]!.start();
    expect((await lone.get(ctx, '/openebs/a'))?.value).toBe('x');
    await lone.transact(ctx, { if: [], then: [{ put: '/openebs/b', value: 'new' }] });
    await until(() => mirror.known.has('/openebs/b'));
    await lone.close();
    await state.close();
    for (const member of members) await member[Symbol.asyncDispose]();
  });
});

describe('etcd with user and password', () => {
  let etcd: TestEtcd;
  beforeAll(async () => {
    etcd = await startEtcd({ flags: ['--auth-token', 'simple'] });
    await etcd.admin('auth/user/add', { name: 'root', password: 'rootpw' });
    await etcd.admin('auth/user/grant', { user: 'root', role: 'root' }).catch(async () => {
      await etcd.admin('auth/role/add', { name: 'root' });
      await etcd.admin('auth/user/grant', { user: 'root', role: 'root' });
    });
    await etcd.admin('auth/user/add', { name: 'volumes', password: 'right' });
    await etcd.admin('auth/role/add', { name: 'volumes' });
    await etcd.admin('auth/role/grant', {
      name: 'volumes',
      perm: { permType: 'READWRITE', key: base64('/openebs/'), range_end: base64('/openebs0') },
    });
    await etcd.admin('auth/user/grant', { user: 'volumes', role: 'volumes' });
    await etcd.admin('auth/enable', {});
  }, 60_000);
  afterAll(() => etcd[Symbol.asyncDispose]());

  const login = (username: string, password: string) =>
    createEtcdState({ endpoints: [etcd.endpoint], log, auth: { username, password }, callTimeoutMs: 3_000 });

  it('reads, writes, watches and leases', async () => {
    const state = login('volumes', 'right');
    const mirror = createMirror();
    state.watch('/openebs/auth/', mirror.listener);
    const lease = await state.lease(ctx, 2_000);
    await state.transact(ctx, { if: [], then: [{ put: '/openebs/auth/a', value: 'x', lease }] });
    await until(() => mirror.known.size === 1);
    await delay(2_500);
    expect(lease.lost.aborted).toBe(false);
    await state.close();
  });

  it('says what is wrong with the login, without retrying until the deadline', async () => {
    const wrong = login('volumes', 'wrong');
    await expect(wrong.get(ctx, '/openebs/a')).rejects.toThrow(/refuses the password of user volumes/);
    await wrong.close();
    const missing = createEtcdState({ endpoints: [etcd.endpoint], log });
    await expect(missing.get(ctx, '/openebs/a')).rejects.toThrow(/asks for a login/);
    await missing.close();
    const outside = login('volumes', 'right');
    await expect(outside.get(ctx, '/elsewhere')).rejects.toThrow(/denies user volumes access/);
    await outside.close();
  });

  it('goes on after the tokens are lost by a restart of etcd', async () => {
    const state = login('volumes', 'right');
    const mirror = createMirror();
    state.watch('/openebs/token/', mirror.listener);
    const lease = await state.lease(ctx, 10_000);
    await state.transact(ctx, { if: [], then: [{ put: '/openebs/token/a', value: 'x', lease }] });
    for (let round = 0; round < 3; round++) {
      await etcd.stop();
      await etcd.start();
      const key = `/openebs/token/${String(round)}`;
      const results = await Promise.all([
        state.get(ctx, '/openebs/token/a'),
        state.transact(ctx, { if: [{ key, absent: true }], then: [{ put: key, value: 'y' }] }),
      ]);
      expect(results).toMatchObject([{ value: 'x' }, { ok: true }]);
      await until(() => mirror.known.has(key));
    }
    await delay(4_000);
    expect(lease.lost.aborted).toBe(false);
    await state.close();
  });

  it('says so when a password is set but etcd asks for none', async () => {
    await using open = await startEtcd();
    const state = createEtcdState({
      endpoints: [open.endpoint],
      log,
      auth: { username: 'volumes', password: 'right' },
    });
    await expect(state.get(ctx, '/openebs/a')).rejects.toThrow(/has no authentication switched on/);
    await state.close();
  });
});
