import { afterEach, expect, test } from 'vitest';
import type { DockerEvent } from '../../../src/docker/docker-event.js';
import type { EventListener, Gap, StreamItem } from '../../../src/docker/event-stream.js';
import { createJournal, type Journal } from '../../../src/registrator/journal.js';
import type { JournalLimits } from '../../../src/registrator/journal-limits.js';
import { keys } from '../../../src/state/keys.js';
import { records, type EventRecord } from '../../../src/state/records.js';
import { uniqueNano } from '../../fakes/engine-server.js';
import { createFaultyState, type FaultyState } from '../../fakes/faulty-state.js';
import { waitFor } from '../../support/exec.js';
import { createLogLines } from '../../support/log-lines.js';

const node = 'ABCD:EF';
const quick: Partial<JournalLimits> = { flushMs: 10, retryMinMs: 5, retryMaxMs: 20, closeTimeoutMs: 200 };
const open: Journal[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((journal) => journal.close()));
});

function start(limits: Partial<JournalLimits> = {}, state: FaultyState = createFaultyState()) {
  let listener: EventListener = () => undefined;
  let subscribed = true;
  const stream = {
    subscribe(given: EventListener) {
      listener = given;
      return { close: () => (subscribed = false) };
    },
  };
  const { log, lines } = createLogLines();
  const journal = createJournal({ state, stream, node, log, limits: { ...quick, ...limits } });
  open.push(journal);
  const send = (...items: (DockerEvent | Gap)[]) => {
    if (subscribed) void listener(items.map(toItem));
  };
  return { state, journal, send, lines };
}

function toItem(item: DockerEvent | Gap): StreamItem {
  return 'reason' in item ? { kind: 'gap', gap: item } : { kind: 'event', event: item };
}

function event(action = 'start', more: Partial<DockerEvent> = {}): DockerEvent {
  return {
    type: 'container',
    action,
    actorId: 'c1',
    attributes: { name: 'web' },
    scope: 'local',
    timeNano: uniqueNano(),
    ...more,
  };
}

function events(count: number): DockerEvent[] {
  return Array.from({ length: count }, () => event());
}

async function stored(state: FaultyState): Promise<EventRecord[]> {
  const ctx = { log: createLogLines().log, signal: AbortSignal.timeout(5000), requestId: 'test' };
  const failing = state.failing;
  state.failing = null;
  const { entries } = await state.range(ctx, keys.eventsOf(node));
  state.failing = failing;
  return entries.map(({ key, value }) => records.event.decode(key, value));
}

test('an event becomes a record under a key that sorts by time', async () => {
  const { state, journal, send } = start();
  const [first, second] = [event('create'), event('start')];
  send(second, first);
  await waitFor('both are written', () => journal.stats().written === 2);
  const found = await stored(state);
  expect(found.map(({ action }) => action)).toEqual(['create', 'start']);
  expect(found[0]).toMatchObject({
    schema: 1,
    node,
    type: 'container',
    actor: 'c1',
    attributes: { name: 'web' },
    scope: 'local',
    timeNano: first.timeNano,
  });
  const put = state.transactions[0]!.then[0] as { put: string };
  expect(put.put).toMatch(/^\/openebs\/events\/ABCD:EF\/0\d{19}-[0-9a-f]{16}$/);
});

test('events of all six types are written, noise is not', async () => {
  const { state, journal, send } = start();
  const types = ['container', 'image', 'plugin', 'volume', 'network', 'daemon'];
  send(...types.map((type) => event('create', { type })), event('exec_die'), event('top'));
  await waitFor('they are written', () => journal.stats().written === 6);
  expect((await stored(state)).map(({ type }) => type)).toEqual(types);
  expect(journal.stats().filtered).toBe(2);
});

test('noise is written on request', async () => {
  const { journal, send } = start({ includeNoise: true });
  send(event('exec_die'), event('health_status: healthy'));
  await waitFor('they are written', () => journal.stats().written === 2);
});

test('a transaction holds at most a hundred events, and few transactions do', async () => {
  const { state, journal, send } = start();
  send(...events(250));
  await waitFor('all are written', () => journal.stats().written === 250);
  expect(state.transactions.map(({ then }) => then.length)).toEqual([100, 100, 50]);
});

test('a transaction stays far below what etcd accepts', async () => {
  const { state, journal, send } = start({ batchBytes: 20_000 });
  const attributes = { big: 'x'.repeat(4000) };
  send(...events(20).map((one) => ({ ...one, attributes })));
  await waitFor('all are written', () => journal.stats().written === 20);
  for (const { then } of state.transactions) expect(then.length).toBeLessThanOrEqual(5);
});

