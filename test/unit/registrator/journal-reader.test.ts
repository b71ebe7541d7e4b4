import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import type { DockerEvent } from '../../../src/docker/docker-event.js';
import { keyOf, recordOf } from '../../../src/registrator/journal-record.js';
import { readJournal, timeSlices, type JournalQuery } from '../../../src/registrator/journal-reader.js';
import { keys } from '../../../src/state/keys.js';
import { records } from '../../../src/state/records.js';
import { createFaultyState, type FaultyState } from '../../fakes/faulty-state.js';
import { createLogLines } from '../../support/log-lines.js';

const ctx: Ctx = { log: createLogLines().log, signal: new AbortController().signal, requestId: 'test' };
const second = 1_000_000_000n;
const hour = 3600n * second;
const now = BigInt(Date.now()) * 1_000_000n;
let state: FaultyState;

async function put(key: string, value: string): Promise<void> {
  await state.transact(ctx, { if: [], then: [{ put: key, value }] });
}

async function write(node: string, at: bigint, more: Partial<DockerEvent> = {}): Promise<void> {
  const event: DockerEvent = {
    type: 'container',
    action: 'start',
    actorId: 'c1',
    attributes: { name: 'web' },
    scope: 'local',
    timeNano: String(at),
    ...more,
  };
  await put(keyOf(node, event), records.event.encode(recordOf(node, event)));
}

async function read(query: JournalQuery = {}) {
  const page = await readJournal(ctx, state, query);
  return { ...page, ids: page.events.map(({ actor }) => actor) };
}

beforeEach(async () => {
  state = createFaultyState();
  for (const node of ['a', 'b', 'ab']) await put(keys.node(node), '{}');
});

