import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createLog } from '../../../src/log.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import { openReplica, type Replica } from '../../../src/state/replica.js';
import type { State, WatchEvent, WatchListener } from '../../../src/state/state.js';

const log = createLog('silent');
const ctx: Ctx = { log, signal: new AbortController().signal, requestId: 'test' };
let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'replica-'));
  file = join(directory, 'records.json');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** A state whose watch events the test sends itself. */
function scripted(): { state: State; send: (event: WatchEvent) => void } {
  let listener: WatchListener = () => undefined;
  const state: State = {
    ...createMemoryState(),
    get: () => Promise.resolve(null),
    watch: (_prefix, given) => {
      listener = given;
      return { close: () => undefined };
    },
  };
  return {
    state,
    send: (event) => {
      listener(event);
    },
  };
}

const entry = (key: string, value: string, modRevision: number) => ({
  key,
  value,
  modRevision,
  createRevision: 1,
});
const open = (state: State): Promise<Replica> => openReplica({ state, prefixes: ['/p/'], file, log });

describe('the replica', () => {
  it('shows a write of its own at once, and no older event takes it back', async () => {
    const { state, send } = scripted();
    const replica = await open(state);
    await replica.record(10, [{ put: '/p/a', value: 'mine' }]);
    expect(replica.get('/p/a')?.value).toBe('mine');
    send({ type: 'snapshot', snapshot: { revision: 8, entries: [] } });
    send({ type: 'changes', revision: 9, changes: [{ type: 'put', entry: entry('/p/a', 'older', 9) }] });
    expect(replica.get('/p/a')?.value).toBe('mine');
    send({ type: 'changes', revision: 11, changes: [{ type: 'put', entry: entry('/p/a', 'newer', 11) }] });
    expect(replica.get('/p/a')?.value).toBe('newer');
    await replica.close();
  });

  it('keeps a deletion of its own against older events, and forgets it after', async () => {
    const { state, send } = scripted();
    const replica = await open(state);
    await replica.record(5, [{ put: '/p/a', value: 'x' }]);
    await replica.record(7, [{ delete: '/p/a' }]);
    send({ type: 'changes', revision: 6, changes: [{ type: 'put', entry: entry('/p/a', 'ghost', 6) }] });
    expect(replica.get('/p/a')).toBeNull();
    send({ type: 'changes', revision: 7, changes: [{ type: 'delete', key: '/p/a' }] });
    send({ type: 'changes', revision: 8, changes: [{ type: 'put', entry: entry('/p/a', 'anew', 8) }] });
    expect(replica.get('/p/a')?.value).toBe('anew');
    await replica.close();
  });

  it('takes a snapshot for all there is', async () => {
    const { state, send } = scripted();
    const replica = await open(state);
    await replica.record(5, [{ put: '/p/gone', value: 'x' }]);
    expect(replica.complete).toBe(false);
    send({ type: 'snapshot', snapshot: { revision: 9, entries: [entry('/p/b', 'y', 3)] } });
    expect(replica.complete).toBe(true);
    expect(replica.list('/p/').map((found) => found.key)).toEqual(['/p/b']);
    await replica.close();
  });

  it('is whole again after a start without shared state', async () => {
    const before = scripted();
    const first = await open(before.state);
    before.send({ type: 'snapshot', snapshot: { revision: 9, entries: [entry('/p/b', 'y', 3)] } });
    await first.record(10, [{ put: '/p/c', value: 'z' }]);
    await first.close();
    const second = await open(scripted().state);
    expect(second.complete).toBe(true);
    expect([first.current, second.current]).toEqual([true, false]);
    expect(second.list('/p/').map((found) => found.value)).toEqual(['y', 'z']);
    expect([first.cache.state, second.cache.state]).toEqual(['missing', 'ok']);
    await second.close();
  });

  it.each([
    ['cut off', (text: string) => text.slice(0, -20)],
    ['altered', (text: string) => text.replace('"y"', '"w"')],
    ['empty', () => ''],
  ])('sets aside a file that is %s, and does not call itself whole', async (_what, damage) => {
    const before = scripted();
    const first = await open(before.state);
    before.send({ type: 'snapshot', snapshot: { revision: 9, entries: [] } });
    await first.record(10, [{ put: '/p/b', value: 'y' }]);
    await first.close();
    writeFileSync(file, damage(readFileSync(file, 'utf8')));
    const { state, send } = scripted();
    const second = await open(state);
    expect(second.complete).toBe(false);
    expect(second.cache).toMatchObject({
      state: 'damaged',
      reason: expect.stringContaining('records.json') as string,
    });
    expect(second.get('/p/b')).toBeNull();
    expect(readdirSync(directory)).toContain('records.json.damaged');
    send({ type: 'snapshot', snapshot: { revision: 9, entries: [entry('/p/b', 'y', 3)] } });
    expect(second.complete).toBe(true);
    expect(second.cache.state).toBe('rebuilt');
    await second.close();
  });

  it('keeps its own deletion against any older event, however they arrive', async () => {
    const { state, send } = scripted();
    const replica = await open(state);
    await replica.record(10, [{ delete: '/p/a' }]);
    send({ type: 'changes', revision: 5, changes: [{ type: 'delete', key: '/p/a' }] });
    send({ type: 'changes', revision: 7, changes: [{ type: 'put', entry: entry('/p/a', 'ghost', 7) }] });
    expect(replica.get('/p/a')).toBeNull();
    await replica.close();
  });

  it('does not call itself whole after a start when it never was', async () => {
    const first = await open(scripted().state);
    await first.record(10, [{ put: '/p/a', value: 'x' }]);
    await first.close();
    const second = await open(scripted().state);
    expect(second.get('/p/a')?.value).toBe('x');
    expect(second.complete).toBe(false);
    await second.close();
  });

  it('believes shared state more than its file, also when that counts from the beginning again', async () => {
    const first = await open(scripted().state);
    await first.record(900, [
      { put: '/p/gone', value: 'x' },
      { put: '/p/older', value: 'x' },
      { put: '/p/asked', value: 'x' },
    ]);
    await first.close();
    const { state, send } = scripted();
    state.get = () => Promise.resolve(entry('/p/asked', 'restored', 4));
    const second = await open(state);
    await second.refresh(ctx, '/p/asked');
    expect(second.get('/p/asked')?.value).toBe('restored');
    const entries = [entry('/p/asked', 'restored', 4), entry('/p/older', 'restored', 3)];
    send({ type: 'snapshot', snapshot: { revision: 5, entries } });
    expect(second.list('/p/').map((found) => `${found.key}=${found.value}`)).toEqual([
      '/p/older=restored',
      '/p/asked=restored',
    ]);
    await second.close();
  });

  it('follows shared state that goes back under it, as to a backup, and forgets what came later', async () => {
    const { state, send } = scripted();
    const replica = await open(state);
    send({
      type: 'snapshot',
      snapshot: { revision: 50, entries: [entry('/p/a', 'new', 50), entry('/p/same', 'x', 3)] },
    });
    await replica.record(60, [{ put: '/p/later', value: 'x' }, { delete: '/p/deleted' }]);
    const told: string[] = [];
    replica.onChange((keys) => told.push(...keys));
    const entries = [entry('/p/a', 'old', 5), entry('/p/same', 'x', 3), entry('/p/deleted', 'back', 6)];
    send({ type: 'snapshot', snapshot: { revision: 9, entries } });
    expect(Object.fromEntries(replica.list('/p/').map(({ key, value }) => [key, value]))).toEqual({
      '/p/a': 'old',
      '/p/same': 'x',
      '/p/deleted': 'back',
    });
    expect(told.sort()).toEqual(['/p/a', '/p/deleted', '/p/later']);
    send({ type: 'changes', revision: 10, changes: [{ type: 'put', entry: entry('/p/a', 'next', 10) }] });
    expect(replica.get('/p/a')?.value).toBe('next');
    await replica.close();
  });

  it('tells nobody of a snapshot that says what its file said', async () => {
    const before = scripted();
    const first = await open(before.state);
    before.send({ type: 'snapshot', snapshot: { revision: 9, entries: [entry('/p/b', 'y', 3)] } });
    await first.close();
    const { state, send } = scripted();
    const second = await open(state);
    const told: string[] = [];
    second.onChange((keys) => told.push(...keys));
    send({ type: 'snapshot', snapshot: { revision: 9, entries: [entry('/p/b', 'y', 3)] } });
    expect(told).toEqual([]);
    await second.close();
  });

  it('keeps what was written while a read that did not see it was under way', async () => {
    const { state } = scripted();
    const answer = Promise.withResolvers<null>();
    state.get = () => answer.promise;
    const replica = await open(state);
    const reading = replica.refresh(ctx, '/p/a');
    await replica.record(10, [{ put: '/p/a', value: 'mine' }]);
    answer.resolve(null);
    await reading;
    expect(replica.get('/p/a')?.value).toBe('mine');
    await replica.close();
  });

  it('has each of many writes at once on disk when it returns', async () => {
    const replica = await open(scripted().state);
    const writes = Array.from({ length: 20 }, async (_, number) => {
      const key = `/p/${String(number)}`;
      await replica.record(number + 1, [{ put: key, value: 'v' }]);
      expect(readFileSync(file, 'utf8')).toContain(`"${key}"`);
    });
    await Promise.all(writes);
    await replica.close();
  });

  it('reads through to shared state when asked to', async () => {
    const state = createMemoryState();
    const replica = await open(state);
    await replica.synced;
    await state.transact(ctx, { if: [], then: [{ put: '/p/a', value: 'v' }] });
    expect((await replica.refresh(ctx, '/p/a'))?.value).toBe('v');
    expect(replica.get('/p/a')?.value).toBe('v');
    expect(await replica.refresh(ctx, '/p/none')).toBeNull();
    await replica.close();
    await state.close();
  });
});
