/** The product as a user meets it on a lab host: the plugin, volumes, records, and what it leaves behind. */
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { request } from 'node:http';
import { basename, dirname, join } from 'node:path';
import { expect } from 'vitest';
import { parseMountInfo } from '../../src/dataplane/mount-info.js';
import { exec, failure, type Result, waitFor } from './exec.js';
import { type LabHost, type LabOptions, startLabHost } from './lab.js';
import { pluginIds } from './lab-leftovers.js';
import { installFromRegistry, registryStorage, startRegistry } from './lab-seed.js';

export interface InstallOptions {
  /** `copy`: from what an earlier installation on another host left. `registry`: by `docker plugin install`. */
  readonly from?: 'copy' | 'registry';
  readonly settings?: Readonly<Record<string, string>>;
}

/** Installs and enables the plugin. `copy` needs a host that was started with `plugin: true`. */
export async function installPlugin(host: LabHost, options: InstallOptions = {}): Promise<void> {
  const settings = Object.entries(options.settings ?? {}).map(([name, value]) => `${name}=${value}`);
  if (options.from === 'registry') {
    const storage = await registryStorage((name) => startLabHost({ name, images: false }));
    const registry = await startRegistry(host, storage);
    await installFromRegistry(host, ...settings);
    await registry.stop();
  } else if (settings.length > 0) {
    await host.ok('plugin', 'set', 'openebs', ...settings);
  }
  await host.ok('plugin', 'enable', 'openebs');
}

/** A host with test images and the plugin enabled. */
export async function startProductHost(
  options: LabOptions = {},
  settings: Readonly<Record<string, string>> = {},
): Promise<LabHost> {
  const host = await startLabHost({ ...options, plugin: true });
  try {
    await installPlugin(host, { settings });
    return host;
  } catch (reason) {
    const log = host.log().split('\n').slice(-30).join('\n');
    await host.close();
    throw new Error(`${String(reason)}\nend of the engine's log:\n${log}`);
  }
}

export interface Status {
  readonly id: string;
  readonly size: string;
  readonly sizeBytes: number;
  readonly fs: string;
  readonly state: string;
  readonly node: string;
  /** `address:port` */
  readonly target: string;
  readonly iqn: string;
  readonly attachedTo: string;
  /** Mounts that the plugin counts on this host. */
  readonly mountsHere: number;
  readonly error: string;
  /** What was brought back last; empty when nothing was. */
  readonly repaired: string;
}

export async function statusOf(host: LabHost, volume: string): Promise<Status> {
  return JSON.parse(await host.ok('volume', 'inspect', '--format', '{{json .Status}}', volume)) as Status;
}

export async function createVolume(
  host: LabHost,
  name: string,
  options: Readonly<Record<string, string>> = {},
): Promise<void> {
  const list = Object.entries({ size: '1G', ...options }).flatMap(([key, value]) => [
    '-o',
    `${key}=${value}`,
  ]);
  await host.ok('volume', 'create', '--driver', 'openebs', ...list, name);
}

/** Runs a shell script in a fresh container with the volume at /data. Answers what it printed. */
export function runOn(host: LabHost, volume: string, script: string): Promise<string> {
  return host.ok('run', '--rm', '--network', 'none', '-v', `${volume}:/data`, 'lab', 'sh', '-ec', script);
}

export function tryOn(host: LabHost, volume: string, script: string): Promise<Result> {
  return host.docker('run', '--rm', '--network', 'none', '-v', `${volume}:/data`, 'lab', 'sh', '-ec', script);
}

/** Starts an idle container with the volume at /data. */
export async function startIdle(
  host: LabHost,
  name: string,
  volume: string,
  ...more: string[]
): Promise<void> {
  await host.ok('run', '-d', '--name', name, '--network', 'none', ...more, '-v', `${volume}:/data`, 'lab');
}

export function inside(host: LabHost, container: string, script: string): Promise<string> {
  return host.ok('exec', container, 'sh', '-ec', script);
}

export interface RecordEntry {
  readonly key: string;
  readonly value: unknown;
}

/**
 * One HTTP exchange over a unix socket. The socket is named by its open directory, as the path of a socket may
 * have 107 bytes and a lab host's are long.
 */
export function exchange(
  socketPath: string,
  method: string,
  path: string,
  body = '',
): Promise<[number, string]> {
  const directory = openSync(dirname(socketPath), 'r');
  const near = `/proc/self/fd/${String(directory)}/${basename(socketPath)}`;
  return new Promise<[number, string]>((resolve, reject) => {
    // A connection that is kept open is known by this path alone, which is another host's the next time.
    const call = request({ socketPath: near, path, method, timeout: 60_000, agent: false }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => (text += part));
      answer.on('end', () => {
        resolve([answer.statusCode ?? 0, text]);
      });
    });
    call.on('timeout', () => call.destroy(new Error(`${path} was not answered within 60 s`)));
    call.on('error', reject);
    call.end(body);
  }).finally(() => {
    closeSync(directory);
  });
}

