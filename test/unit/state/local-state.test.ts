import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { type FailPoint, hookFailPoints } from '../../../src/lib/fail-points.js';
import { createLog } from '../../../src/log.js';
import { openLocalState, readLocalState } from '../../../src/state/local-state.js';
import type { State } from '../../../src/state/state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const shown = '/var/lib/openebs/local';
let directory: string;
let file: string;
const opened: State[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'openebs-local-'));
  file = join(directory, 'state');
});

afterEach(async () => {
  hookFailPoints(null);
  vi.restoreAllMocks();
  await Promise.all(opened.splice(0).map((state) => state.close()));
  rmSync(directory, { recursive: true, force: true });
});

async function start(more: { leastBytes?: number } = {}): Promise<State> {
  const state = await openLocalState({ directory, shown, log: ctx.log, ...more });
  opened.push(state);
  return state;
}

async function put(state: State, key: string, value: string): Promise<number> {
  const result = await state.transact(ctx, { if: [], then: [{ put: key, value }] });
  if (!result.ok) throw new Error('a put without comparison failed');
  return result.revision;
}

const valuesOf = async (state: State) =>
  Object.fromEntries((await state.range(ctx, '')).entries.map(({ key, value }) => [key, value]));

/** An error of the file system, the next time that the point is reached. */
function failAt(point: FailPoint, code: string): void {
  hookFailPoints((reached) => {
    if (reached !== point) return undefined;
    hookFailPoints(null);
    throw Object.assign(new Error(`${code} on purpose`), { code });
  });
}

describe('a restart', () => {
  it('finds all that was acknowledged, with its revisions, which go on growing', async () => {
    const before = await start();
    const created = await put(before, '/a', 'one ü');
    await put(before, '/b', 'gone');
    const changed = await put(before, '/a', 'two');
    const deleted = await before.transact(ctx, { if: [], then: [{ delete: '/b' }] });
    await before.close();
    const after = await start();
    expect(await after.range(ctx, '/')).toEqual({
      entries: [{ key: '/a', value: 'two', createRevision: created, modRevision: changed }],
      revision: deleted.ok && deleted.revision,
    });
    expect(await put(after, '/c', 'x')).toBe(changed + 2);
    const same = { key: '/a', createRevision: created };
    expect((await after.transact(ctx, { if: [same], then: [] })).ok).toBe(true);
  });

  it('counts the TTL of leases anew, then ends those that nobody takes over, with their keys', async () => {
    const before = await start();
    const [lost, kept] = [await before.lease(ctx, 2000), await before.lease(ctx, 2000, '42')];
    const puts = [
      { put: '/lost', value: '1', lease: lost },
      { put: '/kept', value: '2', lease: kept },
    ];
    await before.transact(ctx, { if: [], then: puts });
    await delay(1500);
    await before.close();
    const after = await start();
    await after.get(ctx, '/');
    await delay(1000);
    expect(Object.keys(await valuesOf(after))).toEqual(['/kept', '/lost']);
    const taken = await after.lease(ctx, 5000, '42');
    await vi.waitFor(async () => {
      expect(Object.keys(await valuesOf(after))).toEqual(['/kept']);
    }, 5000);
    await delay(500);
    expect(taken.lost.aborted).toBe(false);
    expect((await after.get(ctx, '/kept'))?.leaseId).toBe('42');
    await taken.revoke(ctx);
    await after.close();
    expect(await readLocalState({ directory, shown, log: ctx.log }, '/')).toEqual([]);
  });

  it('tells a watch that was begun before the file could be had all of it, once', async () => {
    const before = await start();
    await put(before, '/a', '1');
    const second = await start();
    const seen: unknown[] = [];
    const watch = second.watch('/', (event) => seen.push(event.type));
    await delay(50);
    expect(seen).toEqual([]);
    await before.close();
    await vi.waitFor(() => {
      expect(seen).toEqual(['snapshot']);
    }, 5000);
    await put(second, '/b', '2');
    await vi.waitFor(() => {
      expect(seen).toEqual(['snapshot', 'changes']);
    });
    watch.close();
  });
});

