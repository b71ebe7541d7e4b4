/**
 * A plugin whose fail points (src/lib/fail-points.ts) can be armed: no installed plugin's can, so the description
 * that the engine keeps of this one is given the variable while the engine is stopped.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FailPoint } from '../../src/lib/fail-points.js';
import { sleep, waitFor } from './exec.js';
import { type LabHost, type LabOptions, startLabHost } from './lab.js';
import { driverSocket, exchange, installPlugin } from './product.js';

export interface Order {
  readonly action: 'record' | 'kill' | 'delay' | 'error';
  readonly point?: FailPoint;
  readonly hit?: number;
  readonly delayMs?: number;
}

const orderFile = 'openebs/fail-point';
const pathOf = (host: LabHost): string => join(host.run, orderFile);

/**
 * The engine looks for the socket half a second after the start of a plugin's process, and then every 3 s. One that
 * dies before it was found is not started again: the engine waits out its 13 s and disables the plugin (measured,
 * 20.10.24 to 28.5.2).
 */
const firstLookMs = 450;
const settlesMs = { afterFirstLook: 1200, afterSecondLook: 5000 };

export async function startCrashHost(
  options: LabOptions,
  settings: Readonly<Record<string, string>> = {},
): Promise<LabHost> {
  const host = await startLabHost({ ...options, plugin: true });
  try {
    await host.stopEngine();
    giveVariable(join(host.dataRoot, 'plugins'), `OPENEBS_FAIL_POINTS=/host/run/${orderFile}`);
    await host.startEngine();
    await installPlugin(host, { settings });
    mkdirSync(join(host.run, 'openebs'), { recursive: true, mode: 0o700 });
    return host;
  } catch (reason) {
    await host.close();
    throw reason;
  }
}

interface StoredPlugin {
  readonly plugin: { readonly Settings: { Env: string[] } };
}

function giveVariable(plugins: string, variable: string): void {
  const files = readdirSync(plugins)
    .map((id) => join(plugins, id, 'config.json'))
    .filter((file) => existsSync(file));
  for (const file of files) {
    const stored = JSON.parse(readFileSync(file, 'utf8')) as StoredPlugin;
    stored.plugin.Settings.Env.push(variable);
    writeFileSync(file, JSON.stringify(stored));
  }
}

export function arm(host: LabHost, order: Order): void {
  writeFileSync(`${pathOf(host)}.new`, JSON.stringify(order));
  renameSync(`${pathOf(host)}.new`, pathOf(host));
}

/** Resolves when the plugin has met the point and is killed; its process is stopped there. */
export async function diesThere(host: LabHost): Promise<void> {
  await waitFor('the point is reached', () => hasFired(host), { everyMs: 10 });
  await host.killPlugin();
}

/** Whether the plugin has met the point and stands still there, to be killed. Says so once. */
export function hasFired(host: LabHost): boolean {
  const fired = `${pathOf(host)}.fired`;
  if (!existsSync(fired)) return false;
  rmSync(fired);
  return true;
}

/** Answers whether it had not fired yet. */
export function disarm(host: LabHost): boolean {
  const was = existsSync(pathOf(host));
  rmSync(pathOf(host), { force: true });
  return was;
}

/** The points that an operation goes through, in order. */
export async function recorded(host: LabHost, operation: () => Promise<unknown>): Promise<FailPoint[]> {
  const log = `${pathOf(host)}.log`;
  rmSync(log, { force: true });
  arm(host, { action: 'record' });
  await operation();
  disarm(host);
  const points = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [];
  rmSync(log, { force: true });
  return points as FailPoint[];
}

/** The engine starts a plugin that has died at once; resolves when a new process has taken over for good. */
export async function restarted(host: LabHost, killed: number, socket: string): Promise<void> {
  await waitFor('the plugin has a new process', async () => (await host.pluginPid()) !== killed, {
    everyMs: 50,
  });
  await waitFor(
    'its socket listens',
    async () => (await exchange(socket, 'POST', '/VolumeDriver.Capabilities', '{}'))[0] === 200,
    { everyMs: 20 },
  );
  const early = upMs() - (await startedMs(host)) < firstLookMs;
  await sleep(early ? settlesMs.afterFirstLook : settlesMs.afterSecondLook);
}

/** Since the kernel's start, which hosts share. */
const upMs = (): number => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;

/** When the plugin's process began: on a busy machine it is seen long after that. */
async function startedMs(host: LabHost): Promise<number> {
  const stat = await host.shellOk(`cat /proc/${String(await host.pluginPid())}/stat`);
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]) * 10;
}

/** Kills the plugin, and waits until the next process has taken over for good. */
export async function killAndWait(host: LabHost): Promise<void> {
  const socket = await driverSocket(host);
  await restarted(host, await host.killPlugin(), socket);
}
