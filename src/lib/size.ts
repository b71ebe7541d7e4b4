const units = ['', 'K', 'M', 'G', 'T', 'P', 'E'];
const pattern = /^(\d+(?:\.\d+)?) ?(?:([KMGTPE])i?B?|B)?$/i;

/** How sizes are written, for messages. */
export const sizeSyntax =
  'bytes, or a number with K, M, G or T (powers of 1024; Ki, KiB and KB mean the same)';

/**
 * Reads a size the way `docker run --memory` and `--shm-size` do: K, KB, Ki and KiB are all 1024. Fractions are
 * rounded up to a multiple. Answers undefined for anything else; Infinity is possible and left to range checks.
 */
export function parseSize(text: string, multipleBytes = 1): number | undefined {
  const match = pattern.exec(text);
  if (match === null) return undefined;
  const exponent = units.indexOf((match[2] ?? '').toUpperCase());
  const bytes = Number(match[1]) * 1024 ** exponent;
  return Math.ceil(bytes / multipleBytes) * multipleBytes;
}

/** For readers, e.g. `10 GiB`. What does not fit in two decimals says so: `about 73.42 GiB`. */
export function formatSize(bytes: number): string {
  const exponent = Math.max(0, Math.min(6, Math.floor(Math.log2(Math.max(bytes, 1)) / 10)));
  const value = bytes / 1024 ** exponent;
  const unit = exponent === 0 ? 'bytes' : `${units[exponent] ?? ''}iB`;
  const rounded = Math.round(value * 100) / 100;
  return `${rounded === value ? '' : 'about '}${String(rounded)} ${unit}`;
}
