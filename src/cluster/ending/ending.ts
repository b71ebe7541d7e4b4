/**
 * This host's part in taking its cluster down. The targets and initiators go while etcd still tells every host of it;
 * etcd goes once all have told that theirs are gone, by the next start of the plugin (carry-out.ts), which ends with the
 * plugin disabled.
 *
 * A cluster that is enabled again finds the decision in its etcd: a host that has carried it out takes it away.
 */
import { readFile, rm } from 'node:fs/promises';
import { z } from 'zod';
import type { Ctx } from '../../context.js';
import { withDeadline } from '../../context.js';
import { deleteBacking } from '../../dataplane/backing.js';
import type { HostPaths } from '../../dataplane/host-paths.js';
import { mustExist } from '../../dataplane/pools.js';
import type { RoleContainers } from '../../dataplane/role-container.js';
import { AppError } from '../../errors.js';
import { failPoint } from '../../lib/fail-points.js';
import { sleep } from '../../lib/sleep.js';
import { keys } from '../../state/keys.js';
import { type Codec, type EndingRecord, records } from '../../state/records.js';
import type { Entry, Operation, State } from '../../state/state.js';
import { decideTransition } from '../formation/transition.js';
import { ETCD_CONTAINER } from '../own-etcd.js';
import { readEnding, waitingFor } from './progress.js';

export interface EndingDeps {
  readonly node: string;
  /** As far as it is believed. */
  readonly state: State;
  readonly paths: HostPaths;
  readonly roles: Pick<RoleContainers, 'list' | 'remove'>;
  readonly restart: (why: string) => void;
  readonly paceMs?: number;
  readonly lingerMs?: number;
  readonly silenceMs?: number;
}

export interface HostEnding {
  /** Nothing that serves volumes is brought back from now on. */
  readonly begun: boolean;
  /** Goes on until the signal aborts. Never rejects. */
  run(ctx: Ctx): Promise<void>;
}

const PACE_MS = 1000;
const TURN_TIMEOUT_MS = 30_000;
/** All hosts look meanwhile, and whoever asked for it reads the end of it. */
const LINGER_MS = 5000;
/** The others have all they need, and their etcd is gone. */
const SILENCE_MS = 30_000;
const DRAIN_SECONDS = 5;

export function createHostEnding(deps: EndingDeps): HostEnding {
  return new WatchedEnding(deps);
}

class WatchedEnding implements HostEnding {
  readonly #deps: EndingDeps;
  #ending: EndingRecord | null = null;
  #isTold = false;
  #problem = '';

  constructor(deps: EndingDeps) {
    this.#deps = deps;
  }

  get begun(): boolean {
    return this.#ending !== null;
  }