test('the same event seen twice is one record, within a batch, later, and after a restart', async () => {
  const first = start();
  const same = event();
  first.send(same, same);
  await waitFor('it is written', () => first.journal.stats().written === 1);
  first.send(same);
  await waitFor('the repeat is noticed', () => first.journal.stats().duplicates === 2);
  await first.journal.close();
  const second = start({}, first.state);
  second.send(same, event('die'));
  await waitFor('only the new one is written', () => second.journal.stats().written === 1);
  expect(await stored(first.state)).toHaveLength(2);
  expect(second.journal.stats().duplicates).toBe(1);
});

test('an event that another process wrote meanwhile does not keep the rest from being written', async () => {
  const state = createFaultyState();
  const [one, other] = [start({}, state), start({}, state)];
  await waitFor('both have read the keys', () => state.ranges.length === 2);
  const all = events(5);
  one.send(all[1]!, all[3]!);
  await waitFor('two are written', () => one.journal.stats().written === 2);
  other.send(...all);
  await waitFor('the other three follow', () => other.journal.stats().written === 3);
  expect(other.journal.stats().duplicates).toBe(2);
  expect(await stored(state)).toHaveLength(5);
});

test('a transaction whose answer was lost is not written a second time', async () => {
  const { state, journal, send } = start();
  state.loseAnswer = true;
  send(...events(3));
  await waitFor('it is settled', () => journal.stats().duplicates === 3);
  expect(await stored(state)).toHaveLength(3);
  expect(journal.stats().lost).toBe(0);
});

test('the journal keeps the newest records up to its bound, and reads its keys only once', async () => {
  const { state, journal, send } = start({ maxRecords: 50 });
  const all = events(230);
  for (let at = 0; at < all.length; at += 23) send(...all.slice(at, at + 23));
  await waitFor('all are written and trimmed', () => journal.stats().trimmed === 180);
  expect((await stored(state)).map(({ timeNano }) => timeNano)).toEqual(
    all.slice(-50).map(({ timeNano }) => timeNano),
  );
  expect(state.ranges.filter((prefix) => prefix === keys.eventsOf(node))).toHaveLength(2); // one is this test's
  expect(journal.stats().records).toBe(50);
});

test('a journal that an earlier process left too long is cut at the start', async () => {
  const first = start();
  first.send(...events(120));
  await waitFor('all are written', () => first.journal.stats().written === 120);
  await first.journal.close();
  const second = start({ maxRecords: 10, batchRecords: 30 }, first.state);
  await waitFor('it is trimmed', () => second.journal.stats().trimmed === 110);
  expect(await stored(first.state)).toHaveLength(10);
  for (const { then } of first.state.transactions.slice(-4)) expect(then.length).toBeLessThanOrEqual(30);
});

test('records that are too old go, without any new event', async () => {
  const { state, journal, send } = start({ maxAgeMs: 60_000, trimEveryMs: 20 });
  const old = String(BigInt(Date.now() - 59_800) * 1_000_000n);
  send(event('die', { timeNano: old }), event('start'));
  await waitFor('both are written', () => journal.stats().written === 2);
  await waitFor('the old one is gone', () => journal.stats().trimmed === 1);
  expect((await stored(state)).map(({ action }) => action)).toEqual(['start']);
});

test('records of a clock that was ahead do not push out new ones', async () => {
  const { state, journal, send } = start({ maxRecords: 5 });
  const future = BigInt(Date.now() + 10 * 86_400_000) * 1_000_000n;
  send(...[1n, 2n, 3n, 4n, 5n].map((n) => event('future', { timeNano: String(future + n) })));
  await waitFor('they are written', () => journal.stats().written === 5);
  send(...events(5));
  await waitFor('they have given way', () => journal.stats().trimmed === 5);
  expect((await stored(state)).map(({ action }) => action)).toEqual(Array(5).fill('start'));
});

test('nothing is written while nothing happens', async () => {
  const { state, journal, send } = start({ trimEveryMs: 5 });
  send(event());
  await waitFor('it is written', () => journal.stats().written === 1);
  const before = state.transactions.length;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(state.transactions).toHaveLength(before);
});