describe('writes', () => {
  it('that come together share a flush, and each is flushed before its answer', async () => {
    const state = await start();
    await put(state, '/first', 'x');
    const handle = await open(file);
    const prototype = Object.getPrototypeOf(handle) as typeof handle;
    await handle.close();
    let flushed = readFileSync(file);
    // eslint-disable-next-line @typescript-eslint/unbound-method -- called below with its own handle
    const datasync = prototype.datasync;
    const spy = vi.spyOn(prototype, 'datasync').mockImplementation(async function (this: typeof handle) {
      const written = readFileSync(file);
      await delay(2);
      await datasync.call(this);
      flushed = written;
    });
    const copy = join(directory, 'copy');
    mkdirSync(copy);
    await Promise.all(
      Array.from({ length: 300 }, async (_, index) => {
        await put(state, `/key${String(index)}`, String(index));
        expect(flushed.includes(`/key${String(index)}"`)).toBe(true);
      }),
    );
    expect(spy.mock.calls.length).toBeLessThan(10);
    spy.mockClear();
    for (let index = 0; index < 5; index += 1) await put(state, '/alone', String(index));
    expect(spy).toHaveBeenCalledTimes(5);
    writeFileSync(join(copy, 'state'), flushed);
    const kept = await readLocalState({ directory: copy, shown, log: ctx.log }, '/key');
    expect(kept).toHaveLength(300);
  });

  it('are seen by nobody before they are flushed', async () => {
    const state = await start();
    await put(state, '/a', 'old');
    const { promise: held, resolve: letGo } = Promise.withResolvers<undefined>();
    hookFailPoints((point) => (point === 'before state flush' ? held : undefined));
    const told: string[] = [];
    const watch = state.watch('/a', () => told.push('told'));
    await vi.waitFor(() => {
      expect(told).toHaveLength(1);
    });
    const writing = put(state, '/a', 'new');
    await delay(20);
    const looks = [state.get(ctx, '/a'), state.range(ctx, '/')];
    const limited = { ...ctx, signal: AbortSignal.timeout(30) };
    await expect(state.get(limited, '/a')).rejects.toMatchObject({ code: 'deadline_exceeded' });
    expect(told).toHaveLength(1);
    letGo(undefined);
    await writing;
    expect(await looks[0]).toMatchObject({ value: 'new' });
    expect(await looks[1]).toMatchObject({ entries: [{ value: 'new' }] });
    watch.close();
  });

  it.each([
    ['ENOSPC', 'before state write', 'no_space', /disk is full.*free some space/],
    ['EDQUOT', 'before state write', 'no_space', /quota.*free some space/],
    ['EROFS', 'before state write', 'unavailable', /mounted read-only/],
    ['EIO', 'before state write', 'unavailable', /disk fails/],
    ['EIO', 'before state flush', 'unavailable', /disk fails/],
    ['ENOSPC', 'before state flush', 'unavailable', /disk is full/],
  ] as const)(
    'that meet %s %s are refused as a whole, and go on after it',
    async (code, point, kind, text) => {
      const state = await start();
      const created = await put(state, '/a', 'kept');
      await state.lease(ctx, 5000, '7');
      failAt(point, code);
      const refused = [
        put(state, '/a', 'refused'),
        state.transact(ctx, { if: [], then: [{ delete: '/a' }, { put: '/b', value: 'x' }] }),
        // Decided by what the others would have done.
        state.transact(ctx, { if: [{ key: '/a', value: 'kept' }], then: [{ put: '/c', value: 'x' }] }),
        state.lease(ctx, 5000, '8'),
      ];
      for (const one of refused)
        await expect(one).rejects.toMatchObject({
          code: kind,
          message: expect.stringMatching(text) as string,
        });
      await expect(refused[0]).rejects.toThrow(`${shown}/state`);
      expect(await state.range(ctx, '/')).toEqual({
        entries: [{ key: '/a', value: 'kept', createRevision: created, modRevision: created }],
        revision: created,
      });
      expect(await put(state, '/b', 'again')).toBe(created + 1);
      await state.close();
      const after = await start();
      expect(await valuesOf(after)).toEqual({ '/a': 'kept', '/b': 'again' });
    },
  );

  it('do not go to a file that was removed or replaced, and are in the one that takes its place', async () => {
    const state = await start();
    await put(state, '/a', '1');
    rmSync(file);
    await expect(put(state, '/a', '2')).rejects.toMatchObject({ code: 'unavailable' });
    expect(await state.get(ctx, '/a')).toMatchObject({ value: '1' });
    await put(state, '/a', '3');
    copyFileSync(file, `${file}.copy`);
    renameSync(`${file}.copy`, file);
    await expect(put(state, '/a', '4')).rejects.toMatchObject({ code: 'unavailable' });
    await put(state, '/b', '5');
    await state.close();
    expect(await valuesOf(await start())).toEqual({ '/a': '3', '/b': '5' });
  });

  it('wait for a directory that vanished, and never make it anew', async () => {
    const state = await start();
    await put(state, '/a', '1');
    renameSync(directory, `${directory}.away`);
    for (let round = 0; round < 2; round += 1) {
      await expect(put(state, '/a', 'x')).rejects.toMatchObject({
        code: 'unavailable',
        message: `cannot use ${shown}/state: it is gone: restore it, or mount its disk (ENOENT)`,
      });
    }
    expect(existsSync(directory)).toBe(false);
    renameSync(`${directory}.away`, directory);
    await put(state, '/a', '2');
    await state.close();
    expect(await valuesOf(await start())).toEqual({ '/a': '2' });
  });
});

