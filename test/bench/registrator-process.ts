/** The registrator as it is shipped: a process of its own, compiled, with the options of Node that its image has. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { RegistratorStats } from '../../src/registrator/registrator-stats.js';
import { execOk, waitFor } from '../support/exec.js';

export interface Compiled {
  readonly main: string;
  remove(): void;
}

/** Of the sources as they are now. Types are others' to check. */
export async function compile(): Promise<Compiled> {
  const directory = mkdtempSync(join(tmpdir(), 'registrator-bench-'));
  const dist = join(directory, 'dist');
  for (const name of ['node_modules', 'package.json']) symlinkSync(resolve(name), join(directory, name));
  const flags = ['-p', 'tsconfig.json', '--noCheck', '--sourceMap', 'false', '--outDir', dist];
  await execOk(process.execPath, ['node_modules/typescript/bin/tsc', ...flags]);
  return {
    main: join(dist, 'standalone/main.js'),
    remove() {
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export interface RegistratorProcess {
  readonly pid: number;
  /** From the start of the process to readiness. */
  readonly readyMs: number;
  stats(): Promise<RegistratorStats>;
  /** The sum of a metric over its labels. */
  metric(name: string): Promise<number>;
  rssMb(): number;
  /** Waits until nothing is to be inspected or written any more. */
  settled(): Promise<RegistratorStats>;
  kill(): Promise<void>;
}

export interface Settings {
  readonly socket: string;
  readonly etcd: string;
  readonly node: string;
}

export async function startRegistrator(
  { main }: Compiled,
  { socket, etcd, node }: Settings,
): Promise<RegistratorProcess> {
  const listen = `127.0.0.1:${String(await freePort())}`;
  const flags = ['--docker-socket', socket, '--etcd-endpoints', etcd, '--node-id', node, '--listen', listen];
  const start = performance.now();
  const child = spawn(
    process.execPath,
    [
      '--max-semi-space-size=1',
      '--max-old-space-size=512',
      main,
      'run',
      '--log-level',
      'warn',
      '--policy-dir',
      '/nowhere',
      ...flags,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, MALLOC_ARENA_MAX: '2' } },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (text: Buffer) => (output += String(text)));
  const ask = async (path: string) => {
    const response = await fetch(`http://${listen}${path}`);
    if (!response.ok) throw new Error(`${path} answers ${String(response.status)}`);
    return response.text();
  };
  const stats = async () => JSON.parse(await ask('/v1/registry')) as RegistratorStats;
  await waitFor('the registrator is ready', async () => (await ask('/readyz')) !== '', {
    timeoutMs: 120_000,
    everyMs: 20,
    giveUp: () => child.exitCode !== null,
  }).catch((reason: unknown) => {
    child.kill('SIGKILL');
    throw new Error(`${String(reason)}\n${output}`);
  });
  const readyMs = performance.now() - start;
  const pid = child.pid ?? 0;
  return {
    pid,
    readyMs,
    stats,
    async metric(name) {
      const samples = (await ask('/metrics')).matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'gm'));
      return [...samples].reduce((sum, [, value]) => sum + Number(value), 0);
    },
    rssMb: () =>
      Number(/VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1]) / 1024,
    async settled() {
      let now = await stats();
      await waitFor(
        'the registrator has nothing to do',
        async () => {
          now = await stats();
          return now.objects.pending === 0 && now.backends['etcd']?.pending === 0;
        },
        { timeoutMs: 120_000, everyMs: 20 },
      );
      return now;
    },
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
