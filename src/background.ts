/** What goes on behind the driver: healing, and the records of what is observed. Nothing here holds up a call. */
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import { withDeadline } from './context.js';
import type { DataPlaneImage } from './dataplane/data-plane-image.js';
import type { HostPaths } from './dataplane/host-paths.js';
import type { Engine } from './docker/engine.js';
import { AppError } from './errors.js';
import { sleep } from './lib/sleep.js';
import { untilDone } from './lib/until-done.js';
import type { NodeIdentity } from './node-identity.js';
import { recordCluster, startObserver } from './observer.js';
import type { SharedState } from './shared-state.js';
import type { Replica } from './state/replica.js';
import type { LocalVolumeService } from './volumes/service.js';

export interface BackgroundDeps {
  readonly config: Config;
  readonly engine: Engine;
  readonly image: DataPlaneImage;
  readonly identity: NodeIdentity;
  readonly shared: SharedState;
  readonly replica: Replica;
  readonly volumes: LocalVolumeService;
  readonly paths: HostPaths;
  /** Of the plugin: holds its package.json. */
  readonly appDirectory: string;
}

export interface Background {
  health(): unknown;
  close(): Promise<void>;
}

const RECONCILE_MS = 15_000;
const YIELD_MS = 2000;
const HEAL_TIMEOUT_MS = 60_000;
/**
 * After the engine's start its containers with a restart policy mount their volumes one after the other, before
 * and while its API comes up. An attachment that nobody counts on is given back only after that.
 */
const SETTLE_MS = 20_000;

export function startBackground(ctx: Ctx, deps: BackgroundDeps): Background {
  const { shared, replica, identity } = deps;
  const problems = new Map<string, string>();

  async function attempt(what: string, operation: (limited: Ctx) => Promise<void>): Promise<void> {
    try {
      await operation(withDeadline(ctx, HEAL_TIMEOUT_MS));
      problems.delete(what);
    } catch (reason) {
      const text = AppError.from(reason).message;
      if (problems.get(what) !== text && !ctx.signal.aborted)
        ctx.log.warn({ err: reason, what }, 'not healthy');
      problems.set(what, text);
    }
  }

  async function heal(): Promise<void> {
    await attempt('image', (limited) => deps.image.ensure(limited));
    await attempt('etcd', (limited) => deps.shared.ensureEtcd(limited));
    await attempt('volumes', () => deps.volumes.reconcile(ctx));
  }

  // It ends by the abort only; what the first steps throw then is nobody's failure.
  const loop = run(ctx, deps, heal).catch((err: unknown) => {
    if (!ctx.signal.aborted) ctx.log.error({ err }, 'healing has ended');
  });
  const observer = startObserver(ctx, { ...deps, state: shared.state });
  const yielding = setInterval(() => void deps.volumes.yieldDevices(ctx), YIELD_MS).unref();
  return {
    health: () => ({
      node: identity.node,
      cluster: identity.cluster,
      healthy: problems.size === 0,
      problems: Object.fromEntries(problems),
      recordsComplete: replica.complete,
      observed: observer.stats(),
    }),
    async close() {
      clearInterval(yielding);
      await observer.close();
      await loop;
      await replica.close();
      await shared.state.close();
    },
  };
}

async function run(ctx: Ctx, deps: BackgroundDeps, heal: () => Promise<void>): Promise<void> {
  await untilDone(ctx, 'import the image', () => deps.image.ensure(ctx));
  await untilDone(ctx, 'start etcd', () => deps.shared.ensureEtcd(withDeadline(ctx, HEAL_TIMEOUT_MS)));
  await untilDone(ctx, 'record the cluster', () => recordCluster(ctx, deps.shared.state, deps.identity));
  await sleep(SETTLE_MS, ctx.signal);
  deps.volumes.follow(ctx);
  while (!ctx.signal.aborted) {
    await heal();
    await sleep(RECONCILE_MS, ctx.signal);
  }
}
