/** Records as they lie in the replica: decoded once, and told when they cannot be. */
import { AppError } from '../errors.js';
import { keys } from '../state/keys.js';
import { records, type Codec } from '../state/records.js';
import type { Entry } from '../state/state.js';

export interface UnreadableVolume {
  readonly name: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly reason: string;
}

/** What this version cannot read: damaged, or of a newer version. It exists, whatever else. */
export function unreadableOf(entries: readonly Entry[]): UnreadableVolume[] {
  return entries.flatMap((entry) => {
    try {
      decode(records.volume, entry);
      return [];
    } catch (reason) {
      const name = entry.key.slice(keys.volumes.length);
      return [{ name, createdAt: createdAtOf(entry), reason: AppError.from(reason).message }];
    }
  });
}

/** Docker fails a whole listing on a time that is none. */
function createdAtOf({ value }: Entry): string {
  const text = /"createdAt":\s*"([^"]*)"/.exec(value)?.[1] ?? '';
  return new Date(Number.isNaN(Date.parse(text)) ? 0 : text).toISOString();
}

/** What an entry holds, read once: entries never change, and a listing of a thousand reads each every time. */
const decoded = new WeakMap<Entry, unknown>();

export function decode<T>(codec: Codec<T>, entry: Entry | null): T | null {
  if (!entry) return null;
  // The key's prefix, and so the entry, belongs to one codec.
  const known = decoded.get(entry) as T | undefined;
  if (known !== undefined) return known;
  const record = codec.decode(entry.key, entry.value);
  decoded.set(entry, record);
  return record;
}

/** One damaged record must not hide the others: it is left out of lists, and named when it is asked for. */
export function decodeAll<T>(codec: Codec<T>, entries: readonly Entry[]): T[] {
  return entries.flatMap((entry) => {
    try {
      return [decode(codec, entry)].filter((record) => record !== null);
    } catch {
      return [];
    }
  });
}
