import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Ctx } from '../../src/context.js';
import { createLog } from '../../src/log.js';
import type { State, WatchEvent } from '../../src/state/state.js';

export function context(signal: AbortSignal = new AbortController().signal): Ctx {
  return { log: createLog('silent'), signal, requestId: 'test' };
}

/** Waits for what a watch will bring; the test's own time limit ends a wait in vain. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await delay(10);
}

/** What a listener knows when it applies each event as the contract says. */
export function createMirror() {
  const known = new Map<string, string>();
  const events: WatchEvent[] = [];
  const revisions: number[] = [];
  return {
    known,
    events,
    revisions,
    snapshots: () => events.filter(({ type }) => type === 'snapshot').length,
    listener: (event: WatchEvent) => {
      events.push(event);
      if (event.type === 'snapshot') {
        known.clear();
        revisions.push(event.snapshot.revision);
        for (const { key, value } of event.snapshot.entries) known.set(key, value);
        return;
      }
      revisions.push(event.revision);
      for (const change of event.changes) {
        if (change.type === 'put') known.set(change.entry.key, change.entry.value);
        else known.delete(change.key);
      }
    },
  };
}

let nextPrefix = 1;
/** Tests share one state and keep apart by prefix. */
export function freshPrefix(): string {
  return `/openebs/test${String(nextPrefix++)}/`;
}

