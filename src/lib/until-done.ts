import type { Ctx } from '../context.js';
import { sleep } from './sleep.js';

const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5000;

/** Tries for ever with growing pauses, until it is done or ctx.signal aborts. Each new reason is logged once. */
export async function untilDone<T>(ctx: Ctx, what: string, operation: () => Promise<T>): Promise<T> {
  let pauseMs = FIRST_PAUSE_MS;
  let lastReason = '';
  for (;;) {
    try {
      return await operation();
    } catch (err) {
      if (ctx.signal.aborted) throw err;
      const reason = err instanceof Error ? err.message : String(err);
      if (reason !== lastReason) ctx.log.warn({ err, what }, 'not done yet: trying again');
      lastReason = reason;
    }
    await sleep(pauseMs, ctx.signal);
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}
