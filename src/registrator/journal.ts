/**
 * The journal: what the engine of this host did, in shared state, for people who ask what happened.
 *
 * Events come from the stream into a bounded queue and go from there in transactions of many, one after the
 * other. Nothing waits for the store: while it is away the queue fills, then the oldest events go, and one record
 * says how many and from when to when; it is written with the first transaction after the store has answered
 * again. An event has the same key on every delivery (journal-record.ts) and is only ever created, so replays,
 * retries and restarts write nothing twice.
 *
 * Bounds: the keys are read once, at the start, and kept in memory; each write adds to them and removes what has
 * become too many, so that trimming costs deletes only. Age is looked at every few minutes as well. Without
 * events nothing is written, but for deletes of what has become too old. Records are this node's alone and never
 * change, so deleting one needs no comparison.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import type { DockerEvent } from '../docker/docker-event.js';
import type { EventStream, StreamItem } from '../docker/event-stream.js';
import { AppError, hasCode } from '../errors.js';
import { createBackoff } from '../lib/backoff.js';
import { createBoundedQueue } from '../lib/bounded-queue.js';
import type { Log } from '../log.js';
import { keys } from '../state/keys.js';
import { records } from '../state/records.js';
import type { State } from '../state/state.js';
import { journalDefaults, type JournalLimits } from './journal-limits.js';
import { createJournalIndex, type JournalBounds } from './journal-index.js';
import { keyAt, keyOf, noteOf, recordOf, sizeOf } from './journal-record.js';
import { isNoise } from './noise.js';

export interface JournalOptions {
  state: State;
  stream: Pick<EventStream, 'subscribe'>;
  node: string;
  log: Log;
  limits?: Partial<JournalLimits>;
}

export interface JournalStats {
  readonly written: number;
  /** Seen again, and so not written again. */
  readonly duplicates: number;
  readonly filtered: number;
  readonly lost: number;
  readonly trimmed: number;
  readonly failures: number;
  readonly queued: number;
  /** Records in shared state, as far as this process knows. */
  readonly records: number;
}

export interface Journal {
  stats(): JournalStats;
  /** Writes what is queued if the store answers in time. */
  close(): Promise<void>;
}

export function createJournal(options: JournalOptions): Journal {
  const journal = new StateJournal(options);
  journal.start();
  return journal;
}

interface Put {
  readonly key: string;
  readonly value: string;
}

interface Loss {
  count: number;
  sinceNano: string;
  untilNano: string;
}

/** A clock that was ahead by more than this and was put right leaves records that must go first. */
const aheadNano = 3_600_000_000_000n;
/** Refusals that another try will not change are tried this often. */
const maxRefusals = 3;

