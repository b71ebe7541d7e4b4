import { createReadStream } from 'node:fs';
import Docker from 'dockerode';
import type { Ctx } from '../context.js';
import { failPoint } from '../lib/fail-points.js';
import { AppError } from '../errors.js';
import { type EngineInfo, pings, readInfo } from './about-engine.js';
import { call, CALL_TIMEOUT_MS, orAbsent, statusOf } from './engine-call.js';
import { Creations, type CreateOptions } from './creations.js';
import { findsDirectory } from './finds-directory.js';
import { removeFully } from './removal.js';
import { containersWith, removeEnded, type Started, startUnmounted, volumeUsers } from './containers.js';

/** What the product needs of the Docker engine; the only importer of dockerode. */
export interface Engine {
  /** Whether the API is served now. While the engine starts or stops its socket is gone, or takes no answer. */
  answers(ctx: Ctx): Promise<boolean>;
  /** @throws `unavailable` while the API is not served. */
  info(ctx: Ctx): Promise<EngineInfo>;
  hasImage(ctx: Ctx, reference: string): Promise<boolean>;
  /** Imports a root file system (tar, may be gzipped) as an image; needs no registry. */
  importImage(ctx: Ctx, image: ImageToImport): Promise<void>;
  /** Removes the tags of this repository that no container uses, all but the one to keep. */
  removeOldTags(ctx: Ctx, repository: string, keep: string): Promise<void>;
  /** Makes a container of this name run with this configuration, whatever is there now. Idempotent. */
  ensureContainer(ctx: Ctx, spec: ContainerSpec): Promise<Ensured>;
  /** Stops it with SIGTERM, waits up to graceSeconds, then removes it, also when it was renamed. Absent is success. */
  removeContainer(ctx: Ctx, name: string, graceSeconds: number): Promise<void>;
  /**
   * Names of the containers that have this volume mounted now: running or paused. One that waits to be restarted has
   * given it back.
   */
  volumeUsers(ctx: Ctx, volume: string): Promise<string[]>;
  /**
   * Starts the containers of these volumes that have a restart policy and could not be started last because a volume
   * could not be found or mounted, or because the engine was killed over it. An engine that comes up tries each once,
   * and never again.
   */
  startUnmounted(ctx: Ctx, volumes: ReadonlySet<string>): Promise<Started>;
  /** Names of the containers with this label, running or not. */
  withLabel(ctx: Ctx, label: string): Promise<string[]>;
  /**
   * Removes the containers with this label that do not run and of whose name `isLeft` says so; answers their names. One
   * that was started meanwhile stays.
   */
  removeEnded(ctx: Ctx, label: string, isLeft: (name: string) => Promise<boolean>): Promise<string[]>;
  /** Whether the engine finds this directory in its own tree of mounts; changes nothing. */
  findsDirectory(ctx: Ctx, directory: string): Promise<boolean>;
}

/** running: nothing to do. created: there was none. replaced: there was one that did not run. */
export type Ensured = 'running' | 'created' | 'replaced';

export interface ImageToImport {
  readonly path: string;
  readonly reference: string;
  /** Dockerfile instructions, e.g. `ENTRYPOINT [...]`. */
  readonly changes: readonly string[];
}

export interface Bind {
  readonly source: string;
  readonly target: string;
}

export interface ContainerSpec {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Sources must exist: nothing is made by mistake. */
  readonly binds: readonly Bind[];
  readonly capabilities: readonly string[];
  readonly devices: readonly string[];
  readonly deviceRules: readonly string[];
  readonly securityOptions: readonly string[];
  /** What the engine waits for the container at its own shutdown and at `docker stop`. */
  readonly stopTimeoutSeconds: number;
}

/** The name we gave it, which stays when somebody renames it. */
export const NAME_LABEL = 'openebs.container';

const PING_TIMEOUT_MS = 1000;
/** Long enough for a mount or two. */
const START_TIMEOUT_MS = 120_000;
const IMPORT_TIMEOUT_MS = 180_000;