/** The records in shared state, from the admin socket. */
export async function recordsOf(host: LabHost, prefix = '/openebs/'): Promise<RecordEntry[]> {
  const path = `/v1/records?prefix=${encodeURIComponent(prefix)}`;
  return (JSON.parse(await askAdmin(host, path)) as { entries: RecordEntry[] }).entries;
}

/** A GET of the admin socket. */
export async function askAdmin(host: LabHost, path: string): Promise<string> {
  const [code, text] = await exchange(join(host.run, 'openebs/admin.sock'), 'GET', path);
  if (code !== 200) throw new Error(`${path}: ${String(code)} ${text}`);
  return text;
}

export interface Traces {
  readonly volumes: readonly string[];
  readonly containers: readonly string[];
  readonly files: readonly string[];
  readonly keys: readonly string[];
  readonly ports: readonly string[];
  readonly loops: readonly string[];
  /** Below the plugin's tree: what is mounted, and the directories to mount on. */
  readonly mounts: readonly string[];
}

/** Port numbers that something on this host listens on. */
export async function listeningPorts(host: LabHost): Promise<string[]> {
  const table = await host.shellOk('cat /proc/net/tcp /proc/net/tcp6');
  const ports = [...table.matchAll(/:([0-9A-F]{4}) [0-9A-F]+:0000 0A/g)].map((match) =>
    String(parseInt(match[1] ?? '', 16)),
  );
  return [...new Set(ports)].sort();
}

/** What the registrator writes follows what runs, a moment later. */
export const registered = /^\/openebs\/(events|registry|objects|services|vsms)\//;

/**
 * As the engine sees them: `ID: ext4` for each mount, also of one above another, and `ID` for each directory. The
 * plugin's probe (src/dataplane/seen-mounts.ts) comes and goes with its start.
 */
async function mountsOf(host: LabHost): Promise<string[]> {
  const mounted = parseMountInfo(await host.shellOk('cat /proc/self/mountinfo')).flatMap(
    ({ mountpoint, type }) => {
      const name = /\/propagated-mount\/(.*)$/.exec(mountpoint)?.[1];
      return name === undefined ? [] : [`${name}: ${type}`];
    },
  );
  // From outside nothing is mounted there: no dead device can hold the look.
  const directories = pluginIds(host.dataRoot).flatMap((id) => {
    const tree = join(host.dataRoot, 'plugins', id, 'propagated-mount');
    return existsSync(tree) ? readdirSync(tree) : [];
  });
  return [...mounted, ...directories].filter((name) => !/^probe(: tmpfs)?$/.test(name)).sort();
}

/** Everything a volume can leave behind. etcd's own files and what is registered change by themselves. */
export async function tracesOf(host: LabHost): Promise<Traces> {
  const lines = (text: string): string[] =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .sort();
  // Backups are made by time, for a cluster and not for a volume.
  const found = 'cd /var/lib/openebs && find . -path "*etcd*" -prune -o -path ./backups -prune -o -print';
  const state = existsSync(join(host.lib, 'openebs'));
  return {
    volumes: lines(await host.ok('volume', 'ls', '--format', '{{.Driver}} {{.Name}}')),
    containers: lines(await host.ok('ps', '-a', '--format', '{{.Names}}')),
    files: state ? lines(await host.shellOk(found)) : [],
    keys: (await recordsOf(host))
      .map((entry) => entry.key)
      .filter((key) => !registered.test(key))
      .sort(),
    ports: await listeningPorts(host),
    loops: (await host.loops()).map((loop) => loop.name).sort(),
    mounts: await mountsOf(host),
  };
}

/** Waits until the host shows what it showed before; at the end of its patience tells the difference. */
export async function expectTraces(host: LabHost, before: Traces): Promise<void> {
  let now: Traces = before;
  await waitFor(
    'nothing is left behind',
    async () => {
      now = await tracesOf(host);
      return JSON.stringify(now) === JSON.stringify(before);
    },
    { timeoutMs: 30_000, everyMs: 500 },
  ).catch(() => undefined);
  expect(now).toEqual(before);
}

export interface Writer {
  /** How many passes of writing and reading back it has finished. */
  passes(): Promise<number>;
  /** Waits for so many more passes: proof that the volume works now. */
  goesOn(passes?: number): Promise<void>;
  /** Ends it after the pass it is in. Throws with its output if a write or a verification failed. */
  finish(): Promise<void>;
}