  async run(ctx: Ctx): Promise<void> {
    const { paceMs = PACE_MS, silenceMs = SILENCE_MS } = this.#deps;
    let answeredAt = performance.now();
    while (!ctx.signal.aborted) {
      try {
        const isOver = await this.#turn(withDeadline(ctx, TURN_TIMEOUT_MS));
        answeredAt = performance.now();
        if (isOver) {
          await this.#leave(ctx);
          return;
        }
      } catch (err) {
        this.#tell(ctx, AppError.from(err));
        if (this.#isTold && performance.now() - answeredAt > silenceMs) return this.#leave(ctx);
      }
      await sleep(paceMs, ctx.signal);
    }
  }

  /** Answers true when nobody needs etcd for it any more. */
  async #turn(ctx: Ctx): Promise<boolean> {
    const { node, state } = this.#deps;
    const found = await readEnding(ctx, state);
    // Somebody has carried it out, and is back already: so all had told.
    if (found === null && this.#isTold) return true;
    if (found?.decided !== true) return this.#standsAgain();
    // Decided while this host was away: what it has stays.
    if (found.purge && !found.nodes.includes(node)) return false;
    if ((await readEnded(this.#deps)) === found.id) {
      await clear(ctx, state, found);
      return false;
    }
    return this.#doPart(ctx, found);
  }

  /** It was carried out without this host, if that has not told yet. */
  #standsAgain(): Promise<false> {
    if (!this.#isTold) this.#ending = null;
    return forgetEnded(this.#deps);
  }

  async #doPart(ctx: Ctx, found: EndingRecord): Promise<boolean> {
    const { node, state } = this.#deps;
    if (this.#ending === null)
      ctx.log.warn({ cluster: found.cluster, purge: found.purge }, 'the cluster is taken down');
    this.#ending = found;
    await this.#stopServing(ctx);
    if (found.purge) await deleteAll(ctx, this.#deps);
    if (!this.#isTold) {
      await failPoint('before ending ack');
      const value = records.ended.encode({ schema: 1, node, ending: found.id });
      await state.transact(ctx, { if: [], then: [{ put: keys.ended(node), value }] });
      this.#isTold = true;
    }
    return (await waitingFor(ctx, state, found)).length === 0;
  }

  /** Initiators first: each gives back its device, and its target has nobody left. */
  async #stopServing(ctx: Ctx): Promise<void> {
    const { roles } = this.#deps;
    const names = (await roles.list()).filter((name) => name !== ETCD_CONTAINER);
    const initiators = names.filter((name) => name.includes('-initiator-'));
    for (const name of [...initiators, ...names.filter((other) => !initiators.includes(other))])
      await roles.remove(ctx, name, DRAIN_SECONDS);
  }

  async #leave(ctx: Ctx): Promise<void> {
    const { paths, restart, lingerMs = LINGER_MS } = this.#deps;
    const ending = this.#ending;
    if (ending === null) return;
    await sleep(lingerMs, ctx.signal);
    if (ctx.signal.aborted) return;
    await decideTransition(paths, {
      kind: 'end',
      cluster: ending.cluster,
      ending: ending.id,
      purge: ending.purge,
    });
    restart('the cluster is taken down');
  }

  /** While etcd is away there is nothing to say that others do not. */
  #tell(ctx: Ctx, failure: AppError): void {
    if (this.#ending === null || failure.message === this.#problem || ctx.signal.aborted) return;
    this.#problem = failure.message;
    ctx.log.warn({ err: failure }, 'this host cannot carry out its part in taking the cluster down yet');
  }
}

/** Of the volumes that are recorded as this host's. What nobody has a record of may be somebody's only copy. */
async function deleteAll(ctx: Ctx, { node, state, paths }: EndingDeps): Promise<void> {
  const [targets, volumes] = await Promise.all([
    state.range(ctx, keys.targets),
    state.range(ctx, keys.volumes),
  ]);
  const here = new Set(
    readable(ctx, records.target, targets.entries)
      .filter((target) => target.node === node)
      .map(({ volumeId }) => volumeId),
  );
  for (const { id, pool, status } of readable(ctx, records.volume, volumes.entries)) {
    if (!here.has(id)) continue;
    // Its data would stay behind on a disk that is not mounted now, and nobody would know whose it is.
    if (status === 'ready') await mustExist(paths, pool);
    await deleteBacking(paths, { pool, volumeId: id });
  }
}

/** What a damaged record speaks of stays, and is told: nothing shall keep the rest from its end. */
function readable<T>(ctx: Ctx, codec: Codec<T>, entries: readonly Entry[]): T[] {
  return entries.flatMap(({ key, value }) => {
    try {
      return [codec.decode(key, value)];
    } catch (err) {
      ctx.log.warn({ key, err }, 'the data that this record speaks of stays');
      return [];
    }
  });
}

/** The last thing that is left of it. Each host says it only of what itself has carried out. */
async function clear(ctx: Ctx, state: State, ending: EndingRecord): Promise<void> {
  const entry = await state.get(ctx, keys.ending);
  if (entry === null || records.ending.decode(entry.key, entry.value).id !== ending.id) return;
  const { entries } = await state.range(ctx, keys.allEnded);
  const then = [entry, ...entries].map(({ key }): Operation => ({ delete: key }));
  const same = { key: entry.key, modRevision: entry.modRevision };
  const { ok } = await state.transact(ctx, { if: [same], then });
  if (ok) ctx.log.info({ cluster: ending.cluster }, 'the cluster that was taken down is here again');
}

const marker = z.looseObject({ ending: z.string() });

/** The ending that this host has carried out last. */
async function readEnded({ paths }: Pick<EndingDeps, 'paths'>): Promise<string | null> {
  try {
    return marker.parse(JSON.parse(await readFile(paths.view(paths.ended), 'utf8'))).ending;
  } catch (reason) {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AppError('internal', `${paths.ended} is damaged: remove it`, { cause: reason });
  }
}

async function forgetEnded({ paths }: EndingDeps): Promise<false> {
  await rm(paths.view(paths.ended), { force: true });
  return false;
}
