import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import type { DockerEvent } from '../../src/docker/docker-event.js';
import type { EventListener, EventStream, Gap } from '../../src/docker/event-stream.js';
import { createEventStream, type EventStreamLimits } from '../../src/docker/events.js';
import { createJournal } from '../../src/registrator/journal.js';
import {
  containerEvent,
  eventLine,
  startFakeEngine,
  uniqueNano,
  type FakeEngine,
} from '../fakes/engine-server.js';
import type { EventRecord } from '../../src/state/records.js';
import { createFaultyState } from '../fakes/faulty-state.js';
import { waitFor } from '../support/exec.js';
import { createLogLines } from '../support/log-lines.js';

const quick: Partial<EventStreamLimits> = {
  backoffMinMs: 5,
  backoffMaxMs: 50,
  headerTimeoutMs: 200,
  pingEveryMs: 30,
  pingTimeoutMs: 100,
  stallSettleMs: 50,
};
const cleanups: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function engine(): Promise<FakeEngine> {
  const fake = await startFakeEngine();
  cleanups.push(() => fake.close());
  return fake;
}

function follow(fake: { socketPath: string }, limits: Partial<EventStreamLimits> = {}) {
  const { log, lines } = createLogLines();
  const stream = createEventStream({ socketPath: fake.socketPath, log, limits: { ...quick, ...limits } });
  cleanups.push(() => {
    stream.close();
  });
  return { stream, lines, ...collect(stream) };
}

function collect(stream: EventStream, slow?: () => Promise<void>) {
  const events: DockerEvent[] = [];
  const gaps: Gap[] = [];
  const order: string[] = [];
  const listener: EventListener = (items) => {
    for (const item of items) {
      if (item.kind === 'event') events.push(item.event);
      else gaps.push(item.gap);
      order.push(item.kind === 'event' ? item.event.action : item.gap.reason);
    }
    return slow?.();
  };
  const subscription = stream.subscribe(listener);
  const ids = () => events.map(({ actorId }) => actorId);
  const reasons = () => gaps.map(({ reason }) => reason);
  return { events, gaps, order, ids, reasons, subscription };
}

async function connected(fake: FakeEngine): Promise<void> {
  await waitFor('the stream is open', () => fake.streams === 1, { everyMs: 5 });
}

const soon = { everyMs: 5, timeoutMs: 10_000 };

test('says connected first, then gives events in order', async () => {
  const fake = await engine();
  const { order, lines } = follow(fake);
  await connected(fake);
  fake.emit(containerEvent('create'), containerEvent('start'), containerEvent('die'));
  await waitFor('all have come', () => order.length === 4, soon);
  expect(order).toEqual(['connected', 'create', 'start', 'die']);
  expect(lines.filter(({ level }) => level === 'warn')).toEqual([]);
});

test('asks for events from two seconds before its start, as seconds with nanoseconds', async () => {
  const fake = await engine();
  const before = Date.now();
  follow(fake);
  await connected(fake);
  const since = fake.eventCalls[0]!.since!;
  expect(since).toMatch(/^\d{10}\.\d{9}$/);
  expect(Number(since)).toBeGreaterThanOrEqual((before - 2_001) / 1000);
  expect(Number(since)).toBeLessThanOrEqual((Date.now() - 1_999) / 1000);
});

test('reads messages whose bytes come one by one and are cut inside characters', async () => {
  const fake = await engine();
  const { events } = follow(fake);
  await connected(fake);
  const sent = containerEvent('start', 'c1', { name: 'kübel 🐳', 'a\nb': '{"}' });
  for (const byte of Buffer.from(eventLine(sent))) {
    fake.raw(Buffer.from([byte]));
    await delay(0);
  }
  await waitFor('it has come', () => events.length === 1, soon);
  expect(events[0]).toMatchObject({ attributes: sent.Actor.Attributes, timeNano: sent.timeNano });
});

test('rubbish between messages costs only itself', async () => {
  const fake = await engine();
  const { ids, stream, reasons } = follow(fake, { maxLineChars: 1_000 });
  await connected(fake);
  fake.raw('not json\n[]\n{"Type":\n');
  fake.raw(`{"Type":"${'x'.repeat(5_000)}"}\n`);
  fake.emit({ ...containerEvent('prune', ''), Type: 'volume' }, containerEvent('start', 'after'));
  await waitFor('the good ones have come', () => ids().length === 2, soon);
  expect(ids()).toEqual(['', 'after']);
  expect(stream.stats().malformed).toBe(4);
  expect(reasons()).toEqual(['connected', 'overflow']);
});

test('a cut stream is opened again, what happened meanwhile comes once, and a gap is told', async () => {
  const fake = await engine();
  const { ids, order, stream, lines, gaps } = follow(fake);
  await connected(fake);
  fake.emit(containerEvent('start', 'a'), containerEvent('start', 'b'));
  await waitFor('two have come', () => ids().length === 2, soon);
  fake.raw('{"Type":"container","Acti'); // cut in the middle of a message
  fake.cut();
  fake.emit(containerEvent('start', 'c'));
  await waitFor('the third has come', () => ids().length === 3, soon);
  expect(ids()).toEqual(['a', 'b', 'c']);
  expect(order).toEqual(['connected', 'start', 'start', 'reconnected', 'start']);
  expect(stream.stats()).toMatchObject({ connects: 2, duplicates: 2, malformed: 0 });
  expect(BigInt(gaps[1]!.sinceNano)).toBeLessThanOrEqual(BigInt(gaps[1]!.untilNano));
  expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
});