const fio =
  'fio --name=load --filename=/data/load --size=16M --bs=4k --direct=1 --ioengine=libaio --iodepth=4 ' +
  '--verify=crc32c --verify_fatal=1 --thread --output=/tmp/fio.log';

/** A container that writes the volume at random and verifies what it wrote, over and over. */
export async function startWriter(host: LabHost, name: string, volume: string): Promise<Writer> {
  const script = `
    n=0
    while [ ! -e /tmp/stop ]; do
      ${fio} --rw=randwrite --do_verify=1 --randseed=$n || { cat /tmp/fio.log; exit 1; }
      n=$((n + 1)); echo pass $n
    done`;
  const where = ['--network', 'none', '-v', `${volume}:/data`];
  await host.ok('run', '-d', '--name', name, ...where, 'lab', 'sh', '-c', script);
  const passes = async (): Promise<number> => {
    const { stdout } = await host.docker('logs', '--tail', '1', name);
    return Number(/pass (\d+)/.exec(stdout)?.[1] ?? '0');
  };
  const log = (): Promise<Result> => host.docker('logs', '--tail', '60', name);
  const goesOn = async (more = 2): Promise<void> => {
    const first = await passes();
    let running = true;
    await waitFor(
      `${name} has written ${String(more)} more passes`,
      async () => {
        running = (await host.ok('inspect', '--format', '{{.State.Running}}', name)) === 'true';
        return (await passes()) >= first + more;
      },
      { timeoutMs: 90_000, giveUp: () => !running },
    ).catch(async (reason: unknown) => {
      throw new Error(`${String(reason)}\n${failure(name, await log())}`);
    });
  };
  const finish = async (): Promise<void> => {
    await host.docker('exec', name, 'touch', '/tmp/stop'); // a container that has failed is told below
    const code = await host.ok('wait', name);
    if (code !== '0') throw new Error(failure(`the writer ${name} (code ${code})`, await log()));
  };
  return { passes, goesOn, finish };
}

/** Reads what a writer left, in a fresh container, and verifies each block. */
export async function verifyWritten(host: LabHost, volume: string): Promise<void> {
  await runOn(host, volume, `${fio} --rw=read --do_verify=1 >&2 || { cat /tmp/fio.log >&2; exit 1; }`);
}

/** The directory of a volume's backing file, as seen from outside the host. */
export function poolFile(host: LabHost, status: Status, pool = 'default'): string {
  return join(host.lib, 'openebs/pools', pool, status.id, 'disk.img');
}

export async function allocatedBytes(file: string): Promise<number> {
  const { stdout } = await exec('du', ['--block-size=1', file]);
  return Number(stdout.split('\t')[0]);
}

/** One call of the volume driver's protocol, past the engine, which refuses some before the plugin sees them. */
/** The plugin's socket, as seen from outside. */
export async function driverSocket(host: LabHost): Promise<string> {
  const id = await host.ok('plugin', 'inspect', 'openebs', '--format', '{{.Id}}');
  const socket = await host.ok('plugin', 'inspect', 'openebs', '--format', '{{.Config.Interface.Socket}}');
  return join(host.run, 'docker/plugins', id, socket);
}

export async function driverCall(
  host: LabHost,
  method: string,
  body: unknown,
): Promise<Record<string, unknown>> {
  const [, text] = await exchange(
    await driverSocket(host),
    'POST',
    `/VolumeDriver.${method}`,
    JSON.stringify(body),
  );
  return JSON.parse(text) as Record<string, unknown>;
}

/** Processes of this host with one of the names, as `pid name`. */
export async function processesNamed(host: LabHost, ...names: string[]): Promise<string[]> {
  const listed = await host.shellOk('grep -H . /proc/[0-9]*/comm 2>/dev/null || true');
  return listed
    .split('\n')
    .map((line) => /^\/proc\/(\d+)\/comm:(.*)$/.exec(line))
    .filter(
      (match) => match !== null && names.some((name) => match[2]?.startsWith(name.slice(0, 15)) === true),
    )
    .map((match) => `${match?.[1] ?? ''} ${match?.[2] ?? ''}`);
}

/** Removes what a failed test left, so that it fails alone: all containers that are not ours, all volumes. */
export async function tidy(host: LabHost): Promise<void> {
  const names = (await host.ok('ps', '-a', '--format', '{{.Names}}')).split('\n');
  const users = names.filter((name) => name !== '' && !name.startsWith('openebs-'));
  if (users.length > 0) await host.docker('rm', '-f', '-v', ...users);
  const volumes = (await host.ok('volume', 'ls', '-q')).split('\n').filter((name) => name !== '');
  if (volumes.length > 0) await host.docker('volume', 'rm', ...volumes);
}
