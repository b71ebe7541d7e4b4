/**
 * A data-plane container and its spec: written, started, waited for and taken away the same way for each role.
 *
 * INVARIANTS
 * - The spec and its secrets are on disk before the container starts, so the engine can restart it after a
 *   crash or a reboot without us.
 * - A role that already answers at the wanted generation costs one question on its socket: no engine call. So a
 *   mount during the engine's start, when its API does not answer, works.
 * - `generation` is a hash of all else in the spec: who applied it applied exactly this.
 * - A role of an older image reads specs of this version, for as long as it is in use after an upgrade: a key never
 *   changes its meaning, and what is new gets a new key, which old roles skip.
 */
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import { type ContainerSpec, type Engine, type Ensured, NAME_LABEL } from '../docker/engine.js';
import { AppError } from '../errors.js';
import { failPoint } from '../lib/fail-points.js';
import { sleep } from '../lib/sleep.js';
import type { HostPaths } from './host-paths.js';
import { askRole, NO_ANSWER, type RoleStatus } from './role-client.js';
import { generationOf, readSpec, type RoleSpec, writeSpec } from './role-spec.js';

export interface RoleContainer {
  readonly container: Omit<ContainerSpec, 'binds'> & { readonly binds?: ContainerSpec['binds'] };
  readonly spec: RoleSpec;
}

export interface RoleObservation {
  /** Its directory exists: it was started once and not taken away. */
  readonly present: boolean;
  readonly generation: string | null;
  /** What its spec says, by key; empty when there is none. */
  readonly settings: ReadonlyMap<string, string>;
  readonly status: RoleStatus | null;
}

export interface RoleContainers {
  observe(ctx: Ctx, name: string): Promise<RoleObservation>;
  /** Resolves when the role is ready at this spec. @throws with the role's own words, or `deadline_exceeded`. */
  ensure(ctx: Ctx, wanted: RoleContainer): Promise<RoleStatus>;
  /** Makes its container anew, from the image that is wanted: for one that nobody uses now. */
  renew(ctx: Ctx, wanted: RoleContainer): Promise<RoleStatus>;
  /**
   * Stops (draining up to graceSeconds) and forgets it. `last` comes in between, while what the role has noted
   * beside its spec can still be read: a removal that is cut off there is tried again as a whole.
   */
  remove(ctx: Ctx, name: string, graceSeconds: number, last?: () => Promise<void>): Promise<void>;
  /**
   * Ends what it serves at once, by its own control socket, and forgets it. @throws `unavailable` while the engine
   * does not answer, which alone can take the container away; what it served is gone by then.
   */
  discard(ctx: Ctx, name: string, last?: () => Promise<void>): Promise<void>;
  /** A file that the role keeps beside its spec; null when there is none. */
  readNote(name: string, file: string): Promise<string | null>;
  /** Names of all that are present. */
  list(): Promise<string[]>;
  /** Whether the engine has it, in whatever state and under whatever name. @throws `unavailable` */
  hasContainer(ctx: Ctx, name: string): Promise<boolean>;
}

/** Told when a container that should have been running was brought back by us, not by the engine. */
export type OnRepair = (container: ContainerSpec, what: string) => void;

const REPAIRS = {
  created: 'container was missing: made anew',
  replaced: 'container was not running: started anew',
} as const;
const POLL_MS = 10;
/** How long a role may say "error" before the wait for it ends: it tries again by itself meanwhile. */
const ERROR_PATIENCE_MS = 1500;
const ENGINE_RETRY_MS = 100;

export function createRoleContainers(
  engine: Engine,
  paths: HostPaths,
  onRepair: OnRepair = () => undefined,
): RoleContainers {
  const directoryOf = (name: string) => paths.view(paths.container(name));
  const controlOf = (name: string) => path.join(directoryOf(name), 'ctl');

  async function ensure(
    ctx: Ctx,
    { container, spec }: RoleContainer,
    repaired = onRepair,
  ): Promise<RoleStatus> {
    const { name } = container;
    const generation = generationOf(spec);
    const { existed, rewritten } = await writeSpec(directoryOf(name), spec, generation);
    const binds = [{ source: paths.container(name), target: '/spec' }, ...(container.binds ?? [])];
    let status = await askRole(ctx, controlOf(name), 'status');
    if (status && (rewritten || status.generation !== generation))
      status = await reload(ctx, controlOf(name));
    if (!status) {
      const full = { ...container, binds };
      const done = await startContainer(ctx, engine, full, controlOf(name));
      if (existed && done !== 'running') repaired(full, REPAIRS[done]);
    }
    return waitReady(ctx, { name, generation, socketPath: controlOf(name) });
  }

  const remove: RoleContainers['remove'] = async (ctx, name, graceSeconds, last) => {
    await removeContainer(ctx, engine, name, graceSeconds);
    await last?.();
    await rm(directoryOf(name), { recursive: true, force: true });
  };

  return {
    observe: (ctx, name) => observe(ctx, directoryOf(name), controlOf(name)),
    ensure: (ctx, wanted) => ensure(ctx, wanted),
    async renew(ctx, wanted) {
      await engine.removeContainer(ctx, wanted.container.name, 0);
      return ensure(ctx, wanted, () => undefined);
    },
    remove,
    async discard(ctx, name, last) {
      await abandon(ctx, controlOf(name));
      if (await engine.answers(ctx)) return remove(ctx, name, 0, last);
      throw notRemoved(name);
    },
    readNote: (name, file) => readFile(path.join(directoryOf(name), file), 'utf8').catch(() => null),
    list: () => listNames(paths.view(paths.containers)),
    hasContainer: async (ctx, name) => (await engine.withLabel(ctx, `${NAME_LABEL}=${name}`)).length > 0,
  };
}

