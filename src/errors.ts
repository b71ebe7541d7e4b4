/**
 * Every error that crosses a folder is an AppError with a code of this closed list. Foreign errors are
 * translated once, in the adapter that meets them; the message names the object, the cause and the way out.
 */
export const errorCodes = [
  'invalid_argument', // the caller asked for something that can never be right
  'not_found', // positively absent, not merely unknown
  'conflict', // somebody else's state stands against it; a change there clears it
  'in_use', // refused because it is mounted or attached
  'no_space', // a pool or etcd's quota is full
  'no_leader', // etcd answers but has no leader
  'unavailable', // a dependency does not answer; the same call may succeed later
  'deadline_exceeded', // our own time budget ran out
  'canceled', // the caller went away
  'internal', // a defect
] as const;
export type ErrorCode = (typeof errorCodes)[number];

export class AppError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'AppError';
    this.code = code;
  }

  /** The only way an unknown throw enters our code. Keeps an AppError as it is. */
  static from(reason: unknown, code: ErrorCode = 'internal', prefix?: string): AppError {
    if (reason instanceof AppError) return reason;
    const text = reason instanceof Error ? reason.message : String(reason);
    return new AppError(code, prefix === undefined ? text : `${prefix}: ${text}`, { cause: reason });
  }
}

/** True for an AppError with one of the codes. */
export function hasCode(reason: unknown, ...codes: ErrorCode[]): reason is AppError {
  return reason instanceof AppError && codes.includes(reason.code);
}
