import { performance } from 'node:perf_hooks';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';

/** Thrown by `race` when its slice of the budget is over: one try got no answer. */
export class NoAnswer extends Error {
  constructor(ms: number) {
    super(`Deadline exceeded: no answer within ${String(Math.round(ms))} ms`);
    this.name = 'NoAnswer';
  }
}

/** The time one operation has: the caller's signal, and never more than timeoutMs by the monotonic clock. */
export interface Budget {
  readonly signal: AbortSignal;
  remainingMs(): number;
  /** True when no further try makes sense. */
  spent(): boolean;
  /** Waits for the promise at most `ms`, at most what remains, and only while the caller does. */
  race<T>(promise: Promise<T>, ms: number): Promise<T>;
  /** Waits before the next try; returns early when the caller goes away. */
  pause(ms: number): Promise<void>;
  /** Why it is over, as the error the caller gets; `last` is what the last try said. */
  failure(doing: string, last?: AppError): AppError;
}

export function createBudget(ctx: Ctx, timeoutMs: number): Budget {
  const endsAt = performance.now() + timeoutMs;
  const { signal } = ctx;
  const remainingMs = () => Math.max(0, endsAt - performance.now());
  return {
    signal,
    remainingMs,
    spent: () => signal.aborted || remainingMs() < 1,
    race: (promise, ms) => race(promise, Math.min(ms, remainingMs()), signal),
    pause: (ms) => sleep(Math.min(ms, remainingMs()), signal),
    failure(doing, last) {
      const suffix = last === undefined ? '' : `: ${last.message}`;
      if (!signal.aborted) {
        if (last !== undefined) return last;
        return new AppError(
          'deadline_exceeded',
          `${doing} took longer than ${String(timeoutMs)} ms${suffix}`,
        );
      }
      return isTimeout(signal.reason)
        ? new AppError('deadline_exceeded', `${doing} was not finished in the time its caller had${suffix}`)
        : new AppError('canceled', `${doing} was given up because its caller went away${suffix}`);
    },
  };
}

function isTimeout(reason: unknown): boolean {
  if (reason instanceof AppError) return reason.code === 'deadline_exceeded';
  return reason instanceof DOMException && reason.name === 'TimeoutError';
}

function race<T>(promise: Promise<T>, ms: number, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const giveUp = () => {
      settle();
      reject(new NoAnswer(ms));
    };
    const timer = setTimeout(giveUp, ms);
    signal.addEventListener('abort', giveUp);
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
    };
    promise.finally(settle).then(resolve, reject);
    if (signal.aborted) giveUp();
  });
}
