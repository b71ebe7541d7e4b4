import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A real etcd on free ports of 127.0.0.1, its data in a temporary directory. */
export interface TestEtcd {
  readonly endpoint: string;
  readonly port: number;
  /** Starts it again on the same data and port; the answer means that it serves. */
  start(): Promise<void>;
  kill(signal: NodeJS.Signals): void;
  /** Ends the process and waits until it is gone. */
  stop(): Promise<void>;
  /** As a lost disk: what is stopped begins anew at its next start. */
  forget(): Promise<void>;
  /** The JSON gateway, for what the product never does: compaction, users, alarms. Not with TLS. */
  admin(path: string, body: Record<string, unknown>): Promise<Record<string, unknown>>;
  /** Ends it and removes its data. */
  [Symbol.asyncDispose](): Promise<void>;
}

export interface TestEtcdTls {
  ca: string;
  certificate: string;
  key: string;
}

export interface EtcdOptions {
  tls?: TestEtcdTls;
  /** For members that have files of their own, towards each other too. */
  tlsOf?: (index: number) => { readonly client: TestEtcdTls; readonly peer: TestEtcdTls };
  flags?: string[];
}

const program = '/usr/bin/etcd';

export async function startEtcd(options: EtcdOptions = {}): Promise<TestEtcd> {
  const [member] = await startMembers(1, options);
  return member!;
}

/** Members of one cluster, all started. */
export async function startMembers(count: number, options: EtcdOptions = {}): Promise<TestEtcd[]> {
  if (!existsSync(program)) throw new Error(`${program} is missing: apt-get install etcd-server`);
  const ports = await freePorts(2 * count);
  const scheme = options.tlsOf ? 'https' : 'http';
  const peers = Array.from(
    { length: count },
    (_, index) => `${scheme}://127.0.0.1:${String(ports[2 * index]!)}`,
  );
  const cluster = peers.map((peer, index) => `m${String(index)}=${peer}`).join(',');
  const members = await Promise.all(
    peers.map((peer, index) =>
      createMember(ports[2 * index + 1]!, optionsOf(options, index), [
        ...['--name', `m${String(index)}`, '--initial-cluster', cluster],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
      ]),
    ),
  );
  await Promise.all(members.map((member) => member.start()));
  return members;
}

function optionsOf({ tlsOf, ...options }: EtcdOptions, index: number): EtcdOptions {
  if (!tlsOf) return options;
  const { client, peer } = tlsOf(index);
  const towardsPeers = tlsFlags(peer).map((flag) => flag.replace(/^--/, '--peer-'));
  return { ...options, tls: client, flags: [...(options.flags ?? []), ...towardsPeers] };
}

/** The member that leads, when all of these say so; they must be a majority. */
export async function leaderOf(members: readonly TestEtcd[]): Promise<TestEtcd | undefined> {
  const told = await Promise.all(
    members.map(async (member) => {
      const { header, leader } = await member.admin('maintenance/status', {});
      return { member, id: (header as { member_id: string }).member_id, leader };
    }),
  );
  const found = told.find(({ id, leader }) => id === leader);
  return told.every(({ leader }) => leader === found?.id) ? found?.member : undefined;
}

async function createMember(port: number, options: EtcdOptions, flags: string[]): Promise<TestEtcd> {
  const directory = await mkdtemp(join(tmpdir(), 'openebs-etcd-'));
  const scheme = options.tls ? 'https' : 'http';
  const endpoint = `${scheme}://127.0.0.1:${String(port)}`;
  let child: ChildProcess | undefined;
  let output = '';

  const stop = async () => {
    const running = child;
    if (running?.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise((resolve) => running.once('exit', resolve));
    running.kill('SIGKILL');
    await gone;
  };
  return {
    endpoint,
    port,
    async start() {
      child = spawn(program, [
        ...['--data-dir', directory, '--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
        ...flags,
        ...(options.tls ? tlsFlags(options.tls) : []),
        ...(options.flags ?? []),
      ]);
      output = '';
      const collect = (chunk: Buffer) => (output += chunk.toString());
      child.stdout?.on('data', collect);
      child.stderr?.on('data', collect);
      await untilServing(child, () => output);
    },
    kill: (signal) => child?.kill(signal),
    stop,
    forget: () => rm(directory, { recursive: true }),
    async admin(path, body) {
      const response = await fetch(`${endpoint}/v3/${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
        // One that stands still accepts connections.
        signal: AbortSignal.timeout(30_000),
      });
      const answer = (await response.json()) as Record<string, unknown>;
      if (!response.ok) throw new Error(`${path}: ${JSON.stringify(answer)}`);
      return answer;
    },
    async [Symbol.asyncDispose]() {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function tlsFlags({ ca, certificate, key }: TestEtcdTls): string[] {
  return ['--trusted-ca-file', ca, '--cert-file', certificate, '--key-file', key, '--client-cert-auth'];
}

async function untilServing(child: ChildProcess, output: () => string): Promise<void> {
  for (let waited = 0; waited < 30_000; waited += 50) {
    if (child.exitCode !== null) throw new Error(`etcd ended at start:\n${output()}`);
    if (/serving (insecure )?client requests/.test(output())) return;
    await delay(50);
  }
  throw new Error(`etcd does not serve:\n${output()}`);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
