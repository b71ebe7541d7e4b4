/**
 * The engine's events, followed for ever.
 *
 * An event is a hint, never a fact to build on: dockerd keeps only the last 256 of them, drops for slow readers
 * without a mark (and slows itself down for everybody while it waits for such a reader), forgets all at its own
 * restart, and logs none for what happened while it was down. So this reader does two things only. It drains the
 * socket whatever its listeners do: parse, put into a bounded queue per listener, read on. And it says `gap`
 * whenever events may be missing, so that each listener looks at the real state (subscribe, then list, then
 * apply): after each connect, after a stall of this process, after a listener's queue has overflowed.
 *
 * A reconnect asks for what happened since the last event seen less an overlap (times in the stream are not
 * quite in order, and swarm's carry the object's own time), and throws away what it had seen already. It never
 * gives up. A stream may also die without an end (a stopped engine, a proxy in between): an engine that does not
 * answer pings on another connection is taken for gone, and a stream that was silent for long is opened anew.
 */
import type { Log } from '../log.js';
import { AppError } from '../errors.js';
import { createBackoff, type Backoff } from '../lib/backoff.js';
import { createLineSplitter } from '../lib/line-splitter.js';
import { createRecentSet } from '../lib/recent-set.js';
import { eventIdentity, parseDockerEvent } from './docker-event.js';
import { openEventConnection, pingEngine, type EventConnection } from './event-connection.js';
import { createEventFanOut, type EventFanOut } from './event-fan-out.js';
import type {
  EventListener,
  EventStream,
  EventStreamStats,
  EventSubscription,
  Gap,
  GapReason,
} from './event-stream.js';
import { createStallWatch, type StallWatch } from './stall-watch.js';

export interface EventStreamOptions {
  socketPath: string;
  log: Log;
  limits?: Partial<EventStreamLimits>;
}

export interface EventStreamLimits {
  overlapMs: number;
  headerTimeoutMs: number;
  pingEveryMs: number;
  pingTimeoutMs: number;
  /** Pings in a row that fail before the stream is given up: one may be a busy engine. */
  pingFailures: number;
  /** A stream that carried nothing for so long is opened anew. */
  silentMs: number;
  backoffMinMs: number;
  backoffMaxMs: number;
  /** A connection that lasted so long was a good one: the next backoff starts small again. */
  goodAfterMs: number;
  maxLineChars: number;
  queueItems: number;
  queueBytes: number;
  remembered: number;
  stallDelayMs: number;
  stallBurst: number;
  stallSettleMs: number;
}

const defaults: EventStreamLimits = {
  overlapMs: 2_000,
  headerTimeoutMs: 15_000,
  pingEveryMs: 10_000,
  pingTimeoutMs: 5_000,
  pingFailures: 2,
  silentMs: 300_000,
  backoffMinMs: 100,
  backoffMaxMs: 5_000,
  goodAfterMs: 10_000,
  maxLineChars: 4 * 1024 * 1024,
  queueItems: 20_000,
  queueBytes: 16 * 1024 * 1024,
  remembered: 4_096,
  stallDelayMs: 1_000,
  stallBurst: 1_000,
  stallSettleMs: 1_000,
};

export function createEventStream(options: EventStreamOptions): EventStream {
  const stream = new SocketEventStream(options);
  stream.start();
  return stream;
}

class SocketEventStream implements EventStream {
  readonly #log: Log;
  readonly #socketPath: string;
  readonly #limits: EventStreamLimits;
  readonly #fanOut: EventFanOut;
  readonly #backoff: Backoff;
  readonly #stalls: StallWatch;
  readonly #recent: { add(identity: string): boolean };
  readonly #startedNano = nowNano();
  #connection: EventConnection | null = null;
  #connected = false;
  #closed = false;
  #lastSeenNano = this.#startedNano;
  /** What the next connection is: decided when the one before it ends. */
  #next: GapReason = 'connected';
  #warned = false;
  #openedAt = 0;
  #lastDataAt = 0;
  #retry: NodeJS.Timeout | undefined;
  #pinging: NodeJS.Timeout | undefined;
  #counts = { connects: 0, events: 0, duplicates: 0, malformed: 0 };

