/** What goes on behind the driver: healing, and the records of what is observed. Nothing here holds up a call. */
import type { RegistryMessage, WellBeing } from './admin/messages.js';
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import { withDeadline } from './context.js';
import type { DataPlaneImage } from './dataplane/data-plane-image.js';
import type { HostPaths } from './dataplane/host-paths.js';
import { findOlderRoles, type OlderRole } from './dataplane/older-roles.js';
import { removeLeftContainers } from './dataplane/left-containers.js';
import type { RoleContainers } from './dataplane/role-container.js';
import type { SeenMounts } from './dataplane/seen-mounts.js';
import type { Engine } from './docker/engine.js';
import { AppError } from './errors.js';
import { sleep } from './lib/sleep.js';
import type { NodeIdentity } from './node-identity.js';
import { type Observer, recordCluster, startObserver } from './observer.js';
import type { SharedState } from './shared-state.js';
import type { Replica } from './state/replica.js';
import type { Liveness } from './volumes/liveness.js';
import type { RepairLog } from './volumes/repair-log.js';
import type { Stray } from './volumes/strays.js';
import type { Upkeep } from './volumes/upkeep.js';

export interface BackgroundDeps {
  readonly config: Config;
  readonly engine: Engine;
  readonly image: DataPlaneImage;
  readonly identity: NodeIdentity;
  readonly shared: SharedState;
  readonly replica: Replica;
  readonly liveness: Liveness;
  readonly upkeep: Upkeep;
  readonly paths: HostPaths;
  readonly roles: Pick<RoleContainers, 'list' | 'observe'>;
  readonly repairs: Pick<RepairLog, 'all'>;
  readonly findStrays: () => Promise<Stray[]>;
  readonly seenMounts: SeenMounts;
  readonly company: { close(): Promise<void> };
  /** Of the plugin. */
  readonly version: string;
  readonly pace?: Pace;
}

export interface Background {
  health(): WellBeing;
  /** How the registrator is doing; null before it runs. */
  registry(): RegistryMessage | null;
  metrics(): ReturnType<Observer['metrics']>;
  close(): Promise<void>;
}

export interface Pace {
  /** From the end of one pass of healing to the next. */
  readonly healMs: number;
  readonly yieldMs: number;
  /**
   * After the engine's start its containers with a restart policy mount their volumes one after the other, before
   * and while its API comes up. An attachment that nobody counts on is given back only after that.
   */
  readonly settleMs: number;
  /**
   * From the start to the first look whether the engine sees the mounts, and from each to the next until it has told.
   * The process may end over it, which is safe once the engine has found its socket: half a second after the start, or
   * three seconds later.
   */
  readonly seenMs: number;
}

const PACE: Pace = { healMs: 15_000, yieldMs: 2000, settleMs: 20_000, seenMs: 6000 };
/** Long enough for the import of the image on a slow disk. */
const HEAL_TIMEOUT_MS = 180_000;
const FIRST_PAUSE_MS = 200;

export function startBackground(ctx: Ctx, deps: BackgroundDeps): Background {
  const { shared, replica, identity, pace = PACE } = deps;
  const health = createHealth(ctx);
  const strays = createStrayWatch(ctx, deps);
  const older = createOlderWatch(deps);
  // Loops of their own, as none waits for another: volumes are healed from the replica while etcd is away. They end by
  // the abort only; what their last steps throw then is nobody's failure.
  const loops = Promise.all([
    keepEtcd(ctx, deps, (what, operation) => health.attempt(what, operation)),
    keepVolumes(ctx, deps, async () => {
      await health.attempt('volumes', () => deps.upkeep.reconcile(ctx));
      await health.attempt('strays', () => strays.look());
      await health.attempt('leftovers', (limited) => removeLeftContainers(limited, deps.engine, deps.paths));
      await health.attempt('older', (limited) => older.look(limited));
    }),
    keepSeen(ctx, deps, (what, operation) => health.attempt(what, operation)),
  ]).catch((err: unknown) => {
    if (!ctx.signal.aborted) ctx.log.error({ err }, 'healing has ended');
  });
  const observer = startObserver(ctx, {
    ...deps,
    state: shared.state,
    isInUse: () => deps.upkeep.hasMounts(),
    isHealthy: () => health.problems.size === 0,
  });
  const yielding = setInterval(() => void deps.upkeep.yieldDevices(ctx), pace.yieldMs).unref();
  return {
    health: () => ({
      node: identity.node,
      cluster: identity.cluster,
      healthy: health.problems.size === 0,
      problems: Object.fromEntries(health.problems),
      recordsComplete: replica.complete,
      cache: replica.cache,
      repairs: deps.repairs.all(),
      strays: strays.found(),
      image: { current: deps.image.reference, older: older.found() },
      observed: observer.stats(),
    }),
    registry: () => observer.registry(),
    metrics: () => observer.metrics(),
    async close() {
      clearInterval(yielding);
      await observer.close();
      await Promise.all([loops, deps.company.close()]);
      deps.liveness.close();
      await replica.close();
      await shared.state.close();
    },
  };
}