describe('readJournal', () => {
  it('tells what happened on all hosts in order of time, without what only the store needs', async () => {
    await write('b', now - 2n * second, { actorId: 'second' });
    await write('a', now - 3n * hour, { actorId: 'first', attributes: { name: 'db', image: 'pg' } });
    await write('ab', now, { actorId: 'third' });
    const { events, ids, truncated, damaged } = await read();
    expect({ ids, truncated, damaged }).toEqual({
      ids: ['first', 'second', 'third'],
      truncated: false,
      damaged: 0,
    });
    expect(events[0]).toEqual({
      node: 'a',
      type: 'container',
      action: 'start',
      actor: 'first',
      attributes: { name: 'db', image: 'pg' },
      scope: 'local',
      timeNano: String(now - 3n * hour),
    });
  });

  it('says of an event that it was cut', async () => {
    await write('a', now, { attributes: { label: 'x'.repeat(5000) } });
    expect((await read()).events).toMatchObject([{ truncated: true }]);
  });

  it('takes both ends of the range in, to the nanosecond, and one host alone', async () => {
    for (const [index, at] of [-2n, -1n, 0n, 1n].entries())
      await write('a', now + at, { actorId: String(index) });
    await write('ab', now, { actorId: 'other' });
    expect((await read({ node: 'a', sinceNano: now - 1n, untilNano: now })).ids).toEqual(['1', '2']);
    expect((await read({ node: 'a' })).ids).toEqual(['0', '1', '2', '3']);
    expect((await read({ node: 'gone' })).ids).toEqual([]);
  });

  it('leaves out what a clock that was ahead stamped, unless it is asked for', async () => {
    await write('a', now, { actorId: 'now' });
    await write('a', now + 2n * hour, { actorId: 'ahead' });
    expect((await read()).ids).toEqual(['now']);
    expect((await read({ untilNano: 10n ** 21n })).ids).toEqual(['now', 'ahead']);
  });

  it.each<[string, JournalQuery, string[]]>([
    ['types', { types: ['container'] }, ['c1', 'exec', '4f'.repeat(32)]],
    ['several types', { types: ['volume', 'journal'] }, ['data', 'a']],
    ['actions', { actions: ['create', 'gap'] }, ['data', 'a']],
    ["an action's name", { actions: ['exec_create'] }, ['exec']],
    ['a whole action', { actions: ['exec_create: ls -l'] }, ['exec']],
    ['an action that is no name', { actions: ['exec'] }, []],
    ['an id', { actor: 'c1' }, ['c1']],
    ['a name', { actor: 'web' }, ['c1', 'exec']],
    ['the beginning of an id', { actor: '4f4f4f4f4f4f' }, ['4f'.repeat(32)]],
    ['what is too short for one', { actor: '4f4f' }, []],
    ['all of them', { types: ['container'], actions: ['start'], actor: 'web' }, ['c1']],
  ])('finds by %s', async (_by, query, ids) => {
    await write('a', now - 9n, { actorId: 'c1' });
    await write('a', now - 8n, { actorId: 'exec', action: 'exec_create: ls -l' });
    await write('b', now - 7n, { actorId: '4f'.repeat(32), attributes: {} });
    await write('a', now - 6n, { type: 'volume', action: 'create', actorId: 'data', attributes: {} });
    await write('a', now - 5n, { type: 'journal', action: 'gap', actorId: 'a', attributes: {} });
    expect((await read(query)).ids).toEqual(ids);
  });

  it('keeps the newest of too many, and says so only if there are more', async () => {
    for (let index = 0; index < 12; index += 1)
      await write(index % 2 === 0 ? 'a' : 'b', now - BigInt(12 - index) * hour, { actorId: String(index) });
    expect(await read({ limit: 3 })).toMatchObject({ ids: ['9', '10', '11'], truncated: true });
    expect(await read({ limit: 12 })).toMatchObject({ truncated: false });
    expect(await read({ limit: 11 })).toMatchObject({ truncated: true });
    expect(await read({ limit: 2, untilNano: now - 10n * hour })).toMatchObject({
      ids: ['1', '2'],
      truncated: true,
    });
  });

  it('answers with a thousand if nobody says how many', async () => {
    for (let index = 0; index < 1001; index += 1) await write('a', now + BigInt(index));
    const { events, truncated } = await read();
    expect([events.length, truncated]).toEqual([1000, true]);
    expect(events.at(-1)?.timeNano).toBe(String(now + 1000n));
  });

  it('answers with no more than fits, and does not read on', async () => {
    const attributes = Object.fromEntries(
      Array.from({ length: 15 }, (_, index) => [`label${String(index)}`, 'x'.repeat(4096)]),
    );
    for (let index = 0; index < 200; index += 1) await write('a', now - BigInt(index), { attributes });
    const { events, truncated } = await read({ limit: 10_000 });
    expect(truncated).toBe(true);
    expect(JSON.stringify(events).length).toBeLessThan(8.1 * 1024 * 1024);
    expect(events.length).toBeGreaterThan(100);
  });

  it('passes damaged records over, and counts them', async () => {
    await write('a', now - 3n, { actorId: 'whole' });
    const time = String(now).padStart(20, '0');
    await put(`${keys.eventsOf('a')}${time}-1`, 'not JSON');
    await put(`${keys.eventsOf('a')}${time}-2`, '{"schema":1}');
    await put(`${keys.eventsOf('a')}${time}-3`, '{"schema":2}');
    await put(`${keys.eventsOf('a')}${time}`, '{}');
    expect(await read()).toMatchObject({ ids: ['whole'], damaged: 4, truncated: false });
  });

  it('reads no more than the range and the limit need', async () => {
    for (let index = 0n; index < 500n; index += 1n) await write('a', now - index * hour);
    const listed = async (query: JournalQuery) => {
      const before = state.ranges.length;
      await read({ node: 'a', ...query });
      return state.ranges.slice(before);
    };
    // 70 minutes and the hour ahead: four thousand seconds.
    expect((await listed({ sinceNano: now - (hour * 7n) / 6n })).length).toBeLessThan(10);
    const all = await listed({});
    expect(all.length).toBeLessThan(60);
    expect((await listed({ limit: 1 })).length).toBeLessThan(all.length);
  });

  it.each<[JournalQuery, string]>([
    [{ limit: 0 }, 'give 1 to 10000'],
    [{ limit: 10_001 }, 'give 1 to 10000'],
    [{ limit: 1.5 }, 'give 1 to 10000'],
    [{ sinceNano: 2n, untilNano: 1n }, 'swap since and until'],
  ])('refuses what cannot be (%#)', async (query, reason) => {
    await expect(read(query)).rejects.toMatchObject({
      code: 'invalid_argument',
      message: expect.stringContaining(reason) as unknown,
    });
  });

  it('says why when the store is away', async () => {
    state.failing = 'unavailable';
    await expect(read()).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('timeSlices', () => {
  const nanos = fc.bigInt({ min: 0n, max: 10n ** 20n - 1n });
  const digits = (time: bigint) => String(time).padStart(20, '0');

  it('gives each time of the range one beginning, newest first, and few of them', () => {
    fc.assert(
      fc.property(nanos, nanos, nanos, (one, other, within) => {
        const [since, until] = one < other ? [one, other] : [other, one];
        const slices = timeSlices(since, until);
        expect(slices.length).toBeLessThan(150);
        expect(slices.toSorted().reverse()).toEqual(slices);
        for (const time of [since, until, since + (within % (until - since + 1n))])
          expect(slices.filter((slice) => digits(time).startsWith(slice))).toHaveLength(1);
        // What it reaches beyond is less than a thousand seconds at each end.
        for (const time of [since - 10n ** 12n, until + 10n ** 12n])
          if (time >= 0n && time < 10n ** 20n)
            expect(slices.some((slice) => digits(time).startsWith(slice))).toBe(false);
      }),
    );
  });

  it('is one for all', () => {
    expect(timeSlices(0n, 10n ** 20n - 1n)).toEqual(['']);
    expect(timeSlices(10n ** 12n, 0n)).toEqual([]);
  });
});
