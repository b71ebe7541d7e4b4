/**
 * What a lab host's engine begins with. `docker import` and, far more, `docker plugin create` (it compresses the
 * whole rootfs) take long, so each is done once, on a host of its own, and what it left in /var/lib/docker is kept
 * in build/cache under a hash of its inputs. A host then starts from a copy. The plugin gets there the way users
 * get it: created, pushed to a registry, installed from it under the alias `openebs`.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { exec, execOk, waitFor } from './exec.js';
import type { LabHost, LabProcess } from './lab.js';
import { createImages, imageInputs } from './lab-images.js';
import { runIsAlive, runStamp } from './lab-leftovers.js';

export const repository = resolve(import.meta.dirname, '../..');
const cache = join(repository, 'build/cache');
/** What is tested: another built plugin can be named, to compare two. */
export const pluginFolder = process.env['PLUGIN_FOLDER'] ?? join(repository, 'build/plugin');

/** Packages of another engine than the machine's, unpacked: see lab.ts. What it keeps on disk is its own too. */
export const engineFolder = process.env['LAB_ENGINE'];
const kindPrefix = engineFolder === undefined ? '' : `${basename(engineFolder)}-`;

export interface SeedOptions {
  readonly images: boolean;
  readonly plugin: boolean;
  /** A host with an empty engine. */
  startBare(name: string): Promise<LabHost>;
}

export function hashOf(...inputs: readonly string[]): string {
  const hash = createHash('sha256');
  for (const input of inputs) hash.update(input).update('\0');
  return hash.digest('hex').slice(0, 16);
}

/** Changes whenever the built plugin does: its config, and name, size, time, mode of each file. */
export async function pluginHash(): Promise<string> {
  const config = join(pluginFolder, 'config.json');
  if (!existsSync(config))
    throw new Error(`there is no plugin in ${pluginFolder}: run \`make plugin\` first`);
  const listing = await execOk('find', [join(pluginFolder, 'rootfs'), '-printf', '%P %s %T@ %m %l\n']);
  return hashOf(readFileSync(config, 'utf8'), listing.split('\n').sort().join('\n'));
}

/**
 * The folder of that name in the cache, made by `make` when missing; others of its kind are dropped then. Of test
 * files that run side by side one makes it.
 */
export async function cached(
  kind: string,
  hash: string,
  make: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(cache, `${kind}-${hash}`);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const lock = join(cache, `${kind}.lock`);
  await waitFor(`no other run makes ${folder}`, () => tookLock(lock), { timeoutMs: 300_000 });
  try {
    return existsSync(folder) ? folder : await makeCached({ folder, kind, make });
  } finally {
    rmSync(lock);
  }
}

/** A lock whose owner has died is nobody's. */
function tookLock(lock: string): boolean {
  // It appears with its stamp: one that is still empty would be taken for that of a dead owner.
  const own = `${lock}.${String(process.pid)}`;
  writeFileSync(own, runStamp());
  try {
    linkSync(own, lock);
    return true;
  } catch {
    if (existsSync(lock) && !runIsAlive(readFileSync(lock, 'utf8'))) rmSync(lock, { force: true });
    return false;
  } finally {
    rmSync(own);
  }
}