/** What every State promises, as long as nothing breaks. */
export function describeState(
  name: string,
  factory: () => Promise<{ state: State; second: State; end: () => Promise<void> }>,
): void {
  describe(`state in ${name}`, () => {
    let state: State;
    let second: State;
    let end: () => Promise<void>;
    const ctx = context();
    beforeAll(async () => {
      ({ state, second, end } = await factory());
    }, 60_000);
    afterAll(async () => {
      await end();
    });

    const put = async (key: string, value: string) => {
      const result = await state.transact(ctx, { if: [], then: [{ put: key, value }] });
      if (!result.ok) throw new Error('a put without comparison failed');
      return result.revision;
    };

    it('says null for a key that does not exist', async () => {
      expect(await state.get(ctx, `${freshPrefix()}none`)).toBeNull();
    });

    it('gives back what was put, with its revisions', async () => {
      const key = `${freshPrefix()}a`;
      const created = await put(key, 'first ü');
      expect(await state.get(ctx, key)).toEqual({
        key,
        value: 'first ü',
        createRevision: created,
        modRevision: created,
      });
      const changed = await put(key, 'second');
      expect(changed).toBeGreaterThan(created);
      expect(await second.get(ctx, key)).toEqual({
        key,
        value: 'second',
        createRevision: created,
        modRevision: changed,
      });
    });

    it('ranges over exactly the keys with the prefix, sorted, at one revision', async () => {
      const prefix = freshPrefix();
      for (const key of ['b', 'a', 'a/b', 'ÿ']) await put(prefix + key, key);
      const last = await put(`${prefix.slice(0, -1)}0`, 'a neighbour without the slash');
      const { entries, revision } = await state.range(ctx, prefix);
      expect(entries.map(({ key }) => key)).toEqual(['a', 'a/b', 'b', 'ÿ'].map((key) => prefix + key));
      expect(revision).toBeGreaterThanOrEqual(last);
      expect((await state.range(ctx, freshPrefix())).entries).toEqual([]);
    });

    it('lets exactly one of many create a key', async () => {
      const key = `${freshPrefix()}lock`;
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          (index % 2 ? state : second).transact(ctx, {
            if: [{ key, absent: true }],
            then: [{ put: key, value: String(index) }],
          }),
        ),
      );
      expect(results.filter(({ ok }) => ok)).toHaveLength(1);
      expect((await state.get(ctx, key))?.value).toBe(String(results.findIndex(({ ok }) => ok)));
      expect(results.find(({ ok }) => !ok)).toEqual({ ok: false, reason: 'compare_failed' });
    });

    it('loses no increment when many count with modRevision', async () => {
      const key = `${freshPrefix()}count`;
      await put(key, '0');
      const increment = async (own: State) => {
        for (;;) {
          const entry = await own.get(ctx, key);
          const result = await own.transact(ctx, {
            if: [{ key, modRevision: entry!.modRevision }],
            then: [{ put: key, value: String(Number(entry!.value) + 1) }],
          });
          if (result.ok) return;
        }
      };
      await Promise.all(Array.from({ length: 10 }, (_, index) => increment(index % 2 ? state : second)));
      expect((await state.get(ctx, key))?.value).toBe('10');
    });

    it('tells by createRevision whether a key is still the one it was', async () => {
      const key = `${freshPrefix()}key`;
      const created = await put(key, 'one');
      await put(key, 'two');
      const same = { if: [{ key, createRevision: created }], then: [{ put: key, value: 'three' }] };
      expect((await state.transact(ctx, same)).ok).toBe(true);
      await state.transact(ctx, { if: [], then: [{ delete: key }] });
      expect((await state.transact(ctx, same)).ok).toBe(false);
      await put(key, 'another life');
      expect((await state.transact(ctx, same)).ok).toBe(false);
      expect((await state.get(ctx, key))?.value).toBe('another life');
    });

    it('tells by value whether a key is what it was', async () => {
      const key = `${freshPrefix()}key`;
      await put(key, 'one ü');
      const write = (value: string) => ({ if: [{ key, value }], then: [{ put: `${key}2`, value: 'x' }] });
      expect((await state.transact(ctx, write('one ü'))).ok).toBe(true);
      expect((await state.transact(ctx, write('one'))).ok).toBe(false);
      const absent = { if: [{ key: `${key}3`, value: '' }], then: [{ put: `${key}3`, value: 'x' }] };
      expect((await state.transact(ctx, absent)).ok).toBe(false);
    });

    it('does all of a transaction in one revision, or nothing', async () => {
      const prefix = freshPrefix();
      await put(`${prefix}old`, 'x');
      const operations = [
        { put: `${prefix}a`, value: '1' },
        { put: `${prefix}b`, value: '2' },
        { delete: `${prefix}old` },
      ];
      const refused = await state.transact(ctx, {
        if: [
          { key: `${prefix}a`, absent: true },
          { key: `${prefix}old`, absent: true },
        ],
        then: operations,
      });
      expect(refused.ok).toBe(false);
      expect((await state.range(ctx, prefix)).entries.map(({ key }) => key)).toEqual([`${prefix}old`]);
      const done = await state.transact(ctx, { if: [], then: operations });
      const { entries } = await state.range(ctx, prefix);
      expect(entries.map(({ value }) => value)).toEqual(['1', '2']);
      expect(done).toEqual({ ok: true, revision: entries[0]!.modRevision });
      expect(entries[1]!.modRevision).toBe(entries[0]!.modRevision);
    });

    it('takes 128 operations and refuses 129, a key named twice and a lease too short', async () => {
      const prefix = freshPrefix();
      const puts = (count: number) =>
        Array.from({ length: count }, (_, index) => ({ put: `${prefix}${String(index)}`, value: 'x' }));
      expect((await state.transact(ctx, { if: [], then: puts(128) })).ok).toBe(true);
      await expect(state.transact(ctx, { if: [], then: puts(129) })).rejects.toMatchObject({
        code: 'invalid_argument',
      });
      const twice = { if: [], then: [...puts(1), { delete: `${prefix}0` }] };
      await expect(state.transact(ctx, twice)).rejects.toMatchObject({ code: 'invalid_argument' });
      await expect(state.lease(ctx, 100)).rejects.toMatchObject({ code: 'invalid_argument' });
    });

    it('watches: first a snapshot, then each revision once and in order', async () => {
      const prefix = freshPrefix();
      await put(`${prefix}before`, '0');
      const mirror = createMirror();
      const watch = state.watch(prefix, mirror.listener);
      await until(() => mirror.snapshots() === 1);
      expect(mirror.known).toEqual(new Map([[`${prefix}before`, '0']]));
      for (let index = 1; index <= 50; index++) await put(`${prefix}n`, String(index));
      await second.transact(ctx, {
        if: [],
        then: [{ delete: `${prefix}before` }, { put: `${prefix}end`, value: 'end' }],
      });
      await put(freshPrefix(), 'elsewhere');
      await until(() => mirror.known.has(`${prefix}end`));
      const seen = mirror.events.flatMap((event) =>
        event.type === 'changes'
          ? event.changes.map((change) => (change.type === 'put' ? change.entry.value : `-${change.key}`))
          : [],
      );
      expect(seen).toEqual([
        ...Array.from({ length: 50 }, (_, index) => String(index + 1)),
        `-${prefix}before`,
        'end',
      ]);
      expect(mirror.events.at(-1)).toMatchObject({ type: 'changes', changes: { length: 2 } });
      expect(mirror.revisions).toEqual([...new Set(mirror.revisions)].sort((a, b) => a - b));
      watch.close();
    });

    it('says nothing more to a listener whose watch is closed, and goes on with the others', async () => {
      const prefix = freshPrefix();
      const closed = createMirror();
      const open = createMirror();
      const watch = state.watch(prefix, closed.listener);
      const other = state.watch(prefix, open.listener);
      await until(() => closed.snapshots() === 1 && open.snapshots() === 1);
      watch.close();
      await put(`${prefix}a`, 'x');
      await until(() => open.known.has(`${prefix}a`));
      expect(closed.events).toHaveLength(1);
      other.close();
      const again = createMirror();
      const third = state.watch(prefix, again.listener);
      await until(() => again.known.has(`${prefix}a`));
      third.close();
    });

    it('goes on with a watch whose listener throws', async () => {
      const prefix = freshPrefix();
      const mirror = createMirror();
      const watch = state.watch(prefix, (event) => {
        mirror.listener(event);
        throw new Error('from the listener');
      });
      await until(() => mirror.snapshots() === 1);
      await put(`${prefix}a`, 'x');
      await until(() => mirror.known.has(`${prefix}a`));
      watch.close();
    });

    it('removes the keys of a revoked lease in one revision, and refuses new ones', async () => {
      const prefix = freshPrefix();
      const mirror = createMirror();
      const watch = second.watch(prefix, mirror.listener);
      const lease = await state.lease(ctx, 5_000);
      expect(lease.lost.aborted).toBe(false);
      expect(lease.ageMs()).toBeLessThan(3_000);
      await state.transact(ctx, {
        if: [],
        then: [
          { put: `${prefix}a`, value: 'a', lease },
          { put: `${prefix}b`, value: 'b', lease },
          { put: `${prefix}stays`, value: 'c' },
        ],
      });
      await until(() => mirror.known.size === 3);
      await lease.revoke(ctx);
      expect(lease.lost.aborted).toBe(true);
      await until(() => mirror.known.size === 1);
      expect(mirror.events.at(-1)).toMatchObject({
        type: 'changes',
        changes: [{ type: 'delete' }, { type: 'delete' }],
      });
      const late = { if: [], then: [{ put: `${prefix}late`, value: 'd', lease }] };
      await expect(state.transact(ctx, late)).rejects.toMatchObject({ code: 'conflict' });
      await lease.revoke(ctx);
      watch.close();
    });

    it('puts under the lease of another process, by its number', async () => {
      const prefix = freshPrefix();
      const theirs = await second.lease(ctx, 5_000);
      const value = { put: `${prefix}a`, value: 'x', lease: { id: theirs.id } };
      expect((await state.transact(ctx, { if: [], then: [value] })).ok).toBe(true);
      expect((await state.get(ctx, `${prefix}a`))?.leaseId).toBe(theirs.id);
      await theirs.revoke(ctx);
      expect(await state.get(ctx, `${prefix}a`)).toBeNull();
      await expect(state.transact(ctx, { if: [], then: [value] })).rejects.toMatchObject({
        code: 'conflict',
      });
    });

    it('takes over a lease by its number, with its keys, or grants it', async () => {
      const prefix = freshPrefix();
      const id = '7205759403792793600';
      const first = await state.lease(ctx, 5_000, id);
      expect(first.id).toBe(id);
      const value = { put: `${prefix}a`, value: 'x', lease: first };
      await state.transact(ctx, { if: [], then: [value] });
      const again = await second.lease(ctx, 5_000, id);
      expect(again.id).toBe(id);
      expect(again.lost.aborted).toBe(false);
      await again.revoke(ctx);
      expect(await state.get(ctx, `${prefix}a`)).toBeNull();
    });

    it('tells by a prefix whether anything was put below it since', async () => {
      const prefix = freshPrefix();
      const since = await put(`${prefix}a`, '1');
      const next = (noPutAfter: number, value: string) => ({
        if: [{ prefix, noPutAfter }],
        then: [{ put: `${prefix}b/c`, value }],
      });
      expect(
        (await state.transact(ctx, { if: [{ prefix: freshPrefix(), noPutAfter: 1 }], then: [] })).ok,
      ).toBe(true);
      expect((await state.transact(ctx, next(since - 1, 'early'))).ok).toBe(false);
      const done = await state.transact(ctx, next(since, 'first'));
      expect(done.ok).toBe(true);
      expect((await state.transact(ctx, next(since, 'second'))).ok).toBe(false);
      const revision = done.ok ? done.revision : 0;
      await put(`${prefix.slice(0, -1)}0`, 'a neighbour without the slash');
      expect((await state.transact(ctx, next(revision, 'third'))).ok).toBe(true);
      expect((await state.get(ctx, `${prefix}b/c`))?.value).toBe('third');
    });

    it('takes a key out of its lease when it is put again without one', async () => {
      const key = `${freshPrefix()}key`;
      const lease = await state.lease(ctx, 5_000);
      await state.transact(ctx, { if: [], then: [{ put: key, value: 'leased', lease }] });
      await put(key, 'durable');
      await lease.revoke(ctx);
      expect((await state.get(ctx, key))?.value).toBe('durable');
    });

    it('says canceled or deadline_exceeded when its caller does', async () => {
      const gone = AbortSignal.abort();
      await expect(state.get(context(gone), '/openebs/x')).rejects.toMatchObject({ code: 'canceled' });
      const late = AbortSignal.timeout(0);
      await until(() => late.aborted);
      await expect(state.get(context(late), '/openebs/x')).rejects.toMatchObject({
        code: 'deadline_exceeded',
      });
    });

    it('ends leases and refuses calls once closed', async () => {
      const lease = await second.lease(ctx, 5_000);
      await second.close();
      expect(lease.lost.aborted).toBe(true);
      await expect(second.get(ctx, '/openebs/x')).rejects.toMatchObject({ code: 'unavailable' });
    });
  });
}
