/**
 * The conformance suite (test/conformance) on the socket of the real plugin, while etcd stands still: a process that
 * is stopped keeps its connections open and answers nothing, which is the hardest way to be away.
 */
import { execFile } from 'node:child_process';
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { serveHooks } from '../support/hooks.js';
import {
  createVolume,
  driverSocket,
  expectTraces,
  processesNamed,
  startProductHost,
  tracesOf,
} from '../support/product.js';

interface Outcome {
  readonly group: string;
  readonly case: string;
  readonly verdict: string;
  readonly detail: string;
  readonly tookMs: number;
}

const repository = resolve(import.meta.dirname, '../..');
let host: LabHost;

beforeAll(async () => {
  host = await startProductHost({ name: 'conformance' });
  await createVolume(host, 'first', { size: '200M' });
  await host.ok('volume', 'rm', 'first');
});

afterAll(async () => {
  await host.close();
});

function conformance(...args: string[]): Promise<{ code: number; cases: Outcome[] }> {
  const program = ['--import', 'tsx', 'test/conformance/main.ts', '--format', 'json', ...args];
  return new Promise((settle, reject) => {
    const limits = { cwd: repository, timeout: 400_000, maxBuffer: 2 ** 26 };
    const child = execFile(process.execPath, program, limits, (_error, stdout, stderr) => {
      try {
        const { cases } = JSON.parse(stdout) as { cases: Outcome[] };
        settle({ code: child.exitCode ?? -1, cases });
      } catch (reason) {
        reject(new Error(`${String(reason)}\n${stdout}${stderr}`));
      }
    });
  });
}

test('the plugin conforms, with etcd standing still and going on', async () => {
  const before = await tracesOf(host);
  const plugin = await host.pluginPid();
  const descriptors = async () => Number(await host.shellOk(`ls /proc/${String(plugin)}/fd | wc -l`));
  const open = await descriptors();
  const [etcd = ''] = await processesNamed(host, 'etcd');
  const pid = etcd.split(' ')[0] ?? '';
  await using folder = await mkdtempDisposable(join(tmpdir(), 'hooks-'));
  const hooks = await serveHooks(join(folder.path, 'hooks.sock'), {
    stop: () => host.shellOk(`kill -STOP ${pid}`),
    // It may have been ended meanwhile by who found it silent; then there is nothing to go on.
    go: () => host.shellOk(`kill -CONT ${pid} || true`),
  });
  const { code, cases } = await conformance(
    ...['--socket', await driverSocket(host), '--create-opt', 'size=200M', '--volumes', '3'],
    ...['--outage-begin', hooks.command('stop'), '--outage-end', hooks.command('go')],
  ).finally(() => hooks.close());
  const slowest = cases.toSorted((one, other) => other.tookMs - one.tookMs).slice(0, 8);
  for (const { group, case: name, tookMs } of slowest) console.log(`${String(tookMs)} ms  ${group}: ${name}`);
  for (const { group, case: name, verdict, detail } of cases)
    if (name.endsWith('answers in time')) console.log(`${verdict}  ${group}: ${name}: ${detail}`);
  const wrong = cases.filter(({ verdict }) => verdict !== 'passed');
  // In words of its own: the diff of two lists is cut where a run's summary is all that is kept.
  if (wrong.length > 0)
    throw new Error(wrong.map(({ group, case: name, detail }) => `${group}: ${name}: ${detail}`).join('\n'));
  expect(code).toBe(0);
  await expectTraces(host, before);
  // The same process, after a thousand calls and more; a connection or two come and go.
  expect(await host.pluginPid()).toBe(plugin);
  await waitFor('its descriptors are closed', async () => (await descriptors()) <= open + 4, {
    timeoutMs: 60_000,
    everyMs: 1000,
  });
}, 420_000);