export function createEngine(socketPath: string): Engine {
  const docker = new Docker({ socketPath });
  const parts = { docker, creations: new Creations(docker) };
  return {
    answers: (ctx) =>
      call(ctx, 'ping the engine', (signal) => pings(docker, signal), PING_TIMEOUT_MS).catch(() => false),
    info: (ctx) => call(ctx, 'ask the engine about itself', (abortSignal) => readInfo(docker, abortSignal)),
    hasImage: (ctx, reference) =>
      call(ctx, `look for image ${reference}`, async (abortSignal) => {
        const found = await docker.listImages({ filters: { reference: [reference] }, abortSignal });
        return found.length > 0;
      }),
    importImage: (ctx, image) =>
      call(
        ctx,
        `import image ${image.reference}`,
        (signal) => importImage(docker, image, signal),
        IMPORT_TIMEOUT_MS,
      ),
    removeOldTags: (ctx, repository, keep) =>
      call(ctx, `remove old ${repository}`, (signal) => removeOldTags(docker, { repository, keep }, signal)),
    ensureContainer: (ctx, spec) =>
      call(ctx, `run container ${spec.name}`, (abortSignal) =>
        ensureContainer(parts, spec, abortSignal).catch((reason: unknown) => withoutImage(spec, reason)),
      ),
    removeContainer: (ctx, name, graceSeconds) =>
      call(
        ctx,
        `remove container ${name}`,
        (abortSignal) => removeContainer(parts, { name, graceSeconds, abortSignal }),
        graceSeconds * 1000 + CALL_TIMEOUT_MS,
      ),
    volumeUsers: (ctx, volume) =>
      call(ctx, `list the containers of volume ${volume}`, (signal) => volumeUsers(docker, volume, signal)),
    startUnmounted: (ctx, volumes) =>
      call(
        ctx,
        `start the containers of volumes that were missing (${[...volumes].slice(0, 3).join(', ')})`,
        (signal) => startUnmounted(docker, volumes, signal),
        START_TIMEOUT_MS,
      ),
    withLabel: (ctx, label) =>
      call(ctx, `list containers with label ${label}`, (signal) => containersWith(docker, label, signal)),
    removeEnded: (ctx, label, isLeft) =>
      call(ctx, `remove left ${label}`, (signal) => removeEnded(docker, { label, isLeft }, signal)),
    findsDirectory: (ctx, dir) =>
      call(ctx, `look for ${dir}`, (signal) => findsDirectory(docker, dir, signal)),
  };
}

/** The one absence that means something to a caller: who has the image imports it, and tries again. */
function withoutImage(spec: ContainerSpec, reason: unknown): never {
  if (statusOf(reason) !== 404) throw reason;
  const text = `cannot run container ${spec.name}: its image ${spec.image} is missing`;
  throw new AppError('not_found', text, { cause: reason });
}