describe('the file', () => {
  it('stays as long as a multiple of what is in it', async () => {
    const state = await start({ leastBytes: 10_000 });
    let longest = 0;
    for (let round = 0; round < 300; round += 1) {
      const puts = Array.from({ length: 10 }, (_, index) => ({
        put: `/key${String(index)}`,
        value: String(round).padStart(100, '.'),
      }));
      await state.transact(ctx, { if: [], then: [...puts, { put: `/old${String(round)}`, value: 'x' }] });
      await state.transact(ctx, { if: [], then: [{ delete: `/old${String(round)}` }] });
      longest = Math.max(longest, statSync(file).size);
    }
    expect(longest).toBeLessThan(12_500);
    const before = await state.range(ctx, '/');
    await state.close();
    expect(await (await start()).range(ctx, '/')).toEqual(before);
    expect(readdirSync(directory).filter((name) => !name.endsWith('.sock'))).toEqual(['state']);
  });

  it('goes on growing where a shorter one cannot be made, and is made shorter later', async () => {
    const state = await start({ leastBytes: 2000 });
    await put(state, '/a', '');
    hookFailPoints((point) => {
      if (point === 'before file rename') throw Object.assign(new Error('full'), { code: 'ENOSPC' });
      return undefined;
    });
    for (let round = 0; round < 100; round += 1) await put(state, '/a', String(round).padStart(50));
    expect(statSync(file).size).toBeGreaterThan(8000);
    hookFailPoints(null);
    for (let round = 0; round < 300; round += 1) await put(state, '/b', String(round).padStart(50));
    expect(statSync(file).size).toBeLessThan(2500);
    await state.close();
    expect(Object.keys(await valuesOf(await start()))).toEqual(['/a', '/b']);
  });

  it('is for root alone', async () => {
    await put(await start(), '/a', 'secret');
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('belongs to one process at a time: another one is told so, and has it when the first has ended', async () => {
    const first = await start();
    await put(first, '/a', '1');
    const second = await start();
    await expect(second.get(ctx, '/a')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('another process') as string,
    });
    await put(first, '/a', '2');
    await first.close();
    await vi.waitFor(async () => {
      expect(await second.get(ctx, '/a')).toMatchObject({ value: '2' });
    }, 5000);
    expect(readdirSync(directory).filter((name) => name.endsWith('.sock'))).toHaveLength(1);
  });

  it('is given to at most one of many that want it at the same time', async () => {
    for (let round = 0; round < 5; round += 1) {
      const states = await Promise.all(Array.from({ length: 6 }, () => start()));
      const have = await Promise.all(
        states.map((state) =>
          state.get(ctx, '/a').then(
            () => true,
            () => false,
          ),
        ),
      );
      expect(have.filter(Boolean).length).toBeLessThanOrEqual(1);
      await Promise.all(states.map((state) => state.close()));
    }
  });
});

describe('a damaged file', () => {
  /** The file after each write, each of several frames' length; from the second on nothing was replaced. */
  async function history(): Promise<{
    lengths: number[];
    contents: Record<string, string>[];
    whole: Buffer;
  }> {
    const state = await start();
    const [lengths, contents]: [number[], Record<string, string>[]] = [[], []];
    await put(state, '/begun', 'x'.repeat(700));
    await state.close();
    const again = await start();
    const note = async () => {
      lengths.push(statSync(file).size);
      contents.push(await valuesOf(again));
    };
    await note();
    for (const value of ['one', 'y'.repeat(1100), 'three', 'four ü']) {
      await put(again, '/a', value);
      await note();
    }
    await again.close();
    return { lengths, contents, whole: readFileSync(file) };
  }

  const read = async (content: Buffer) => {
    writeFileSync(file, content);
    const entries = await readLocalState({ directory, shown, log: ctx.log }, '/');
    return Object.fromEntries(entries!.map(({ key, value }) => [key, value]));
  };

  it('that was cut anywhere has all that was whole before, and takes writes', async () => {
    const { lengths, contents, whole } = await history();
    const first = (await history(), whole.indexOf('[{"revision"') - 16);
    for (let length = 0; length <= whole.length; length += 1) {
      const cut = read(whole.subarray(0, length));
      if (length < first) {
        // What the file began with was never torn: it got its name when it was whole.
        await expect(cut).rejects.toMatchObject({ code: 'unavailable' });
        continue;
      }
      const kept = lengths.findLastIndex((end) => end <= length);
      expect(await cut).toEqual(kept < 0 ? {} : contents[kept]);
    }
    writeFileSync(file, whole.subarray(0, whole.length - 3));
    const state = await start();
    expect(await valuesOf(state)).toEqual(contents.at(-2));
    await put(state, '/b', 'later');
    await state.close();
    expect(await valuesOf(await start())).toEqual({ ...contents.at(-2), '/b': 'later' });
  });

  it('in which any byte is another one is refused with its name and what to do', async () => {
    const { whole } = await history();
    for (let at = 0; at < whole.length; at += 1) {
      for (const flip of [0xff, 0x01]) {
        const garbled = Buffer.from(whole);
        garbled[at] = whole[at]! ^ flip;
        await expect(read(garbled)).rejects.toMatchObject({
          code: 'unavailable',
          message: expect.stringMatching(
            /^\/var\/lib\/openebs\/local\/state is damaged.*Restore it/,
          ) as string,
        });
      }
    }
  }, 120_000);

  it('with sectors of zeros in its last write is torn, and with those in any other place damaged', async () => {
    const { lengths, contents, whole } = await history();
    // Of the long write two sectors and more are there.
    const torn = Buffer.from(whole.subarray(0, lengths[2]));
    torn.fill(0, lengths[2]! - (lengths[2]! % 512));
    expect(await read(torn)).toEqual(contents[1]);
    const begun = Math.ceil(lengths[1]! / 512) * 512;
    const hole = Buffer.from(whole.subarray(0, lengths[2])).fill(0, begun, begun + 512);
    expect(await read(hole)).toEqual(contents[1]);
    expect(await read(Buffer.concat([whole.subarray(0, lengths[1]), Buffer.alloc(2000)]))).toEqual(
      contents[1],
    );
    for (const [from, to] of [
      [begun, begun + 512],
      [lengths[1]!, begun],
      [0, 512],
    ] as const) {
      await expect(read(Buffer.from(whole).fill(0, from, to))).rejects.toThrow('is damaged');
    }
  });

  it('from whose middle a write is missing, or in which one is twice, is refused', async () => {
    const { lengths, whole } = await history();
    const part = (from: number, to?: number) => whole.subarray(lengths[from], to && lengths[to]);
    const start = whole.subarray(0, lengths[1]);
    await expect(read(Buffer.concat([start, part(2)]))).rejects.toThrow('is damaged');
    await expect(read(Buffer.concat([start, part(1, 2), part(1)]))).rejects.toThrow('is damaged');
  });

  it('goes on before the damage when it is cut as its error says', async () => {
    const { lengths, contents, whole } = await history();
    const garbled = Buffer.from(whole);
    garbled[lengths[2]! + 20]! ^= 1;
    const at = `truncate -s ${String(lengths[2])} ${shown}/state`;
    await expect(read(garbled)).rejects.toThrow(at);
    expect(await read(garbled.subarray(0, lengths[2]))).toEqual(contents[2]);
  });

  it('is neither used nor written, and taken up when it is restored', async () => {
    const { contents, whole } = await history();
    const garbled = Buffer.from(whole);
    garbled[30]! ^= 1;
    writeFileSync(file, garbled);
    const state = await start();
    await expect(state.get(ctx, '/a')).rejects.toThrow('is damaged');
    await expect(put(state, '/a', 'x')).rejects.toThrow('is damaged');
    expect(readFileSync(file).equals(garbled)).toBe(true);
    writeFileSync(file, whole);
    await vi.waitFor(async () => {
      expect(await valuesOf(state)).toEqual(contents.at(-1));
    }, 5000);
  });

  it('of a newer version is refused as that', async () => {
    await put(await start(), '/a', '1');
    const { frameOf } = await import('../../../src/state/local/frames.js');
    const { frame } = frameOf(Buffer.from('{"schema":2}'), 0);
    await expect(read(frame)).rejects.toThrow(/newer version.*upgrade/);
  });
});
