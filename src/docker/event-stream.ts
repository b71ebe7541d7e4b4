import type { DockerEvent } from './docker-event.js';

/**
 * connected: the first connection (a late subscriber gets it at once). reconnected: the stream was cut.
 * stalled: this process read too late. overflow: this listener was too slow, or a line too long.
 * renewed: a silent stream was opened anew, most likely nothing is missing.
 */
export type GapReason = 'connected' | 'reconnected' | 'stalled' | 'overflow' | 'renewed';

export interface Gap {
  readonly reason: GapReason;
  readonly detail: string;
  /** Events may be missing from here ... */
  readonly sinceNano: string;
  /** ... to here. Nanoseconds since 1970. */
  readonly untilNano: string;
  /** How many are missing, where that is known. */
  readonly count?: number;
}

export type StreamItem =
  { readonly kind: 'event'; readonly event: DockerEvent } | { readonly kind: 'gap'; readonly gap: Gap };

/** Gets items in order. If it returns a promise, the next items come when it has settled. */
export type EventListener = (items: readonly StreamItem[]) => void | Promise<void>;

export interface EventSubscription {
  close(): void;
}

export interface EventStreamStats {
  readonly connected: boolean;
  readonly connects: number;
  readonly events: number;
  readonly duplicates: number;
  /** Lines that were no events. */
  readonly malformed: number;
  /** Items in listeners' queues now, and thrown away so far. */
  readonly queued: number;
  readonly dropped: number;
}

export interface EventStream {
  subscribe(listener: EventListener): EventSubscription;
  stats(): EventStreamStats;
  /** Cuts the connection; listeners get nothing more. */
  close(): void;
}
