import { setImmediate as nextTurn } from 'node:timers/promises';
import { createBoundedQueue, type BoundedQueue } from '../lib/bounded-queue.js';
import type { Log } from '../log.js';
import type { EventListener, EventSubscription, Gap, StreamItem } from './event-stream.js';

export interface EventFanOut {
  subscribe(listener: EventListener, first?: Gap): EventSubscription;
  publish(item: StreamItem, sizeBytes: number): void;
  close(): void;
  /** Items that wait for listeners. */
  readonly queued: number;
  /** Items that were thrown away because a listener was too slow. */
  readonly dropped: number;
}

export interface EventFanOutOptions {
  maxItems: number;
  maxBytes: number;
  log: Log;
  onOverflow: (count: number, sinceNano: string) => Gap;
}

// A listener gets this much at once, then the loop turns: the socket is read between two deliveries.
const maxItemsPerDelivery = 200;

/**
 * Gives each subscriber a queue of its own and empties it outside of the reader's turn. A listener that returns
 * a promise gets the next items when it has settled; meanwhile its queue fills, and when that is full the oldest
 * items go and an `overflow` gap says so. Nobody waits for it: not the reader, not the other subscribers.
 */
export function createEventFanOut(options: EventFanOutOptions): EventFanOut {
  const subscribers = new Set<Subscriber>();
  let dropped = 0; // by those who have left
  return {
    subscribe(listener, first) {
      const subscriber = new Subscriber(listener, options);
      subscribers.add(subscriber);
      if (first) subscriber.offer({ kind: 'gap', gap: first }, 0);
      return {
        close() {
          if (!subscribers.delete(subscriber)) return;
          subscriber.open = false;
          dropped += subscriber.dropped;
        },
      };
    },
    publish(item, sizeBytes) {
      for (const subscriber of subscribers) subscriber.offer(item, sizeBytes);
    },
    close() {
      for (const subscriber of subscribers) subscriber.open = false;
    },
    get queued() {
      return [...subscribers].reduce((sum, { queue }) => sum + queue.length, 0);
    },
    get dropped() {
      return [...subscribers].reduce((sum, subscriber) => sum + subscriber.dropped, dropped);
    },
  };
}

class Subscriber {
  readonly queue: BoundedQueue<StreamItem>;
  open = true;
  dropped = 0;
  readonly #listener: EventListener;
  readonly #options: EventFanOutOptions;
  #delivering = false;
  /** What was thrown away since the listener was last told. */
  #lost: { count: number; sinceNano: string } | null = null;

  constructor(listener: EventListener, options: EventFanOutOptions) {
    this.#listener = listener;
    this.#options = options;
    this.queue = createBoundedQueue(options);
  }

  offer(item: StreamItem, sizeBytes: number): void {
    if (!this.open) return;
    for (const old of this.queue.push(item, sizeBytes)) {
      this.dropped += 1;
      this.#lost ??= { count: 0, sinceNano: old.kind === 'event' ? old.event.timeNano : old.gap.sinceNano };
      this.#lost.count += 1;
    }
    if (!this.#delivering) void this.#deliver();
  }

  async #deliver(): Promise<void> {
    this.#delivering = true;
    for (;;) {
      await nextTurn();
      const items = this.open ? this.#next() : [];
      if (items.length === 0) break;
      try {
        await this.#listener(items);
      } catch (err) {
        this.#options.log.error({ err }, 'a listener of docker events failed; its next events go on');
      }
    }
    this.#delivering = false;
  }

  #next(): StreamItem[] {
    const items = this.queue.take(maxItemsPerDelivery);
    const lost = this.#lost;
    if (lost === null) return items;
    this.#lost = null;
    return [{ kind: 'gap', gap: this.#options.onOverflow(lost.count, lost.sinceNano) }, ...items];
  }
}