function notRemoved(name: string): AppError {
  const text = `${name} is of no use, and the Docker engine does not answer to remove it`;
  return new AppError('unavailable', text);
}

async function listNames(directory: string): Promise<string[]> {
  return (await exists(directory)) ? readdir(directory) : [];
}

async function removeContainer(ctx: Ctx, engine: Engine, name: string, graceSeconds: number): Promise<void> {
  await failPoint('before container remove');
  await engine.removeContainer(ctx, name, graceSeconds);
  await failPoint('after container remove');
}

/** A role of an image that does not know the word is ended by the engine alone. */
async function abandon(ctx: Ctx, socketPath: string): Promise<void> {
  await askRole(ctx, socketPath, 'abandon').catch((err: unknown) => {
    ctx.log.debug({ socketPath, err }, 'the role does not end by itself');
  });
}

async function observe(ctx: Ctx, directory: string, socketPath: string): Promise<RoleObservation> {
  const settings = await readSpec(directory);
  if (settings === null) {
    return { present: await exists(directory), generation: null, settings: new Map(), status: null };
  }
  const status = await askRole(ctx, socketPath, 'status');
  return { present: true, generation: settings.get('generation') ?? '', settings, status };
}

/** While the engine starts it does not answer, but it starts this container by itself: then its socket opens. */
async function startContainer(
  ctx: Ctx,
  engine: Engine,
  spec: ContainerSpec,
  socketPath: string,
): Promise<Ensured> {
  let ping = engine.answers(ctx);
  for (;;) {
    // The role is looked for all the while: a starting engine takes a call and lets it wait.
    const up = await Promise.race([ping, sleep(ENGINE_RETRY_MS, ctx.signal).then(() => null)]);
    if (up === true) return runContainer(ctx, engine, spec);
    if (await askRole(ctx, socketPath, 'status').catch(unlessOver(ctx))) return 'running';
    if (ctx.signal.aborted) {
      throw new AppError(
        'unavailable',
        `${spec.name} does not run, and the Docker engine does not answer to start it`,
      );
    }
    if (up === null) continue;
    await sleep(ENGINE_RETRY_MS, ctx.signal);
    ping = engine.answers(ctx);
  }
}

async function runContainer(ctx: Ctx, engine: Engine, spec: ContainerSpec): Promise<Ensured> {
  await failPoint('before container run');
  const done = await engine.ensureContainer(ctx, spec);
  await failPoint('after container run');
  return done;
}

async function reload(ctx: Ctx, socketPath: string): Promise<RoleStatus | null> {
  await failPoint('before container reload');
  const status = await askRole(ctx, socketPath, 'reload');
  await failPoint('after container reload');
  return status;
}

async function waitReady(
  ctx: Ctx,
  { name, generation, socketPath }: { name: string; generation: string; socketPath: string },
): Promise<RoleStatus> {
  let last: RoleStatus | null = null;
  let patienceEnds = Infinity;
  while (!ctx.signal.aborted && performance.now() < patienceEnds) {
    last = (await askRole(ctx, socketPath, 'status').catch(unlessOver(ctx))) ?? last;
    if (last && isReadyAt(last, generation)) return last;
    if (last?.state === 'error' && patienceEnds === Infinity)
      patienceEnds = performance.now() + ERROR_PATIENCE_MS;
    await sleep(POLL_MS, ctx.signal);
  }
  throw new AppError(
    ctx.signal.aborted ? 'deadline_exceeded' : 'unavailable',
    `${name} ${whyNotReady(last)}`,
  );
}

/** At the end of the time what the role said last tells more than that we stopped asking. */
function unlessOver({ signal }: Ctx): (reason: unknown) => null {
  return (reason) => {
    if (signal.aborted) return null;
    throw AppError.from(reason);
  };
}

function isReadyAt(status: RoleStatus, generation: string): boolean {
  return status.state === 'ready' && status.generation === generation;
}

function whyNotReady(last: RoleStatus | null): string {
  if (last === null) return NO_ANSWER;
  return `is not ready: ${last.error || `it is ${last.state}`}`;
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}