test('an overlap of two seconds before the last event is asked for again', async () => {
  const fake = await engine();
  const { ids } = follow(fake);
  await connected(fake);
  fake.emit(containerEvent('start', 'a'));
  await waitFor('it has come', () => ids().length === 1, soon);
  const late = { ...containerEvent('die', 'late'), timeNano: String(BigInt(uniqueNano()) - 1_500_000_000n) };
  fake.cut();
  fake.emit(late);
  await waitFor('the one with an earlier time has come', () => ids().includes('late'), soon);
});

test('an event stamped in the future makes nobody deaf', async () => {
  const fake = await engine();
  const { ids } = follow(fake);
  await connected(fake);
  const future = String(BigInt(Date.now() + 3_600_000) * 1_000_000n);
  fake.emit({ ...containerEvent('start', 'future'), timeNano: future });
  await waitFor('it has come', () => ids().length === 1, soon);
  fake.cut();
  await waitFor('it asks again', () => fake.eventCalls.length === 2, soon);
  expect(Number(fake.eventCalls[1]!.since)).toBeLessThan(Date.now() / 1000);
});

test('a restarted engine that has forgotten all is followed again', async () => {
  const fake = await engine();
  const { ids, reasons, lines } = follow(fake);
  await connected(fake);
  fake.emit(containerEvent('start', 'a'));
  await waitFor('it has come', () => ids().length === 1, soon);
  await fake.stop();
  fake.forget();
  await delay(200);
  await fake.listen();
  await connected(fake);
  fake.emit(containerEvent('start', 'b'));
  await waitFor('the next has come', () => ids().length === 2, soon);
  expect(reasons()).toEqual(['connected', 'reconnected']);
  expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
});

test('an engine that comes late is waited for, and so is one that accepts and does not answer', async () => {
  const fake = await engine();
  await fake.stop();
  const { ids, reasons } = follow(fake);
  await delay(100);
  fake.events = 'hang';
  await fake.listen();
  await waitFor('it has asked twice in vain', () => fake.eventCalls.length >= 2, soon);
  fake.events = 'refuse';
  await waitFor('it was refused', () => fake.eventCalls.length >= 5, soon);
  expect(reasons()).toEqual([]);
  fake.events = 'ok';
  await connected(fake);
  fake.emit(containerEvent('start', 'a'));
  await waitFor('it has come', () => ids().length === 1, soon);
  expect(reasons()).toEqual(['connected']);
});

test('tries again in growing pauses', async () => {
  const fake = await engine();
  fake.events = 'refuse';
  follow(fake, { backoffMinMs: 20, backoffMaxMs: 10_000 });
  await delay(600);
  expect(fake.eventCalls.length).toBeGreaterThan(2);
  expect(fake.eventCalls.length).toBeLessThan(9);
});

test('an engine that stops answering pings is taken for gone, and found again', async () => {
  const fake = await engine();
  const { reasons } = follow(fake);
  await connected(fake);
  fake.ping = 'hang';
  fake.events = 'hang';
  await waitFor('the dead stream is given up', () => fake.streams === 0, soon);
  fake.ping = 'ok';
  fake.events = 'ok';
  await connected(fake);
  await waitFor('the gap is told', () => reasons().length === 2, soon);
  expect(reasons()).toEqual(['connected', 'reconnected']);
});

test('one unanswered ping is no reason to leave', async () => {
  const fake = await engine();
  const { stream } = follow(fake, { pingFailures: 1_000 });
  await connected(fake);
  fake.ping = 'error';
  await delay(200);
  expect(stream.stats()).toMatchObject({ connected: true, connects: 1 });
});

test('a stream that was silent for long is opened anew without loss', async () => {
  const fake = await engine();
  const { ids, reasons, lines } = follow(fake, { silentMs: 100 });
  await connected(fake);
  fake.emit(containerEvent('start', 'a'));
  await waitFor('it is opened anew', () => fake.eventCalls.length === 3, soon);
  await connected(fake);
  fake.emit(containerEvent('start', 'b'));
  await waitFor('the next has come', () => ids().length === 2, soon);
  expect(reasons().slice(0, 3)).toEqual(['connected', 'renewed', 'renewed']);
  expect(lines.filter(({ level }) => level === 'warn')).toEqual([]);
});

test('a listener that comes later is told to look first', async () => {
  const fake = await engine();
  const { stream, ids } = follow(fake);
  await connected(fake);
  fake.emit(containerEvent('create', 'a'));
  await waitFor('it has come', () => ids().length === 1, soon);
  const later = collect(stream);
  fake.emit(containerEvent('start', 'b'));
  await waitFor('it has come to both', () => later.ids().length === 1 && ids().length === 2, soon);
  expect(later.order).toEqual(['connected', 'start']);
});

