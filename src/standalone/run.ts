/** `run`, and `--dry-run`. */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { createEngine } from '../docker/engine.js';
import type { EventStream } from '../docker/event-stream.js';
import { createEventStream } from '../docker/events.js';
import { createEngineObjects } from '../docker/objects.js';
import { untilDone } from '../lib/until-done.js';
import { AppError } from '../errors.js';
import type { Log } from '../log.js';
import type { Backends } from '../registrator/backends/backend.js';
import { createBackends } from '../registrator/backends/by-key.js';
import { type Difference, differences } from '../registrator/claims/difference.js';
import { createClaimKeeper } from '../registrator/claims/keeper.js';
import type { Wanted } from '../registrator/claims/step.js';
import { createMetrics, type Metrics } from '../registrator/metrics.js';
import type { NodeOfSubject } from '../registrator/policies/subject.js';
import { createRegistrator, type Registrator } from '../registrator/registrator.js';
import { keys } from '../state/keys.js';
import type { State } from '../state/state.js';
import { connectConsul, connectEtcd, hostAddress } from './registration.js';
import type { StandaloneSettings } from './settings.js';

export interface Running {
  readonly registrator: Registrator;
  readonly metrics: Metrics;
  close(): Promise<void>;
}

/** Waits for the engine to say who it is, for as long as it takes. */
export async function startAlone(ctx: Ctx, settings: StandaloneSettings): Promise<Running> {
  const { log } = ctx;
  const node = await identify(ctx, settings);
  const owner = ownerOf(node, settings);
  const state = await connectEtcd(settings, log);
  const consul = await connectConsul(settings, owner, log);
  const etcd = state && createClaimKeeper({ state, owner, log, leaseMs: settings.LEASE });
  const backends = createBackends({ ...(etcd ? { etcd } : {}), ...(consul ? { consul } : {}) }, log);
  const stream = createEventStream({ socketPath: settings.DOCKER_SOCKET, log });
  const metrics = createMetrics(() => ({
    registrator: registrator.stats(),
    stream: stream.stats(),
    healthy: registrator.stats().ready,
  }));
  stream.subscribe((items) => {
    for (const item of items) metrics.event(item, Date.now());
  });
  const registrator = registratorOf(settings, { log, node, state, stream, backends, metrics });
  log.info({ node: node.id, address: node.address, owner }, 'registering what runs here');
  return {
    registrator,
    metrics,
    async close() {
      await registrator.close(settings.AT_STOP);
      stream.close();
      await state?.close();
    },
  };
}

/** What `run` would change of etcd, and what it would keep at Consul. @throws AppError when either cannot be asked. */
export async function dryRun(ctx: Ctx, settings: StandaloneSettings): Promise<DryRun> {
  const { log } = ctx;
  const node = await identify(ctx, settings);
  const { backends, wanted, keep } = recording();
  const stream = createEventStream({ socketPath: settings.DOCKER_SOCKET, log });
  const state = await connectEtcd(settings, log);
  // A run waits for etcd; who looks wants to be told that it is away.
  await state?.range(ctx, keys.policies);
  const registrator = registratorOf(settings, { log, node, state, stream, backends });
  try {
    await Promise.race([registrator.ready, outOfTime(ctx)]);
    const inEtcd = new Map([...wanted].filter(([key]) => key.startsWith('/')));
    const limited = withDeadline(ctx, DRY_RUN_MS);
    const owner = ownerOf(node, settings);
    const changes = state ? await differences(limited, state, { owner, wanted: inEtcd, keep }) : [];
    return {
      differences: changes,
      unchanged: state === null ? 0 : inEtcd.size - changes.filter(({ key }) => inEtcd.has(key)).length,
      consul: [...wanted].filter(([key]) => !key.startsWith('/')).map(([key, { value }]) => ({ key, value })),
      problems: registrator
        .stats()
        .policies.flatMap(({ name, problem }) => (problem === null ? [] : [{ name, problem }])),
    };
  } finally {
    await registrator.close('hand-over');
    stream.close();
    await state?.close();
  }
}

/** @throws AppError */
async function outOfTime({ signal }: Ctx): Promise<never> {
  await new Promise((resolve) => {
    signal.addEventListener('abort', resolve, { once: true });
  });
  throw new AppError(
    'deadline_exceeded',
    'not all that runs could be looked at in time: the engine, or etcd, does not answer; "run" logs which',
  );
}

const DRY_RUN_MS = 60_000;

export interface DryRun {
  readonly differences: readonly Difference[];
  /** Keys that are wanted, and are so already. */
  readonly unchanged: number;
  /** Services that would be kept at the agent. */
  readonly consul: readonly { readonly key: string; readonly value: string }[];
  readonly problems: readonly { readonly name: string; readonly problem: string }[];
}

function ownerOf(node: NodeOfSubject, { INSTANCE: instance }: StandaloneSettings): string {
  return `${node.id}.${instance}`;
}

async function identify(ctx: Ctx, settings: StandaloneSettings): Promise<NodeOfSubject> {
  const engine = createEngine(settings.DOCKER_SOCKET);
  const { id, hostname } = await untilDone(ctx, 'ask the engine who it is', () => engine.info(ctx));
  return {
    id: settings.NODE_ID === '' ? id : settings.NODE_ID,
    hostname,
    address: settings.ADDRESS ?? hostAddress(),
  };
}

interface Parts {
  readonly log: Log;
  readonly node: NodeOfSubject;
  readonly state: State | null;
  readonly stream: EventStream;
  readonly backends: Backends;
  readonly metrics?: Metrics;
}

function registratorOf(settings: StandaloneSettings, { metrics, ...parts }: Parts): Registrator {
  const directory = settings.POLICY_DIR;
  return createRegistrator({
    ...parts,
    objects: createEngineObjects(settings.DOCKER_SOCKET),
    policies: { defaults: settings.POLICIES, directory: { path: directory, shown: directory } },
    limits: { reconcileEveryMs: settings.RESYNC },
    ...(metrics
      ? {
          evaluated: ({ policy, kind, tookMs, failed }) => {
            metrics.evaluated(policy, kind, tookMs, failed);
          },
        }
      : {}),
  });
}

/** Keeps what is wanted to itself. */
function recording() {
  const wanted = new Map<string, Wanted>();
  let kept: (source: string) => boolean = () => false;
  const backends: Backends = {
    want(key, wish) {
      if (wish) wanted.set(key, wish);
      else wanted.delete(key);
    },
    complete(keep = kept) {
      kept = keep;
    },
    settled: () => Promise.resolve(),
    stats: () => ({}),
    close: () => Promise.resolve(),
  };
  return { backends, wanted, keep: (source: string) => kept(source) };
}