  constructor(options: EventStreamOptions) {
    const limits = { ...defaults, ...options.limits };
    this.#log = options.log;
    this.#socketPath = options.socketPath;
    this.#limits = limits;
    this.#backoff = createBackoff({ minMs: limits.backoffMinMs, maxMs: limits.backoffMaxMs });
    this.#recent = createRecentSet(limits.remembered);
    this.#fanOut = createEventFanOut({
      maxItems: limits.queueItems,
      maxBytes: limits.queueBytes,
      log: options.log,
      onOverflow: (count, sinceNano) => ({
        ...this.#gap('overflow', 'a listener was too slow for the events', BigInt(sinceNano)),
        count,
      }),
    });
    this.#stalls = createStallWatch({
      delayMs: limits.stallDelayMs,
      burst: limits.stallBurst,
      settleMs: limits.stallSettleMs,
      onStall: (detail) => {
        if (this.#connected) this.#publish(this.#gap('stalled', detail, nowNano() - 60_000_000_000n));
      },
    });
  }

  start(): void {
    this.#connect();
  }

  subscribe(listener: EventListener): EventSubscription {
    const first = this.#gap('connected', 'this listener came when the stream was open', this.#startedNano);
    return this.#fanOut.subscribe(listener, this.#connected ? first : undefined);
  }

  stats(): EventStreamStats {
    const { queued, dropped } = this.#fanOut;
    return { connected: this.#connected, ...this.#counts, queued, dropped };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#stalls.close();
    this.#fanOut.close();
    this.#connection?.destroy(new AppError('canceled', 'the reader of docker events is closing'));
  }

  #connect(): void {
    if (this.#closed) return;
    const splitter = createLineSplitter({
      maxLineChars: this.#limits.maxLineChars,
      onLine: (line) => {
        this.#read(line);
      },
      onOverlong: () => {
        this.#counts.malformed += 1;
        this.#publish({ ...this.#gap('overflow', 'a message was too long', this.#lastSeenNano), count: 1 });
      },
    });
    this.#connection = openEventConnection({
      socketPath: this.#socketPath,
      sinceNano: this.#sinceNano(),
      headerTimeoutMs: this.#limits.headerTimeoutMs,
      onOpen: () => {
        this.#opened();
      },
      onData: (chunk) => {
        this.#lastDataAt = performance.now();
        splitter.push(chunk);
      },
      onClose: (reason) => {
        this.#lost(reason);
      },
    });
  }

  /** Never in the future, where a clock that was set back or a swarm peer's stamp may have put the last event. */
  #sinceNano(): bigint {
    const now = nowNano();
    const last = this.#lastSeenNano < now ? this.#lastSeenNano : now;
    return last - BigInt(this.#limits.overlapMs) * 1_000_000n;
  }

  #opened(): void {
    const reason = this.#next;
    this.#connected = true;
    this.#counts.connects += 1;
    this.#openedAt = this.#lastDataAt = performance.now();
    this.#next = 'reconnected';
    if (this.#warned || reason === 'connected') this.#log.info('docker events are followed');
    this.#warned = false;
    this.#publish(this.#gap(reason, 'the stream was opened', this.#lastSeenNano));
    this.#watchOver(0);
  }

  #lost(reason: AppError): void {
    const lastedMs = this.#connected ? performance.now() - this.#openedAt : 0;
    this.#connected = false;
    this.#connection = null;
    clearTimeout(this.#pinging);
    if (this.#closed) return;
    if (lastedMs >= this.#limits.goodAfterMs) this.#backoff.reset();
    const renewing = this.#next === 'renewed' && lastedMs > 0;
    if (!renewing) {
      if (this.#next === 'renewed') this.#next = 'reconnected';
      if (!this.#warned)
        this.#log.warn({ err: reason }, 'docker events cannot be read; trying again for ever');
      this.#warned = true;
    }
    this.#retry = setTimeout(
      () => {
        this.#connect();
      },
      renewing ? 0 : this.#backoff.nextMs(),
    ).unref();
  }

  /** Every few seconds: is the engine alive, and has this stream anything to say? */
  #watchOver(failures: number): void {
    const connection = this.#connection;
    this.#pinging = setTimeout(() => {
      void pingEngine(this.#socketPath, this.#limits.pingTimeoutMs).then((alive) => {
        if (connection === null || connection !== this.#connection) return;
        const failed = alive ? 0 : failures + 1;
        if (failed >= this.#limits.pingFailures) {
          connection.destroy(
            new AppError('unavailable', `the Docker engine at ${this.#socketPath} does not answer pings`),
          );
        } else if (alive && performance.now() - this.#lastDataAt >= this.#limits.silentMs) {
          this.#next = 'renewed';
          connection.destroy(new AppError('unavailable', 'the stream of docker events was silent for long'));
        } else this.#watchOver(failed);
      });
    }, this.#limits.pingEveryMs).unref();
  }

  #read(line: string): void {
    const event = parseDockerEvent(line);
    this.#stalls.count();
    if (event === null) {
      this.#counts.malformed += 1;
      if (this.#counts.malformed === 1)
        this.#log.warn({ line: line.slice(0, 200) }, 'a docker event makes no sense');
      return;
    }
    const nanos = BigInt(event.timeNano);
    // Swarm's events carry the time of the object, stamped on another host: no measure of what was seen here.
    if (event.scope !== 'swarm' && nanos > this.#lastSeenNano) this.#lastSeenNano = nanos;
    if (!this.#recent.add(eventIdentity(event))) {
      this.#counts.duplicates += 1;
      return;
    }
    this.#counts.events += 1;
    this.#fanOut.publish({ kind: 'event', event }, line.length * 2);
  }

  #publish(gap: Gap): void {
    this.#fanOut.publish({ kind: 'gap', gap }, 0);
  }

  #gap(reason: GapReason, detail: string, sinceNano: bigint): Gap {
    return { reason, detail, sinceNano: String(sinceNano), untilNano: String(nowNano()) };
  }
}

function nowNano(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}
