/**
 * Where the state of this host is kept is noted there, as the setting CLUSTER can be changed. What is recorded at the
 * former place would be hidden: to Docker those volumes would not exist. So it is refused while there are any.
 */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { Config } from './config.js';
import type { HostPaths } from './dataplane/host-paths.js';
import { AppError } from './errors.js';
import { writeFileAtomic } from './lib/atomic-file.js';
import type { Log } from './log.js';
import { keys } from './state/keys.js';
import { readLocalState } from './state/local-state.js';
import { readCache } from './state/replica-file.js';

type Place = Config['cluster'];

const noteShape = z.object({ cluster: z.enum(['etcd', 'none']) });

/** Null: it may be used, and is noted. @throws AppError when nobody can tell whether anything would be hidden */
export async function refuseToHide(paths: HostPaths, wanted: Place, log: Log): Promise<AppError | null> {
  const file = paths.view(paths.keptIn);
  const noted = await readNote(file);
  const former = noted ?? ((await hadEtcd(paths)) ? 'etcd' : wanted);
  if (former !== wanted) {
    const count = await countVolumes(paths, former, log);
    if (count !== 0) return refusal(paths, former, count);
  }
  if (noted !== wanted) await writeFileAtomic(file, JSON.stringify({ cluster: wanted }));
  return null;
}

async function readNote(file: string): Promise<Place | null> {
  try {
    return noteShape.parse(JSON.parse(await readFile(file, 'utf8'))).cluster;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    const todo = 'write {"cluster":"etcd"} into it, or {"cluster":"none"}, whichever is right';
    throw new AppError('internal', `${file} is damaged: ${todo}`, { cause });
  }
}

/** Before there was a choice, and a note of it. */
async function hadEtcd(paths: HostPaths): Promise<boolean> {
  const traces = [path.join(paths.state, 'etcd-incarnation.json'), cacheOf(paths)];
  const found = await Promise.all(
    traces.map((file) =>
      stat(paths.view(file)).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

/** Null: nobody can tell. */
async function countVolumes(paths: HostPaths, former: Place, log: Log): Promise<number | null> {
  const known = await readCache(paths.view(cacheOf(paths)), keys.volumes);
  if (former === 'etcd') return known?.length ?? null;
  const shown = paths.localState;
  const read = readLocalState({ directory: paths.view(shown), shown, log }, keys.volumes);
  // One that is gone, or damaged, says nothing.
  const kept = (await read.catch(() => null)) ?? known;
  return kept?.length ?? null;
}

function cacheOf(paths: HostPaths): string {
  return path.join(paths.cache, 'records.json');
}

function refusal(paths: HostPaths, former: Place, count: number | null): AppError {
  const volumes = count === null ? 'volumes may be' : `${String(count)} volume(s) are`;
  const where = former === 'etcd' ? 'in etcd' : `in ${paths.localState}`;
  const now = former === 'etcd' ? 'none' : 'etcd';
  return new AppError(
    'conflict',
    `CLUSTER=${now}, but ${volumes} recorded ${where} and would be hidden: while the plugin is disabled, set it back ` +
      `with "docker plugin set openebs CLUSTER=${former}", and remove the volumes before it is changed. What is in use ` +
      'goes on; nothing is made or forgotten meanwhile',
  );
}
