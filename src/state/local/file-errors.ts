/** What a file system says of the file with the state of this host, and what to do about it. */
import { AppError } from '../../errors.js';

/** @param hasBeginning whether one may go on with what is before the damage */
export function damaged(shown: string, at: number, hasBeginning: boolean): AppError {
  const part = !hasBeginning
    ? ''
    : `; or, to go on with what is before the damage and lose what was written later, truncate -s ${String(at)} ${shown}`;
  return new AppError(
    'unavailable',
    `${shown} is damaged at byte ${String(at)}: nothing of it is used, and nothing is made in its place. Restore it ` +
      `from a backup${part}`,
  );
}

const ways: Readonly<Record<string, string>> = {
  ENOSPC: 'its disk is full: free some space there, and it works again at once',
  EDQUOT: 'its quota is used up: free some space there, and it works again at once',
  EROFS: 'it is on a file system that is mounted read-only: repair that, and mount it read-write',
  ENOENT: 'it is gone: restore it, or mount its disk',
  EIO: 'its disk fails: see the log of the kernel, and replace it',
};

/** `no_space` for a full disk, else `unavailable`; an AppError as it is. */
export function explained(reason: unknown, shown: string): AppError {
  if (reason instanceof AppError) return reason;
  const code = (reason as NodeJS.ErrnoException).code ?? '';
  const way = ways[code] ?? (reason instanceof Error ? reason.message : String(reason));
  const kind = code === 'ENOSPC' || code === 'EDQUOT' ? 'no_space' : 'unavailable';
  return new AppError(kind, `cannot use ${shown}: ${way} (${code})`, { cause: reason });
}