class StateJournal implements Journal {
  readonly #options: JournalOptions;
  readonly #limits: JournalLimits;
  readonly #queue;
  readonly #index = createJournalIndex();
  readonly #closing = new AbortController();
  readonly #aborted = new AbortController();
  readonly #backoff;
  #subscription: { close(): void } | null = null;
  #running: Promise<void> = Promise.resolve();
  #wake: () => void = () => undefined;
  #loss: Loss | null = null;
  #failing = false;
  #counts = { written: 0, duplicates: 0, filtered: 0, lost: 0, trimmed: 0, failures: 0 };

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#limits = { ...journalDefaults, ...options.limits };
    const { queueRecords: maxItems, queueBytes: maxBytes, retryMinMs, retryMaxMs } = this.#limits;
    this.#queue = createBoundedQueue<DockerEvent>({ maxItems, maxBytes });
    this.#backoff = createBackoff({ minMs: retryMinMs, maxMs: retryMaxMs });
  }

  start(): void {
    this.#subscription = this.#options.stream.subscribe((items) => {
      for (const item of items) this.#accept(item);
    });
    this.#running = this.#run();
  }

  stats(): JournalStats {
    return { ...this.#counts, queued: this.#queue.length, records: this.#index.size };
  }

  async close(): Promise<void> {
    this.#subscription?.close();
    this.#closing.abort();
    this.#wake();
    const timer = setTimeout(() => {
      this.#aborted.abort();
    }, this.#limits.closeTimeoutMs);
    await this.#running;
    clearTimeout(timer);
    if (this.#queue.length > 0)
      this.#options.log.warn({ count: this.#queue.length }, 'events were not written to the journal');
  }

  #accept(item: StreamItem): void {
    if (item.kind === 'gap') {
      if (item.gap.reason !== 'renewed') this.#enqueue(noteOf(this.#options.node, 'gap', item.gap));
    } else if (!this.#limits.includeNoise && isNoise(item.event)) this.#counts.filtered += 1;
    else this.#enqueue(item.event);
  }

  #enqueue(event: DockerEvent): void {
    for (const { timeNano } of this.#queue.push(event, sizeOf(event))) this.#lose(1, timeNano, timeNano);
    this.#wake();
  }

  #lose(count: number, sinceNano: string, untilNano: string): void {
    this.#counts.lost += count;
    this.#loss ??= { count: 0, sinceNano, untilNano };
    this.#loss.count += count;
    if (BigInt(untilNano) > BigInt(this.#loss.untilNano)) this.#loss.untilNano = untilNano;
    if (BigInt(sinceNano) < BigInt(this.#loss.sinceNano)) this.#loss.sinceNano = sinceNano;
  }

  async #run(): Promise<void> {
    let loaded = false;
    while (!loaded && !this.#aborted.signal.aborted) loaded = await this.#untilDone((ctx) => this.#load(ctx));
    while (!this.#aborted.signal.aborted) {
      await this.#trim();
      if (!(await this.#workToDo())) return;
      const batch = this.#nextBatch();
      if (batch.length > 0) await this.#write(batch);
    }
  }

  async #load(ctx: Ctx): Promise<void> {
    const { entries } = await this.#options.state.range(ctx, keys.eventsOf(this.#options.node));
    for (const { key } of entries) this.#index.add(key);
  }

  /** Waits for a full batch, the time to flush what there is, or to look at ages. False when all is done. */
  async #workToDo(): Promise<boolean> {
    const { batchRecords, trimEveryMs, flushMs } = this.#limits;
    await this.#waitFor(() => this.#queue.length > 0 || this.#loss !== null, trimEveryMs);
    await this.#waitFor(() => this.#queue.length === 0 || this.#queue.length >= batchRecords, flushMs);
    return this.#queue.length > 0 || this.#loss !== null || !this.#closing.signal.aborted;
  }

  async #waitFor(ready: () => boolean, atMostMs: number): Promise<void> {
    if (ready() || this.#closing.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = () => undefined;
        resolve();
      };
      const timer = setTimeout(done, atMostMs).unref();
      this.#wake = () => {
        if (ready() || this.#closing.signal.aborted) done();
      };
    });
  }

  #nextBatch(): Put[] {
    const { batchRecords, batchBytes } = this.#limits;
    const events: DockerEvent[] = [];
    // The batch before this one was written, so the store is back: time to say what was lost meanwhile.
    if (this.#loss !== null) {
      const detail = 'events were seen but could not be written in time';
      events.push(noteOf(this.#options.node, 'lost', { reason: 'store', detail, ...this.#loss }));
      this.#loss = null;
    }
    events.push(...this.#queue.take(batchRecords - events.length, batchBytes));
    const puts = new Map<string, string>();
    for (const event of events) {
      const key = keyOf(this.#options.node, event);
      if (this.#index.has(key) || puts.has(key)) this.#counts.duplicates += 1;
      else puts.set(key, records.event.encode(recordOf(this.#options.node, event)));
    }
    return [...puts].map(([key, value]) => ({ key, value }));
  }

  async #write(batch: Put[]): Promise<void> {
    let puts = batch;
    const done = await this.#untilDone(async (ctx) => {
      while (puts.length > 0) {
        const result = await this.#options.state.transact(ctx, {
          if: puts.map(({ key }) => ({ key, absent: true })),
          then: puts.map(({ key, value }) => ({ put: key, value })),
        });
        if (result.ok) break;
        const absent = await this.#absent(ctx, puts);
        this.#counts.duplicates += puts.length - absent.length;
        puts = absent;
      }
    });
    if (!done) {
      const times = batch.map(({ key }) => timeOf(key));
      this.#lose(puts.length, times[0] ?? '0', times.at(-1) ?? '0');
      return;
    }
    this.#counts.written += puts.length;
    for (const { key } of batch) this.#index.add(key);
  }

  async #absent(ctx: Ctx, puts: readonly Put[]): Promise<Put[]> {
    const found = await Promise.all(puts.map(({ key }) => this.#options.state.get(ctx, key)));
    return puts.filter((_, index) => found[index] === null);
  }

  async #trim(): Promise<void> {
    for (;;) {
      const surplus = this.#index.surplus(this.#bounds(), this.#limits.batchRecords);
      if (surplus.length === 0) return;
      const done = await this.#untilDone(async (ctx) => {
        await this.#options.state.transact(ctx, { if: [], then: surplus.map((key) => ({ delete: key })) });
      });
      if (!done) return;
      this.#index.remove(surplus);
      this.#counts.trimmed += surplus.length;
    }
  }

  #bounds(): JournalBounds {
    const now = BigInt(Date.now()) * 1_000_000n;
    return {
      maxRecords: this.#limits.maxRecords,
      oldestKey: keyAt(this.#options.node, now - BigInt(this.#limits.maxAgeMs) * 1_000_000n),
      newestKey: keyAt(this.#options.node, now + aheadNano),
    };
  }

  /** Tries again while the store is away. False if it was given up: refused for good, or closing. */
  async #untilDone(operation: (ctx: Ctx) => Promise<void>): Promise<boolean> {
    const { signal } = this.#aborted;
    const stopped = () => signal.aborted;
    const ctx: Ctx = { log: this.#options.log, signal, requestId: 'journal' };
    for (let refusals = 0; refusals < maxRefusals && !signal.aborted;) {
      try {
        await operation(withDeadline(ctx, this.#limits.callTimeoutMs));
        if (this.#failing) this.#options.log.info('the journal of docker events is written again');
        this.#failing = false;
        this.#backoff.reset();
        return true;
      } catch (reason) {
        const err = AppError.from(reason);
        this.#counts.failures += 1;
        if (hasCode(err, 'invalid_argument', 'internal')) refusals += 1;
        if (!this.#failing && !stopped())
          this.#options.log.warn({ err }, 'the journal of docker events cannot be written; trying again');
        this.#failing = true;
        await delay(this.#backoff.nextMs(), undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
    return false;
  }
}

function timeOf(key: string): string {
  const time = /(\d{20})-[^/]*$/.exec(key)?.[1];
  return time === undefined ? '0' : BigInt(time).toString();
}
