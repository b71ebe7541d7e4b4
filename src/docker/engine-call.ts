/** One call of the engine's API: bounded in time, its failures in our words. */
import type { Ctx } from '../context.js';
import { AppError, type ErrorCode } from '../errors.js';

/** Bounds one call: a socket that accepts and does not answer is how a starting engine looks. */
export const CALL_TIMEOUT_MS = 20_000;

export function statusOf(reason: unknown): number | undefined {
  if (typeof reason !== 'object' || reason === null || !('statusCode' in reason)) return undefined;
  return typeof reason.statusCode === 'number' ? reason.statusCode : undefined;
}

export async function orAbsent<T>(operation: () => Promise<T>, absent: T): Promise<T> {
  try {
    return await operation();
  } catch (reason) {
    if (statusOf(reason) === 404) return absent;
    throw reason;
  }
}

export async function call<T>(
  ctx: Ctx,
  what: string,
  operation: (signal: AbortSignal) => Promise<T>,
  timeoutMs = CALL_TIMEOUT_MS,
): Promise<T> {
  const signal = AbortSignal.any([ctx.signal, AbortSignal.timeout(timeoutMs)]);
  try {
    return await operation(signal);
  } catch (reason) {
    throw translate(reason, what, ctx.signal);
  }
}

const CODES: Readonly<Record<number, ErrorCode>> = { 404: 'unavailable', 409: 'conflict' };

/** A status means the engine answered and refused; no status means it did not answer. */
function translate(reason: unknown, what: string, caller: AbortSignal): AppError {
  if (caller.aborted)
    return new AppError('canceled', `cannot ${what}: the caller gave up`, { cause: reason });
  if (reason instanceof AppError) return reason;
  const status = statusOf(reason);
  const text = reason instanceof Error ? reason.message : String(reason);
  if (status === undefined) {
    return new AppError('unavailable', `cannot ${what}: the Docker engine does not answer (${text})`, {
      cause: reason,
    });
  }
  // Never `not_found`: to who asked for a volume that says that the volume is absent.
  return new AppError(CODES[status] ?? 'internal', `cannot ${what}: ${text}`, { cause: reason });
}
