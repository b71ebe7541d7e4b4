import type { Ctx } from '../context.js';
import { AppError, hasCode } from '../errors.js';

export interface MountAttempt {
  readonly name: string;
  readonly timeoutMs: number;
  /** What its convergence ended with. */
  readonly problem: string | null;
}

/** What the user reads: that the time was over is the frame, why it was is the sentence. */
export function mountFailure(
  reason: unknown,
  caller: Ctx,
  { name, timeoutMs, problem }: MountAttempt,
): AppError {
  if (caller.signal.aborted)
    return new AppError('canceled', `the mount of ${name} was given up by the caller`);
  const failure = isTimeout(reason)
    ? new AppError('deadline_exceeded', 'it waited for another step of it, or the host is busy', {
        cause: reason,
      })
    : AppError.from(reason);
  if (!hasCode(failure, 'deadline_exceeded', 'canceled')) return failure;
  const seconds = String(timeoutMs / 1000);
  const why = problem ?? failure.message;
  return new AppError('deadline_exceeded', `volume ${name} could not be mounted within ${seconds} s: ${why}`);
}

/** What a deadline aborts with, where no step has told in its own words what it waited for. */
function isTimeout(reason: unknown): boolean {
  return reason instanceof DOMException && reason.name === 'TimeoutError';
}
