/**
 * The composition root: the only file that makes adapters, and the order of the start.
 *
 * 1. The driver socket listens already (main.ts): the engine disables a plugin that is late.
 * 2. What the disk knows: mount counts, identity, certificates, the cache of records. From here on volumes that
 *    were attached before mount again without anybody's help.
 * 3. Everything that needs Docker or etcd, in the background, tried for ever: the image, the etcd of our own, the
 *    watch of the records, the records of this node, the journal of events, the timer.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createClusterView } from './admin/cluster-view.js';
import type { AdminServer } from './admin/server.js';
import { startBackground, type Background } from './background.js';
import { refuseBlankState } from './blank-state.js';
import { changeCluster, inCluster, keepCompany, type KeptCompany, recoverCluster } from './company.js';
import type { Config } from './config.js';
import type { Ctx } from './context.js';
import { loadDataPlaneImage, withImage, type DataPlaneImage } from './dataplane/data-plane-image.js';
import { activityOf } from './dataplane/device-activity.js';
import { makeDirectories } from './dataplane/directories.js';
import { createFileSystems } from './dataplane/file-system.js';
import { createHostPaths, type HostPaths } from './dataplane/host-paths.js';
import { createUserspaceInitiator } from './dataplane/initiator.js';
import { createRoleContainers, type RoleContainers } from './dataplane/role-container.js';
import { createSeenMounts } from './dataplane/seen-mounts.js';
import { createTargets } from './dataplane/target.js';
import { withVersionCheck } from './docker/engine-version.js';
import { createEngine, type Engine } from './docker/engine.js';
import { AppError } from './errors.js';
import type { Log } from './log.js';
import { loadNodeIdentity, type LoadedIdentity } from './node-identity.js';
import { idleBackground, settleRename } from './renamed-node.js';
import { openAdmin } from './open-admin.js';
import { openRecords } from './open-records.js';
import { readPluginVersion } from './plugin-version.js';
import { connectState, type SharedState } from './shared-state.js';
import type { Replica } from './state/replica.js';
import type { State } from './state/state.js';
import { untilDone } from './lib/until-done.js';
import { Converger } from './volumes/converge.js';
import { Liveness } from './volumes/liveness.js';
import { loadMountCounts } from './volumes/mount-counts.js';
import { LocalVolumeService } from './volumes/service.js';
import type { StartingService } from './volumes/starting-service.js';
import { RenamedService } from './volumes/renamed-service.js';
import { createRepairLog, type RepairLog } from './volumes/repair-log.js';
import { findStrays } from './volumes/strays.js';
import { Upkeep, type UpkeepDeps } from './volumes/upkeep.js';
import { VolumeRecords } from './volumes/volume-records.js';
import { VolumeWork } from './volumes/volume-work.js';

export interface Surroundings {
  readonly log: Log;
  /** Where the host's directories are seen. */
  readonly hostRoot: string;
  /** Where file systems are mounted: propagatedMount. */
  readonly mountRoot: string;
  /** Holds image.json, image.tar.gz and package.json. */
  readonly appDirectory: string;
  /** Ends this process in good order; the engine starts the next. */
  readonly restart: (why: string) => void;
}

export interface App {
  close(): Promise<void>;
}

/** Goes on starting behind the service that stands in for it, and tries again for ever. */
export function startApp(config: Config, service: StartingService, around: Surroundings): App {
  const stopping = new AbortController();
  const ctx: Ctx = { log: around.log, signal: stopping.signal, requestId: 'start' };
  let running: { background: Background; admin: AdminServer } | null = null;
  void untilDone(ctx, 'start', async () => {
    running = await start(ctx, config, around, service);
  }).catch(() => undefined);
  return {
    async close() {
      stopping.abort();
      await running?.admin.close();
      await running?.background.close();
    },
  };
}

async function start(ctx: Ctx, config: Config, around: Surroundings, service: StartingService) {
  const paths = createHostPaths(around.hostRoot, around.mountRoot);
  await makeDirectories(ctx, paths).catch((reason: unknown) => {
    service.waitsFor(`its directories: ${AppError.from(reason).message}`);
    throw reason;
  });
  const plainEngine = withVersionCheck(createEngine(paths.view(config.dockerSocket)));
  const image = await loadDataPlaneImage(plainEngine, around.appDirectory);
  const engine = withImage(plainEngine, image);
  service.waitsFor(`the Docker engine at ${config.dockerSocket} to answer`);
  await refuseBlankState(ctx, paths, engine).catch((reason: unknown) => {
    service.waitsFor(`its state: ${AppError.from(reason).message}`);
    throw reason;
  });
  const repairs = createRepairLog(ctx.log);
  const roles = createRoleContainers(engine, paths, ({ name, labels }, what) => {
    repairs.note(name, labels['openebs.volume'] ?? '', what);
  });
  await changeCluster(ctx, { config, paths, roles }).catch((reason: unknown) => {
    service.waitsFor(`its change to another cluster: ${AppError.from(reason).message}`);
    throw reason;
  });
  const identity = await loadNodeIdentity(paths.view(paths.identity), config.nodeId, () =>
    untilDone(ctx, 'ask the engine for its ID', async () => (await engine.info(ctx)).id),
  );
  const dataPlane = { roles, paths, cluster: identity.cluster };
  service.waitsFor('its certificates and settings');
  const shared = await connectState(ctx, config, { ...dataPlane, image: image.reference });
  await recoverCluster(ctx, { paths, image, shared }).catch(async (reason: unknown) => {
    service.waitsFor(`its recovery: ${AppError.from(reason).message}`);
    await shared.state.close();
    throw reason;
  });
  const parts = {
    ...dataPlane,
    config: inCluster(config, shared),
    engine,
    image,
    identity,
    shared,
    repairs,
    node: identity.node,
    service,
  };
  return startVolumes(ctx, parts, around).catch(async (reason: unknown) => {
    // The next try makes its own.
    await shared.state.close();
    throw reason;
  });
}

