import { performance } from 'node:perf_hooks';

export interface StallWatch {
  /** One event has been read. */
  count(): void;
  close(): void;
}

/**
 * Notices that this process has not read the stream for a while. dockerd queues 1,024 messages for a reader,
 * waits 100 ms, then drops without a trace; so a late event loop, or very many events in one turn of it, means
 * that some may be missing. onStall follows once things have been quiet for settleMs (at the latest after ten
 * times that), not once a turn.
 */
export function createStallWatch(options: {
  delayMs: number;
  burst: number;
  settleMs: number;
  onStall: (detail: string) => void;
}): StallWatch {
  const checkMs = Math.max(10, options.delayMs / 4);
  let lastCheck = performance.now();
  let inThisTurn = 0;
  let turnEnds: NodeJS.Immediate | undefined;
  let pending: { since: number; detail: string; timer: NodeJS.Timeout } | null = null;

  function stalled(detail: string): void {
    const now = performance.now();
    if (pending !== null) {
      clearTimeout(pending.timer);
      detail = pending.detail;
    }
    const since = pending?.since ?? now;
    const waitMs = Math.max(0, Math.min(options.settleMs, since + options.settleMs * 10 - now));
    const timer = setTimeout(() => {
      pending = null;
      options.onStall(detail);
    }, waitMs).unref();
    pending = { since, detail, timer };
  }

  const check = setInterval(() => {
    const now = performance.now();
    const lateMs = now - lastCheck - checkMs;
    lastCheck = now;
    if (lateMs >= options.delayMs)
      stalled(`this process was ${String(Math.round(lateMs))} ms behind its events`);
  }, checkMs).unref();

  return {
    count() {
      inThisTurn += 1;
      if (inThisTurn === options.burst)
        stalled(`${String(options.burst)} events and more were waiting unread`);
      turnEnds ??= setImmediate(() => {
        turnEnds = undefined;
        inThisTurn = 0;
      });
    },
    close() {
      clearInterval(check);
      if (pending !== null) clearTimeout(pending.timer);
      if (turnEnds !== undefined) clearImmediate(turnEnds);
    },
  };
}