/** Answers whether it succeeded; never throws. */
type Attempt = (what: string, operation: (limited: Ctx) => Promise<void>) => Promise<boolean>;

/** What has failed and not succeeded since; each new reason is logged once. */
function createHealth(ctx: Ctx): {
  readonly attempt: Attempt;
  readonly problems: ReadonlyMap<string, string>;
} {
  const problems = new Map<string, string>();
  return {
    problems,
    async attempt(what, operation) {
      try {
        await operation(withDeadline(ctx, HEAL_TIMEOUT_MS));
        problems.delete(what);
        return true;
      } catch (err) {
        const text = AppError.from(err).message;
        if (problems.get(what) !== text && !ctx.signal.aborted) ctx.log.warn({ err, what }, 'not healthy');
        problems.set(what, text);
        return false;
      }
    },
  };
}

function createStrayWatch(ctx: Ctx, { replica, findStrays }: BackgroundDeps) {
  let strays: readonly Stray[] = [];
  let synced = false;
  void replica.synced.then(() => {
    synced = true;
  });
  return {
    found: () => strays,
    async look(): Promise<void> {
      // What a replica from the file does not know may well be in etcd.
      if (!synced) return;
      const known = new Set(strays.map(({ what }) => what));
      strays = await findStrays();
      for (const stray of strays) {
        if (!known.has(stray.what)) ctx.log.warn({ ...stray }, 'without a record');
      }
    },
  };
}

/** What still serves from the image of another version of the plugin, as it is in use. */
function createOlderWatch({ roles, image }: BackgroundDeps) {
  let older: readonly OlderRole[] = [];
  return {
    found: () => older,
    async look(ctx: Ctx): Promise<void> {
      older = await findOlderRoles(ctx, roles, image.reference);
    },
  };
}

async function keepEtcd(ctx: Ctx, deps: BackgroundDeps, attempt: Attempt): Promise<void> {
  const { image, shared, identity, pace = PACE } = deps;
  const steps: [string, (limited: Ctx) => Promise<void>][] = [
    ['image', (limited) => image.ensure(limited)],
    ['etcd', (limited) => shared.ensureEtcd(limited)],
    ['cluster', (limited) => recordCluster(limited, shared.state, identity)],
    ['old images', (limited) => image.removeOlder(limited)],
  ];
  let pauseMs = FIRST_PAUSE_MS;
  while (!ctx.signal.aborted) {
    let well = true;
    for (const [what, step] of steps) well &&= await attempt(what, step);
    pauseMs = well ? pace.healMs : Math.min(pauseMs * 2, pace.healMs);
    await sleep(pauseMs, ctx.signal);
  }
}

async function keepSeen(ctx: Ctx, deps: BackgroundDeps, attempt: Attempt): Promise<void> {
  const { engine, seenMounts, pace = PACE } = deps;
  while (!ctx.signal.aborted && !seenMounts.settled()) {
    await sleep(pace.seenMs, ctx.signal);
    if (await engine.answers(ctx)) await attempt('mounts', (limited) => seenMounts.look(limited));
  }
}

async function keepVolumes(ctx: Ctx, deps: BackgroundDeps, heal: () => Promise<void>): Promise<void> {
  const { pace = PACE, replica, upkeep } = deps;
  let settled = false;
  upkeep.follow(ctx, () => settled);
  void replica.synced.then(() => upkeep.reconcile(ctx, 'urgent')).catch(() => undefined);
  await sleep(pace.settleMs, ctx.signal);
  settled = true;
  while (!ctx.signal.aborted) {
    await heal();
    await sleep(pace.healMs, ctx.signal);
  }
}