async function importImage(docker: Docker, image: ImageToImport, abortSignal: AbortSignal): Promise<void> {
  const [repo, tag] = splitReference(image.reference);
  const output = await docker.importImage(createReadStream(image.path), {
    repo,
    tag,
    changes: [...image.changes],
    abortSignal,
  });
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(output, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

async function removeOldTags(
  docker: Docker,
  { repository, keep }: { repository: string; keep: string },
  abortSignal: AbortSignal,
): Promise<void> {
  const images = await docker.listImages({ filters: { reference: [`${repository}:*`] }, abortSignal });
  const tags = images.flatMap((image) => image.RepoTags ?? []);
  for (const tag of tags.filter((name) => name.startsWith(`${repository}:`) && name !== keep)) {
    await docker
      .getImage(tag)
      .remove({ abortSignal })
      .catch((reason: unknown) => {
        // Its containers still run, or it is gone already.
        if (statusOf(reason) !== 409 && statusOf(reason) !== 404) throw reason;
      });
  }
}

function splitReference(reference: string): [string, string] {
  const colon = reference.lastIndexOf(':');
  return [reference.slice(0, colon), reference.slice(colon + 1)];
}

interface Parts {
  readonly docker: Docker;
  readonly creations: Creations;
}

async function ensureContainer(
  { docker, creations }: Parts,
  spec: ContainerSpec,
  abortSignal: AbortSignal,
): Promise<Ensured> {
  const container = docker.getContainer(spec.name);
  const options = containerOptions(spec);
  const made = await creations.create(options, abortSignal);
  if (!made) {
    const now = await container.inspect({ abortSignal });
    if (now.State.Running && !now.State.Restarting && (await lives(container, abortSignal))) return 'running';
    // Not running: its configuration may be of an older plugin, so it is made anew.
    await removeFully(container, abortSignal);
    await creations.create(options, abortSignal);
  }
  await failPoint('after container create');
  await container.start({ abortSignal });
  return made ? 'created' : 'replaced';
}

/** Of the container, not of the program `ps`, with which the engine looks and which a slim host lacks. */
const HAS_ENDED = /container (?:\S+ )?is not running|no such process|(?:task|process) \S+:? not found/i;

/**
 * Whether it has processes. An engine whose containerd died together with a container has missed the end, and shows it
 * as running for ever; asked for its processes it knows better.
 */
async function lives(container: Docker.Container, abortSignal: AbortSignal): Promise<boolean> {
  try {
    await container.top({ abortSignal });
    return true;
  } catch (reason) {
    return !HAS_ENDED.test(String(reason));
  }
}

function containerOptions(spec: ContainerSpec): CreateOptions {
  return {
    name: spec.name,
    Image: spec.image,
    Cmd: [...spec.command],
    // A role says which image it is of: after an upgrade of the plugin that tells the old ones from the new.
    Env: [`OPENEBS_IMAGE=${spec.image}`],
    Labels: { ...spec.labels, [NAME_LABEL]: spec.name },
    StopTimeout: spec.stopTimeoutSeconds,
    HostConfig: {
      // The data plane comes back by itself after a crash or a reboot, before anybody can call the API.
      RestartPolicy: { Name: 'always' },
      NetworkMode: 'host',
      // On an engine with userns-remap a remapped root could neither mount nor read the pool.
      UsernsMode: 'host',
      // Nothing is kept in a container's own layer; sockets and the export of an initiator are below /run.
      ReadonlyRootfs: true,
      Tmpfs: { '/run': 'rw,nosuid,nodev,noexec,mode=700,size=4m' },
      // The memory of a role holds secrets.
      Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }],
      // Far above what a role has. There is no limit of memory: an initiator that is killed for it is lost data.
      PidsLimit: 1024,
      CapDrop: ['ALL'],
      CapAdd: [...spec.capabilities],
      Devices: spec.devices.map((path) => ({
        PathOnHost: path,
        PathInContainer: path,
        CgroupPermissions: 'rwm',
      })),
      DeviceCgroupRules: [...spec.deviceRules],
      SecurityOpt: [...spec.securityOptions],
      Mounts: spec.binds.map((bind) => ({
        Type: 'bind',
        Source: bind.source,
        Target: bind.target,
        ReadOnly: false,
      })),
      LogConfig: { Type: 'json-file', Config: { 'max-size': '1m', 'max-file': '2' } },
    },
  };
}

async function removeContainer(
  { docker, creations }: Parts,
  { name, graceSeconds, abortSignal }: { name: string; graceSeconds: number; abortSignal: AbortSignal },
): Promise<void> {
  await creations.settled(name, abortSignal);
  const filters = { label: [`${NAME_LABEL}=${name}`] };
  const renamed = await docker.listContainers({ all: true, filters, abortSignal });
  for (const key of new Set([name, ...renamed.map(({ Id }) => Id)])) {
    const container = docker.getContainer(key);
    await orAbsent(async () => {
      if (graceSeconds > 0) {
        await container.stop({ t: graceSeconds, abortSignal }).catch((reason: unknown) => {
          if (statusOf(reason) !== 304) throw reason;
        });
      }
      await removeFully(container, abortSignal);
    }, undefined);
  }
}
