import { AppError } from '../errors.js';
import { quote } from '../lib/quote.js';

/** The engine checks nothing for drivers other than local: `../x` and `a b` do arrive here. */
const pattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}$/;

/**
 * Gives back the name if it may be one. At least two characters, as the Docker CLI takes `-v x:/data` for a
 * Windows drive. @throws AppError `invalid_argument`.
 */
export function parseVolumeName(name: string): string {
  if (pattern.test(name)) return name;
  throw new AppError(
    'invalid_argument',
    `volume name ${quote(name)} is not allowed: use 2 to 255 characters, each an ASCII letter, a digit, ` +
      '"_", "." or "-", the first a letter or a digit',
  );
}