async function makeCached({
  folder,
  kind,
  make,
}: {
  folder: string;
  kind: string;
  make: (folder: string) => Promise<void>;
}): Promise<string> {
  const unfinished = `${folder}.${String(process.pid)}`;
  try {
    await make(unfinished);
    const old = readdirSync(cache).filter(
      (name) => name.startsWith(`${kind}-`) && name !== basename(unfinished),
    );
    for (const name of old) rmSync(join(cache, name), { recursive: true, force: true });
    renameSync(unfinished, folder);
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return folder;
}

export async function copyTree(from: string, to: string): Promise<void> {
  mkdirSync(dirname(to), { recursive: true });
  await execOk('cp', ['-a', '--reflink=auto', '-T', from, to], { timeoutMs: 300_000 });
}

export const registryPort = 5000;
export const registryName = `127.0.0.1:${String(registryPort)}/openebs:test`;

/** Debian's docker-registry on the host's loopback, which engines trust without TLS. Its storage may be shared. */
export async function startRegistry(host: LabHost, storage: string): Promise<LabProcess> {
  const config = join(host.dir, 'registry.json');
  const settings = {
    version: 0.1,
    log: { level: 'warn' },
    storage: { filesystem: { rootdirectory: storage } },
    http: { addr: `127.0.0.1:${String(registryPort)}` },
  };
  writeFileSync(config, JSON.stringify(settings)); // JSON is YAML
  const registry = host.spawn('docker-registry', ['serve', config]);
  await waitFor(`the registry listens on port ${String(registryPort)}`, async () => {
    const listening = await host.shellOk('cat /proc/net/tcp');
    if (listening.includes(`:${registryPort.toString(16).toUpperCase()} 00000000:0000 0A`)) return true;
    throw new Error(registry.output());
  });
  return registry;
}

export async function installFromRegistry(host: LabHost, ...settings: string[]): Promise<void> {
  const how = ['--alias', 'openebs', '--grant-all-permissions', '--disable'];
  await host.ok('plugin', 'install', ...how, registryName, ...settings);
}

/** Images of test containers, as the engine keeps them. */
async function makeImages(folder: string, options: SeedOptions): Promise<void> {
  const host = await options.startBare('seed');
  try {
    await createImages(host);
    await host.stopEngine();
    await copyTree(join(host.lib, 'docker'), folder);
    rmSync(join(folder, 'engine-id'), { force: true }); // each host is an engine of its own
  } finally {
    await host.close();
  }
}

/** A registry that holds the built plugin, and what an engine keeps after installing it from there. */
async function makePlugin(folder: string, options: SeedOptions): Promise<void> {
  const host = await options.startBare('seed');
  try {
    await startRegistry(host, join(folder, 'registry'));
    await host.ok('plugin', 'create', registryName, pluginFolder);
    await host.ok('plugin', 'push', registryName);
    await host.ok('plugin', 'rm', registryName);
    await installFromRegistry(host);
    await host.stopEngine();
    await copyTree(join(host.lib, 'docker/plugins'), join(folder, 'plugins'));
  } finally {
    await host.close();
  }
}

async function pluginSeed(options: Pick<SeedOptions, 'startBare'>): Promise<string> {
  const hash = hashOf(await engineVersion(), await pluginHash());
  return cached(`${kindPrefix}lab-plugin`, hash, (folder) =>
    makePlugin(folder, { ...options, images: false, plugin: false }),
  );
}

/** Storage of a registry that holds the built plugin as `registryName`. */
export async function registryStorage(startBare: SeedOptions['startBare']): Promise<string> {
  return join(await pluginSeed({ startBare }), 'registry');
}

async function engineVersion(): Promise<string> {
  return engineFolder ?? (await exec('dockerd', ['--version'])).stdout;
}

export async function seedEngineData(target: string, options: SeedOptions): Promise<void> {
  if (options.images) {
    const hash = hashOf(await engineVersion(), await imageInputs());
    await copyTree(
      await cached(`${kindPrefix}lab-images`, hash, (folder) => makeImages(folder, options)),
      target,
    );
  }
  if (options.plugin) {
    const plugins = join(target, 'plugins');
    await copyTree(join(await pluginSeed(options), 'plugins'), plugins);
    nameAnew(plugins);
  }
}

/**
 * An engine names a plugin's cgroup by the plugin's id alone, and cgroups are the kernel's: hosts that had installed
 * the same seed would share one, and newer engines could not end the plugin of one while another runs.
 */
function nameAnew(plugins: string): void {
  for (const id of readdirSync(plugins).filter((name) => /^[0-9a-f]{64}$/.test(name))) {
    const other = randomBytes(32).toString('hex');
    const config = join(plugins, id, 'config.json');
    writeFileSync(config, readFileSync(config, 'utf8').replaceAll(id, other));
    renameSync(join(plugins, id), join(plugins, other));
  }
}
