import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A real agent of Consul, a server of its own, on free ports of 127.0.0.1, its data in a temporary directory. */
export interface TestConsul {
  /** `http://127.0.0.1:PORT` */
  readonly address: string;
  /** The same API with mutual TLS, if it was started with certificates. */
  readonly secureAddress: string;
  /** The same API on a unix socket. */
  readonly socket: string;
  /** Starts it again on the same data and ports; the answer means that it serves. */
  start(): Promise<void>;
  kill(signal: NodeJS.Signals): void;
  /** Ends the process and waits until it is gone. */
  stop(): Promise<void>;
  /** Of a stopped one: it has never heard of any service. */
  forget(): Promise<void>;
  /** Any call of its API; the answer must be a success. */
  api(method: 'GET' | 'PUT', path: string, body?: object): Promise<unknown>;
  services(): Promise<Readonly<Record<string, ListedService>>>;
  /** Ends it and removes its data. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ListedService {
  readonly ID: string;
  readonly Service: string;
  readonly Tags: readonly string[];
  readonly Meta: Readonly<Record<string, string>>;
  readonly Port: number;
  readonly Address: string;
}

export const consulProgram = resolve(import.meta.dirname, '../../build/cache/consul1.8.7/usr/bin/consul');

/** Null when there is one; tests on a real agent are skipped otherwise, and their output says why. */
export const whyNoConsul = existsSync(consulProgram)
  ? null
  : `${consulProgram} is missing: plugin/setup.sh test fetches it from deb.debian.org`;

/** Paths of PEM files. */
export interface TestConsulTls {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** @param settings as in its configuration file */
export async function startConsul(settings: object = {}, tls?: TestConsulTls): Promise<TestConsul> {
  const directory = await mkdtemp(join(tmpdir(), 'openebs-consul-'));
  const data = join(directory, 'data');
  const socket = join(directory, 'http.sock');
  const [httpPort, httpsPort, serfPort, serverPort] = await freePorts(4);
  const address = `http://127.0.0.1:${String(httpPort)}`;
  const configuration = {
    server: true,
    bootstrap_expect: 1,
    node_name: 'test',
    data_dir: data,
    bind_addr: '127.0.0.1',
    addresses: { http: `127.0.0.1 unix://${socket}` },
    ports: {
      ...{ http: httpPort, https: tls ? httpsPort : -1 },
      ...{ serf_lan: serfPort, server: serverPort, serf_wan: -1, dns: -1, grpc: -1 },
    },
    performance: { raft_multiplier: 1 },
    disable_update_check: true,
    log_level: 'WARN',
    ...(tls
      ? { ca_file: tls.ca, cert_file: tls.certificate, key_file: tls.key, verify_incoming_https: true }
      : {}),
    ...settings,
  };
  let child: ChildProcess | undefined;
  let output = '';

  const stop = async () => {
    const running = child;
    if (running?.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise((settle) => running.once('exit', settle));
    running.kill('SIGKILL');
    await gone;
  };
  const api = async (method: string, path: string, body?: object): Promise<unknown> => {
    const response = await fetch(`${address}${path}`, {
      method,
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${String(response.status)} ${text}`);
    return text === '' ? undefined : JSON.parse(text);
  };
  const start = async () => {
    child = spawn(consulProgram, ['agent', '-hcl', JSON.stringify(configuration)]);
    output = '';
    const collect = (chunk: Buffer) => (output += chunk.toString());
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    await untilServing(child, api, () => output);
  };
  await start();
  return {
    address,
    secureAddress: `https://127.0.0.1:${String(httpsPort)}`,
    socket,
    start,
    kill: (signal) => child?.kill(signal),
    stop,
    forget: () => rm(data, { recursive: true, force: true }),
    api,
    services: async () => (await api('GET', '/v1/agent/services')) as Record<string, ListedService>,
    async [Symbol.asyncDispose]() {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** With a leader: without one it takes services as well, but not what is asked with a token. */
async function untilServing(
  child: ChildProcess,
  api: (method: string, path: string) => Promise<unknown>,
  output: () => string,
): Promise<void> {
  for (let waited = 0; waited < 30_000; waited += 50) {
    if (child.exitCode !== null) throw new Error(`consul ended at start:\n${output()}`);
    const leader = await api('GET', '/v1/status/leader').catch(() => '');
    if (leader !== '') return;
    await delay(50);
  }
  throw new Error(`consul does not serve:\n${output()}`);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((closed) => server.close(closed))));
  return ports;
}