interface StartParts {
  readonly config: Config;
  readonly roles: RoleContainers;
  readonly paths: HostPaths;
  readonly cluster: string;
  readonly node: string;
  readonly engine: Engine;
  readonly repairs: RepairLog;
  readonly image: DataPlaneImage;
  readonly identity: LoadedIdentity;
  readonly shared: SharedState;
  readonly service: StartingService;
}

async function startVolumes(ctx: Ctx, parts: StartParts, around: Surroundings) {
  const { identity, paths, roles } = parts;
  const { state, replica } = await openRecords(ctx, parts);
  const records = new VolumeRecords(state, replica);
  const liveness = new Liveness(state);
  const close = async () => {
    liveness.close();
    await replica.close();
  };
  const known = { ...parts, state, replica, liveness, records };
  try {
    const refusal = await settleRename({ identity, file: paths.view(paths.identity), records, roles });
    return refusal
      ? await startRenamed(ctx, known, { ...around, refusal })
      : await startServing(ctx, known, around);
  } catch (reason) {
    await close();
    throw reason;
  }
}

interface KnownParts extends StartParts {
  readonly state: State;
  readonly replica: Replica;
  readonly liveness: Liveness;
  readonly records: VolumeRecords;
}

/** Nothing is healed or told under a name that is not this host's. */
async function startRenamed(
  ctx: Ctx,
  parts: KnownParts,
  { appDirectory, refusal }: Surroundings & { readonly refusal: AppError },
) {
  const { identity, liveness, replica, service, shared, state } = parts;
  const { service: volumes } = await buildVolumes(ctx, parts);
  ctx.log.error({ err: refusal }, 'NODE_ID was changed below existing volumes');
  service.ready(new RenamedService(volumes, refusal));
  const background = idleBackground(identity, refusal, async () => {
    liveness.close();
    await replica.close();
    await state.close();
  });
  const view = createClusterView({ ...parts, ...identity, etcd: shared.which, formation: null });
  const version = await readPluginVersion(appDirectory);
  return {
    background,
    admin: openAdmin(ctx, { ...parts, background, volumes, view, version, duties: null }),
  };
}

async function startServing(ctx: Ctx, parts: KnownParts, { appDirectory, restart }: Surroundings) {
  const { identity, paths, records, roles, service, shared, state } = parts;
  const version = await readPluginVersion(appDirectory);
  const kept: { company?: KeptCompany } = {};
  const whether = { isEnding: () => kept.company?.isEnding() ?? false };
  const { service: volumes, upkeep } = await buildVolumes(ctx, { ...parts, ...whether });
  service.ready(volumes);
  const company = (kept.company = keepCompany(ctx, { ...parts, restart }));
  const view = createClusterView({ ...parts, ...identity, etcd: shared.which, formation: company.view });
  const background = startBackground(ctx, {
    ...parts,
    shared: { ...shared, state },
    upkeep,
    findStrays: () => findStrays({ paths, roles, known: (id) => records.speaksOf(id) }),
    seenMounts: createSeenMounts({ ...parts, fileSystems: createFileSystems(), restart }),
    company,
    version,
  });
  ctx.log.info({ node: identity.node, cluster: identity.cluster }, 'started');
  const admin = openAdmin(ctx, { ...parts, background, volumes, view, version, duties: company.duties });
  return { background, admin };
}

interface Volumes {
  readonly service: LocalVolumeService;
  readonly upkeep: Upkeep;
}

async function buildVolumes(ctx: Ctx, known: KnownParts & Pick<UpkeepDeps, 'isEnding'>): Promise<Volumes> {
  const { config, replica } = known;
  const parts = { ...known, image: known.image.reference, recordsAreCurrent: () => replica.current };
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const countsFile = parts.paths.view(path.join(parts.paths.run, 'mounts.json'));
  const options = { ...parts, drainSeconds: config.drainTimeoutMs / 1000 };
  const deps = {
    ...parts,
    counts: await loadMountCounts(countsFile, bootId, ctx.log),
    targets: createTargets(options),
    initiator: createUserspaceInitiator(options),
    fileSystems: createFileSystems(),
    ports: config.targetPorts,
    defaults: config.defaults,
    targetAddress: config.targetAddress,
    mountTimeoutMs: config.mountTimeoutMs,
    failoverAfterMs: config.failoverAfterMs,
    usersOf: (caller: Ctx, volume: string) => parts.engine.volumeUsers(caller, volume),
    startUnmounted: (caller: Ctx, volumes: ReadonlySet<string>) =>
      parts.engine.startUnmounted(caller, volumes),
    engineAnswers: (caller: Ctx) => parts.engine.answers(caller),
    activityOf,
    background: ctx,
  };
  const shared = { ...deps, converger: new Converger(deps) };
  const work = new VolumeWork(shared);
  return { service: new LocalVolumeService({ ...shared, work }), upkeep: new Upkeep({ ...shared, work }) };
}
