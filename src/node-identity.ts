/** Who this host is: kept on disk, so that a start while the engine does not answer needs nobody. */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { AppError } from './errors.js';
import { writeFileAtomic } from './lib/atomic-file.js';

const shape = z.object({ node: z.string().min(1), cluster: z.string().min(1) });
export type NodeIdentity = z.infer<typeof shape>;

export interface LoadedIdentity extends NodeIdentity {
  /** The name that this host had until the setting was changed; the new one is kept with `keepNodeIdentity`. */
  readonly former: string | null;
}

/**
 * The setting wins, then what was kept, then what `ask` finds out (the engine's ID). A node's name is in the
 * records of all its volumes, so what was kept is never guessed anew: a damaged file is an error.
 */
export async function loadNodeIdentity(
  file: string,
  setting: string,
  ask: () => Promise<string>,
): Promise<LoadedIdentity> {
  const kept = await read(file);
  const node = setting === '' ? (kept?.node ?? (await ask())) : setting;
  const identity = { node, cluster: kept?.cluster ?? randomUUID() };
  if (!kept) await keepNodeIdentity(file, identity);
  return { ...identity, former: kept && kept.node !== node ? kept.node : null };
}

export async function keepNodeIdentity(file: string, { node, cluster }: NodeIdentity): Promise<void> {
  await writeFileAtomic(file, JSON.stringify({ node, cluster }));
}

/** The host belongs to another cluster from now on. One that has no name yet gets it there. */
export async function keepCluster(file: string, cluster: string): Promise<void> {
  const kept = await read(file);
  if (kept) await keepNodeIdentity(file, { ...kept, cluster });
}

async function read(file: string): Promise<NodeIdentity | null> {
  try {
    return shape.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AppError('internal', `${file} is damaged: restore it, or set NODE_ID and remove it`, { cause });
  }
}
