/**
 * The registrator that runs alone, as a process of this machine: started, killed, asked. And what a test holds against
 * it, by ways of its own: the engine's API, what is in etcd and what has ever been there (by its JSON gateway), and what
 * should be there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { TestEtcd } from './etcd.js';
import { exec, type ExecOptions, type Result, waitFor } from './exec.js';

const program = resolve(import.meta.dirname, '../../src/standalone/main.ts');
const node = ['--import', 'tsx', program];
/** A process that ends with the test run, however that ends; with the memory that its image gives it. */
const tied = [
  '--pdeathsig',
  'KILL',
  process.execPath,
  '--max-semi-space-size=1',
  '--max-old-space-size=512',
  ...node,
];

/** By setting: `LEASE` or `AT_STOP`. Without these nothing of the machine's own is met. */
export type Settings = Readonly<Record<string, string>>;

export interface RegistratorProcess {
  readonly port: number;
  /** All it has logged, and what else it has said. */
  output(): string;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly isRunning: boolean;
  signal(signal: NodeJS.Signals): void;
  /** SIGKILL, until it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; what it ended with, and how long that took. */
  stop(): Promise<{ code: number | null; tookMs: number }>;
  /** Until all that was there at its start is registered. */
  ready(): Promise<void>;
  stats(): Promise<RegistryStats>;
  /** What it takes the time for, as its answers are dated. */
  clock(): Promise<Date>;
  rssMiB(): number;
}

/** Of `/v1/registry`, what tests look at. */
export interface RegistryStats {
  readonly ready: boolean;
  readonly objects: { readonly pending: number; readonly reconciles: number; readonly inspections: number };
  readonly backends: Readonly<
    Record<string, { pending: number; writes: number; conflicts: string[]; foreign: string[] }>
  >;
}

/** One name of a registrator on one host: its processes, one after the other, have the same settings. */
export interface Registrator {
  readonly policies: { write(name: string, content: string): void; remove(name: string): void };
  /** A setting that is empty is left out. */
  start(more?: Settings): Promise<RegistratorProcess>;
  /** Any other command of the program, to its end. */
  run(args: readonly string[], options?: ExecOptions): Promise<Result>;
  /** Kills what runs still, and removes its files. */
  end(): Promise<void>;
}

