/** The file of a replica: written as a whole, with a checksum. */
import { createHash } from 'node:crypto';
import { readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { AppError } from '../errors.js';
import type { Log } from '../log.js';
import type { Entry } from './state.js';

/** ok: read. missing: there was none, as at the first start. damaged: set aside; rebuilt, once etcd was read. */
export interface CacheStart {
  readonly state: 'ok' | 'missing' | 'damaged' | 'rebuilt';
  readonly reason: string;
}

const entryShape = z.object({
  key: z.string(),
  value: z.string(),
  createRevision: z.int(),
  modRevision: z.int(),
});
const fileShape = z.object({ checksum: z.string(), complete: z.boolean(), entries: z.array(entryShape) });
export type StoredCache = Omit<z.infer<typeof fileShape>, 'checksum'>;

export function renderCache(stored: StoredCache): string {
  return JSON.stringify({ checksum: checksum(stored), ...stored });
}

function checksum({ complete, entries }: StoredCache): string {
  const flat = entries.map((entry) => [entry.key, entry.value, entry.createRevision, entry.modRevision]);
  return createHash('sha256')
    .update(JSON.stringify([complete, flat]))
    .digest('hex');
}

/** What the file says of a prefix, for who has no replica; null: nothing that could be counted on. */
export async function readCache(file: string, prefix: string): Promise<readonly Entry[] | null> {
  const stored = await readStored(file).catch(() => null);
  return stored?.complete === true ? stored.entries.filter(({ key }) => key.startsWith(prefix)) : null;
}

/** @throws what is wrong with it */
async function readStored(file: string): Promise<StoredCache> {
  const stored = fileShape.parse(JSON.parse(await readFile(file, 'utf8')));
  if (stored.checksum === checksum(stored)) return stored;
  throw new SyntaxError('its checksum is wrong');
}

/** What there is to begin with. */
export interface LoadedCache {
  readonly stored: StoredCache | null;
  readonly state: Exclude<CacheStart['state'], 'rebuilt'>;
  readonly reason: string;
}

/** Never throws: a damaged file is set aside. */
export async function loadCache(file: string, log: Log): Promise<LoadedCache> {
  try {
    return { stored: await readStored(file), state: 'ok', reason: '' };
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') {
      return { stored: null, state: 'missing', reason: '' };
    }
    log.warn({ err, file }, 'the cache of records is damaged: set aside, rebuilding it from etcd');
    await rename(file, `${file}.damaged`).catch(() => undefined);
    const reason = err instanceof z.ZodError ? 'it lacks what belongs in it' : AppError.from(err).message;
    return {
      stored: null,
      state: 'damaged',
      reason: `${path.basename(file)} was damaged (${reason}): set aside`,
    };
  }
}