test.each(['unavailable', 'no_leader', 'no_space', 'deadline_exceeded'] as const)(
  'while the store answers %s events wait, and all are written after',
  async (code) => {
    const { state, journal, send, lines } = start();
    await waitFor('the keys are read', () => state.ranges.length === 1);
    state.failing = code;
    send(...events(30));
    await waitFor('it has failed several times', () => journal.stats().failures > 4);
    state.failing = null;
    await waitFor('all are written', () => journal.stats().written === 30);
    expect(journal.stats().lost).toBe(0);
    expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
    expect(lines.at(-1)?.msg).toContain('written again');
  },
);

test('a store that is away from the start is waited for', async () => {
  const state = createFaultyState();
  state.failing = 'unavailable';
  const { journal, send } = start({}, state);
  send(...events(3));
  await waitFor('it has failed', () => journal.stats().failures > 3);
  state.failing = null;
  await waitFor('all are written', () => journal.stats().written === 3);
});

test('a long outage costs the oldest events, and exactly one record says how many', async () => {
  const { state, journal, send, lines } = start({ queueRecords: 40, batchRecords: 10 });
  await waitFor('the keys are read', () => state.ranges.length === 1);
  state.failing = 'unavailable';
  const all = events(500);
  send(...all.slice(0, 10));
  await waitFor('a batch is under way', () => journal.stats().failures > 0);
  for (const one of all.slice(10)) send(one);
  expect(journal.stats()).toMatchObject({ queued: 40, lost: 450 });
  await waitFor('it has failed again', () => journal.stats().failures > 4);
  state.failing = null;
  await waitFor('the rest is written', () => journal.stats().written === 51);
  const found = await stored(state);
  const notes = found.filter(({ type }) => type === 'journal');
  expect(notes).toHaveLength(1);
  expect(notes[0]).toMatchObject({
    action: 'lost',
    actor: node,
    attributes: { count: '450', since: all[10]!.timeNano, until: all[459]!.timeNano },
  });
  expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
});

test('what the store refuses for good is counted as lost, and the next events are written', async () => {
  const { state, journal, send } = start();
  await waitFor('the keys are read', () => state.ranges.length === 1);
  state.failing = 'invalid_argument';
  send(event('bad'));
  await waitFor('it was given up', () => journal.stats().lost > 0);
  state.failing = null;
  send(event('good'));
  await waitFor('the next is written', async () =>
    (await stored(state)).some(({ action }) => action === 'good'),
  );
  const found = await stored(state);
  expect(found.map(({ action }) => action)).toContain('lost');
  expect(found.map(({ action }) => action)).not.toContain('bad');
});

test('a gap in the stream is told, a renewed stream is not', async () => {
  const { state, journal, send } = start();
  const times = { sinceNano: '1763697600000000000', untilNano: uniqueNano() };
  send({ reason: 'reconnected', detail: 'the stream was opened', ...times });
  send({ reason: 'renewed', detail: 'the stream was opened', ...times, untilNano: uniqueNano() }, event());
  await waitFor('all are written', () => journal.stats().written >= 2 && journal.stats().queued === 0);
  const notes = (await stored(state)).filter(({ type }) => type === 'journal');
  expect(notes).toHaveLength(1);
  expect(notes[0]).toMatchObject({
    action: 'gap',
    attributes: { reason: 'reconnected', since: times.sinceNano, until: times.untilNano },
  });
  expect(await stored(state)).toHaveLength(2);
});

test('a huge label is cut and the record says so', async () => {
  const { state, journal, send } = start();
  const attributes = Object.fromEntries(
    Array.from({ length: 40 }, (_, n) => [`label${String(n)}`, 'é'.repeat(9000)]),
  );
  send(event('start', { attributes }));
  await waitFor('it is written', () => journal.stats().written === 1);
  const [record] = await stored(state);
  expect(record).toMatchObject({ truncated: true });
  expect(JSON.stringify(record).length).toBeLessThan(70_000);
  expect(record!.attributes['label0']).toHaveLength(4096);
});

test('closing writes what is queued', async () => {
  const { state, journal, send } = start({ flushMs: 60_000 });
  await waitFor('the keys are read', () => state.ranges.length === 1);
  send(...events(7));
  await journal.close();
  expect(await stored(state)).toHaveLength(7);
});

test('closing ends in time although the store is away, and says what was left', async () => {
  const { state, journal, send, lines } = start();
  await waitFor('the keys are read', () => state.ranges.length === 1);
  state.failing = 'unavailable';
  send(...events(150));
  await waitFor('it has failed', () => journal.stats().failures > 0);
  await journal.close();
  expect(lines.at(-1)).toMatchObject({ level: 'warn', msg: 'events were not written to the journal' });
});
