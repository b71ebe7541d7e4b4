import type { Log } from './log.js';

/** First parameter of each operation: where to log, when to give up, and which request it belongs to. */
export interface Ctx {
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly requestId: string;
}

/** The same context with a deadline of its own on top of the caller's signal. */
export function withDeadline(ctx: Ctx, ms: number): Ctx {
  return { ...ctx, signal: AbortSignal.any([ctx.signal, AbortSignal.timeout(ms)]) };
}