export function createRegistrator(
  settings: Settings,
  env: Readonly<Record<string, string>> = {},
): Registrator {
  const directory = mkdtempSync(join(tmpdir(), 'openebs-registrator-'));
  const policies = join(directory, 'policies');
  mkdirSync(policies);
  const running = new Set<RegistratorProcess>();
  const flags = (more: Settings = {}) =>
    Object.entries({ POLICY_DIR: policies, ADDRESS: '192.0.2.7', LISTEN: 'none', ...settings, ...more })
      .filter(([, value]) => value !== '')
      .flatMap(([name, value]) => [`--${name.toLowerCase().replaceAll('_', '-')}`, value]);
  return {
    policies: {
      write(name, content) {
        mkdirSync(dirname(join(policies, name)), { recursive: true });
        writeFileSync(join(policies, name), content);
      },
      remove(name) {
        rmSync(join(policies, name));
      },
    },
    async start(more) {
      const port = await freePort();
      const args = ['run', ...flags({ LISTEN: `127.0.0.1:${String(port)}`, ...more })];
      const started = startProcess(args, port, env);
      running.add(started);
      void started.ended.then(() => running.delete(started));
      return started;
    },
    run: (args, options) => exec(process.execPath, [...node, ...args, ...flags()], options),
    async end() {
      for (const one of [...running]) await one.kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

const READY = '"what runs here is registered"';

function startProcess(
  args: readonly string[],
  port: number,
  env: Readonly<Record<string, string>>,
): RegistratorProcess {
  // Settings of whoever runs the tests are none of its business.
  const child: ChildProcess = spawn('setpriv', [...tied, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] ?? '', ...env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => (output += text));
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((settle) => {
    child.on('error', (reason) => {
      output += reason.message;
      settle({ code: 127, signal: null });
    });
    child.on('close', (code, signal) => {
      settle({ code, signal });
    });
  });
  const isRunning = () => child.pid !== undefined && child.exitCode === null && child.signalCode === null;
  return {
    port,
    output: () => output,
    ended,
    get isRunning() {
      return isRunning();
    },
    signal(signal) {
      child.kill(signal);
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
    async stop() {
      const since = performance.now();
      child.kill('SIGTERM');
      const { code } = await ended;
      return { code, tookMs: Math.round(performance.now() - since) };
    },
    async ready() {
      const options = { timeoutMs: 60_000, everyMs: 50, giveUp: () => !isRunning() };
      await waitFor('the registrator is ready', () => output.includes(READY), options).catch(
        (reason: unknown) => {
          throw new Error(`${String(reason)}\nit said:\n${output}`);
        },
      );
    },
    async stats() {
      const response = await fetch(`http://127.0.0.1:${String(port)}/v1/registry`);
      return (await response.json()) as RegistryStats;
    },
    async clock() {
      const { headers } = await fetch(`http://127.0.0.1:${String(port)}/healthz`);
      return new Date(headers.get('date') ?? '');
    },
    rssMiB() {
      const status = readFileSync(`/proc/${String(child.pid)}/status`, 'utf8');
      return Math.round(Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024);
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}

/** A key as etcd has it. One that is deleted and made again has another `created`. */
export interface StoredKey {
  readonly value: string;
  readonly lease: string | undefined;
  readonly created: number;
  /** How often it was put since. */
  readonly puts: number;
}

interface WireEntry {
  readonly key: string;
  readonly value?: string;
  readonly lease?: string;
  readonly create_revision?: string;
  readonly mod_revision: string;
  readonly version?: string;
}

const encoded = (text: string) => Buffer.from(text).toString('base64');
const decoded = (text = '') => Buffer.from(text, 'base64').toString('utf8');
const EVERYTHING = { key: 'AA==', range_end: 'AA==' };
/** Marks a revision; no key for the others. */
const MARK = '/history-mark';

/** All that is in it. */
export async function keysIn(etcd: TestEtcd): Promise<Map<string, StoredKey>> {
  const { kvs = [] } = (await etcd.admin('kv/range', EVERYTHING)) as { kvs?: WireEntry[] };
  return new Map(
    kvs
      .map(({ key, value, lease, create_revision: created, version }): [string, StoredKey] => [
        decoded(key),
        { value: decoded(value), lease, created: Number(created), puts: Number(version) },
      ])
      .filter(([key]) => key !== MARK),
  );
}

export async function keyIn(etcd: TestEtcd, key: string): Promise<StoredKey | undefined> {
  return (await keysIn(etcd)).get(key);
}

export async function revisionOf(etcd: TestEtcd): Promise<number> {
  const { header } = await etcd.admin('kv/range', { key: encoded('/none') });
  return Number((header as { revision: string }).revision);
}

/** The revision of it. */
export async function putKey(etcd: TestEtcd, key: string, value: string): Promise<number> {
  const { header } = await etcd.admin('kv/put', { key: encoded(key), value: encoded(value) });
  return Number((header as { revision: string }).revision);
}

export async function deleteKey(etcd: TestEtcd, key: string): Promise<void> {
  await etcd.admin('kv/deleterange', { key: encoded(key) });
}

/** All keys that begin so. */
export async function deletePrefix(etcd: TestEtcd, prefix: string): Promise<void> {
  await etcd.admin('kv/deleterange', { key: encoded(prefix), range_end: encoded(`${prefix}\xff`) });
}

export interface Change {
  /** Null: deleted. */
  readonly value: string | null;
  readonly revision: number;
}

/** Every change of a key after that revision, up to now: etcd keeps them all, so none is missed for a watch that broke. */
export async function historyOf(etcd: TestEtcd, key: string, after: number): Promise<Change[]> {
  const until = await putKey(etcd, MARK, 'here');
  const response = await fetch(`${etcd.endpoint}/v3/watch`, {
    method: 'POST',
    body: JSON.stringify({ create_request: { ...EVERYTHING, start_revision: String(after + 1) } }),
    signal: AbortSignal.timeout(30_000),
  });
  const changes: Change[] = [];
  let rest = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines.filter((one) => one !== '')) {
      const { result } = JSON.parse(line) as { result: { events?: { type?: string; kv: WireEntry }[] } };
      for (const { type, kv } of result.events ?? []) {
        if (Number(kv.mod_revision) === until) return changes;
        if (decoded(kv.key) !== key) continue;
        const value = type === 'DELETE' ? null : decoded(kv.value);
        changes.push({ value, revision: Number(kv.mod_revision) });
      }
    }
  }
  throw new Error(`etcd ended the watch of its history:\n${rest}`);
}

export interface EngineAnswer {
  readonly status: number;
  readonly body: string;
}

/** One call of an engine's API, quicker than the command. Rejects when the engine is not there. */
export function askEngine(
  socketPath: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: object,
): Promise<EngineAnswer> {
  return new Promise((settle, reject) => {
    const headers = { host: 'docker', ...(body ? { 'content-type': 'application/json' } : {}) };
    const outgoing = request({ socketPath, path, method, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('error', reject).on('end', () => {
        settle({ status: response.statusCode ?? 0, body: text });
      });
    });
    outgoing.setTimeout(120_000, () => outgoing.destroy(new Error(`${method} ${path}: no answer in 120 s`)));
    outgoing.on('error', reject).end(body ? JSON.stringify(body) : undefined);
  });
}

type Json = Record<string, unknown>;

async function listed<T>(socketPath: string, path: string): Promise<T> {
  const { status, body } = await askEngine(socketPath, 'GET', path);
  if (status !== 200) throw new Error(`GET ${path}: ${String(status)} ${body}`);
  return JSON.parse(body) as T;
}

interface InspectedContainer {
  readonly Id: string;
  readonly Name: string;
  readonly Config: {
    readonly Image: string;
    readonly Env: string[] | null;
    readonly Labels: Record<string, string> | null;
  };
  readonly State: { Running: boolean; Paused: boolean; Health?: { Status: string } };
  readonly NetworkSettings: {
    readonly Ports: Record<string, { HostIp: string; HostPort: string }[] | null> | null;
    readonly Networks: Record<
      string,
      { IPAddress: string; GlobalIPv6Address: string; Aliases: string[] | null }
    >;
  };
}

/**
 * What the policies `objects` and `services` with their defaults register of an engine: keys and values, made from what
 * its API says, without any of the product's code. It knows of containers what tests start: services by
 * SERVICE_NAME, SERVICE_TAGS, SERVICE_IGNORE and other SERVICE_* of all ports, published on the host.
 */
export async function truthOf(socketPath: string, address = '192.0.2.7'): Promise<Map<string, unknown>> {
  const info = await listed<{ ID: string; Name: string; ServerVersion: string }>(socketPath, '/info');
  const truth = new Map<string, unknown>();
  const inventory = (kind: string, id: string, name: string, details: Json) =>
    truth.set(`/openebs/objects/${info.ID}/${kind}/${encodeURIComponent(id)}`, {
      kind,
      id,
      name,
      ...details,
    });

  inventory('daemon', info.ID, info.Name, { version: info.ServerVersion });
  for (const { Id } of await listed<{ Id: string }[]>(socketPath, '/containers/json?all=1')) {
    const container = await listed<InspectedContainer>(socketPath, `/containers/${Id}/json`);
    inventory('container', Id, container.Name.slice(1), containerDetails(container));
    for (const service of servicesOf(container, info.Name, address))
      truth.set(`/openebs/services/${String(service['name'])}/${String(service['id'])}`, service);
  }
  for (const { Id } of await listed<{ Id: string }[]>(socketPath, '/images/json')) {
    const { RepoTags: tags } = await listed<{ RepoTags: string[] }>(socketPath, `/images/${Id}/json`);
    inventory('image', Id, tags[0] ?? Id, { tags });
  }
  const { Volumes: volumes } = await listed<{ Volumes: { Name: string; Driver: string }[] | null }>(
    socketPath,
    '/volumes',
  );
  for (const { Name, Driver } of volumes ?? []) inventory('volume', Name, Name, { driver: Driver });
  type Network = Record<'Id' | 'Name' | 'Driver' | 'Scope', string>;
  for (const { Id, Name, Driver, Scope } of await listed<Network[]>(socketPath, '/networks'))
    inventory('network', Id, Name, { driver: Driver, scope: Scope });
  type Plugin = Record<'Id' | 'Name', string> & { Enabled: boolean };
  for (const { Id, Name, Enabled } of await listed<Plugin[]>(socketPath, '/plugins'))
    inventory('plugin', Id, Name, { enabled: Enabled });
  return truth;
}

function containerDetails({ Config, State, NetworkSettings }: InspectedContainer): Json {
  const networks = Object.entries(NetworkSettings.Networks)
    .filter(([, { IPAddress, GlobalIPv6Address }]) => `${IPAddress}${GlobalIPv6Address}` !== '')
    .map(([name, { IPAddress, GlobalIPv6Address, Aliases }]) => [
      name,
      { ip: IPAddress, ip6: GlobalIPv6Address, aliases: Aliases ?? [] },
    ]);
  return {
    image: Config.Image,
    running: State.Running,
    paused: State.Paused,
    health: State.Health?.Status ?? 'none',
    networks: Object.fromEntries(networks) as Json,
  };
}

function servicesOf(container: InspectedContainer, hostname: string, address: string): Json[] {
  const { NetworkSettings, Config } = container;
  const said = saidOf(Config.Env ?? [], Config.Labels ?? {});
  if (!serves(container) || 'ignore' in said) return [];
  const published = Object.entries(NetworkSettings.Ports ?? {}).filter(([, bindings]) => bindings?.length);
  const { name: base = Config.Image.replace(/:.*/, ''), tags = '', ...attributes } = said;
  return published.flatMap(([exposed, bindings]) => {
    const [port = '', protocol = 'tcp'] = exposed.split('/');
    const udp = protocol === 'udp' ? ['udp'] : [];
    // Of a port that the engine chose, the number for IPv6 is another one, and not of this address.
    const reached = (bindings ?? []).filter(({ HostIp }) => HostIp !== '::');
    const byPort = new Map(reached.map((binding) => [binding.HostPort, binding]));
    return [...byPort.values()].map(({ HostIp, HostPort }, index) => ({
      id: [hostname, container.Name.slice(1), port, ...udp, ...(index > 0 ? [HostPort] : [])].join(':'),
      name: published.length === 1 ? base : `${base}-${port}`,
      address: ['', '0.0.0.0', '::'].includes(HostIp) ? address : HostIp,
      port: Number(HostPort),
      protocol,
      tags: [...tags.split(',').filter((tag) => tag !== ''), ...udp],
      attributes,
    }));
  });
}

function serves({ State }: InspectedContainer): boolean {
  const health = State.Health?.Status ?? 'none';
  return State.Running && !State.Paused && (health === 'none' || health === 'healthy');
}

function saidOf(env: readonly string[], labels: Readonly<Record<string, string>>): Record<string, string> {
  const all = [...env.map((item) => item.split(/=(.*)/s)), ...Object.entries(labels)];
  return Object.fromEntries(
    all
      .filter(([name = '']) => name.startsWith('SERVICE_'))
      .map(([name = '', value = '']) => [name.slice('SERVICE_'.length).toLowerCase(), value]),
  );
}

/** The name of a claim in etcd, as README of the registry's format has it. */
export function claimOf(key: string, owner: string): string {
  return `/openebs/registry/claims/${encodeURIComponent(key)}/${owner}`;
}

/**
 * What is wrong with the whole of etcd, a line each, if one registrator has it for itself: a key that is missing, that
 * should not be there, that has another value, that is below no lease, and the same of their claims.
 */
export function faultsOf(
  found: ReadonlyMap<string, StoredKey>,
  truth: ReadonlyMap<string, unknown>,
  owner: string,
): string[] {
  const faults: string[] = [];
  const expected = new Set<string>();
  for (const [key, value] of truth) {
    const stored = found.get(key);
    const held = found.get(claimOf(key, owner));
    expected.add(key).add(claimOf(key, owner));
    if (!stored) faults.push(`missing: ${key}`);
    else if (sorted(JSON.parse(stored.value)) !== sorted(value))
      faults.push(`${key} is ${stored.value}, not ${JSON.stringify(value)}`);
    else if (stored.lease === undefined) faults.push(`without a lease: ${key}`);
    if (!held) faults.push(`not claimed: ${key}`);
    else if ((JSON.parse(held.value) as { value?: unknown }).value !== stored?.value)
      faults.push(`claimed as ${held.value}: ${key}`);
  }
  for (const key of found.keys()) if (!expected.has(key)) faults.push(`too much: ${key}`);
  return faults;
}

/** The same text for the same value, whatever the order of its fields. */
function sorted(value: unknown): string {
  return JSON.stringify(value, (_name, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

/** Until etcd is what runs, and throws what is wrong with it otherwise. */
export async function untilTrue(
  socketPath: string,
  etcd: TestEtcd,
  owner: string,
  options: { readonly timeoutMs?: number; readonly told?: () => string } = {},
): Promise<void> {
  const until = performance.now() + (options.timeoutMs ?? 40_000);
  for (;;) {
    const faults = await Promise.all([keysIn(etcd), truthOf(socketPath)])
      .then(([found, truth]) => faultsOf(found, truth, owner))
      .catch((reason: unknown) => [String(reason)]);
    if (faults.length === 0) return;
    if (performance.now() > until)
      throw new Error(
        `etcd is not what runs, ${String(faults.length)} faults:\n${faults.slice(0, 20).join('\n')}\n${options.told?.() ?? ''}`,
      );
    await delay(200);
  }
}