test('a listener that throws or leaves disturbs no other', async () => {
  const fake = await engine();
  const { stream, ids, lines } = follow(fake);
  stream.subscribe(() => {
    throw new Error('broken listener');
  });
  const leaving = collect(stream);
  await connected(fake);
  fake.emit(containerEvent('start', 'a'));
  await waitFor('it has come', () => leaving.ids().length === 1, soon);
  leaving.subscription.close();
  fake.emit(containerEvent('start', 'b'));
  await waitFor('the second has come', () => ids().length === 2, soon);
  expect(leaving.ids()).toEqual(['a']);
  expect(lines.some(({ level }) => level === 'error')).toBe(true);
});

test('a listener that hangs holds up neither the socket nor the others, and hears what it missed', async () => {
  const fake = await engine();
  const { stream, ids } = follow(fake, { queueItems: 500, stallBurst: 1e9 });
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const slow = collect(stream, () => held);
  await connected(fake);
  for (let sent = 0; sent < 5_000; sent += 100) {
    fake.emit(...Array.from({ length: 100 }, (_, n) => containerEvent('start', `c${String(sent + n)}`)));
    await fake.drained();
    await waitFor('the quick listener has them', () => ids().length === sent + 100, soon);
  }
  expect(stream.stats().queued).toBeLessThanOrEqual(500);
  release();
  await waitFor('the last has come', () => slow.ids().at(-1) === 'c4999', soon);
  const overflow = slow.gaps.find(({ reason }) => reason === 'overflow');
  expect(overflow?.count).toBe(stream.stats().dropped);
  expect(slow.ids().length + stream.stats().dropped).toBe(5_000);
});

test('a stall of this process is told', async () => {
  const fake = await engine();
  const { reasons } = follow(fake, { stallDelayMs: 100 });
  await connected(fake);
  await delay(100);
  const until = performance.now() + 400;
  while (performance.now() < until); // nobody reads meanwhile
  await waitFor('it is told', () => reasons().includes('stalled'), soon);
  await delay(200);
  expect(reasons()).toEqual(['connected', 'stalled']);
});

test('very many events at once are told as a stall, once they have been read', async () => {
  const fake = await engine();
  const { order } = follow(fake, { stallBurst: 100, stallDelayMs: 1e9 });
  await connected(fake);
  fake.raw(Array.from({ length: 300 }, () => eventLine(containerEvent('start'))).join(''));
  await waitFor('it is told', () => order.length === 302, soon);
  expect(order.at(-1)).toBe('stalled');
});

test('20,000 events with a slow store: the socket is drained, memory bounded, and the journal says what it lost', async () => {
  const fake = await engine();
  const { stream, ids } = follow(fake, { stallBurst: 1e9, stallDelayMs: 1e9, pingTimeoutMs: 60_000 });
  const state = createFaultyState();
  state.slowMs = 40;
  const { log } = createLogLines();
  const limits = { queueRecords: 2_000, flushMs: 10, closeTimeoutMs: 5_000 };
  const journal = createJournal({ state, stream, node: 'n1', log, limits });
  await connected(fake);
  const heapBefore = process.memoryUsage().heapUsed;
  let mostQueued = 0;
  for (let sent = 0; sent < 20_000; sent += 200) {
    fake.emit(
      ...Array.from({ length: 200 }, (_, n) =>
        containerEvent('start', `c${String(sent + n)}`, { name: `name-${String(n)}`, image: 'alpine' }),
      ),
    );
    await fake.drained();
    mostQueued = Math.max(mostQueued, journal.stats().queued);
  }
  await waitFor('all have been read', () => ids().length === 20_000, { timeoutMs: 30_000 });
  expect(stream.stats()).toMatchObject({ events: 20_000, dropped: 0, connects: 1 });
  expect(mostQueued).toBeLessThanOrEqual(2_000);
  expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(100 * 1024 * 1024);
  state.slowMs = 0;
  await waitFor('the journal has caught up', () => journal.stats().queued === 0);
  await journal.close();
  const { written, lost } = journal.stats();
  expect(lost).toBeGreaterThan(0);
  const told = state.transactions
    .flatMap(({ then }) => then)
    .map((operation) => ('put' in operation ? operation.value : '{}'))
    .map((value) => JSON.parse(value) as Partial<EventRecord>)
    .filter(({ type, action }) => type === 'journal' && action === 'lost');
  expect(told.map(({ attributes }) => Number(attributes?.['count'])).reduce((a, b) => a + b)).toBe(lost);
  // Each event, and the gap at the start, is written or counted.
  expect(written - told.length + lost).toBe(20_001);
});

test('nothing comes after close, and nothing is left open', async () => {
  const fake = await engine();
  const { stream, ids } = follow(fake);
  await connected(fake);
  fake.emit(containerEvent('start', 'a'));
  await waitFor('it has come', () => ids().length === 1, soon);
  stream.close();
  await waitFor('the connection is gone', () => fake.streams === 0, soon);
  await delay(100);
  expect(fake.eventCalls).toHaveLength(1);
  expect(ids()).toEqual(['a']);
});
