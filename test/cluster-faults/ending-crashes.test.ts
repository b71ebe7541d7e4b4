/**
 * A cluster is taken down while the plugin of one host dies at each point of its part, by two callers at once, below a
 * container that is started meanwhile, and without a host that is away. Whatever comes of it, nothing is lost.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NodesMessage } from '../../src/admin/messages.js';
import type { FailPoint } from '../../src/lib/fail-points.js';
import { arm, disarm, hasFired, startCrashHost } from '../support/crash.js';
import { openebs, withCli } from '../support/cli.js';
import { type Result, waitFor } from '../support/exec.js';
import {
  admin,
  closeAll,
  clusterOf,
  GRACE,
  initCluster,
  joinCluster,
  waitForVoters,
} from '../support/forming.js';
import type { LabHost } from '../support/lab.js';
import { repository } from '../support/lab-seed.js';
import { createVolume, recordsOf, runOn, startIdle } from '../support/product.js';

let hosts: LabHost[] = [];
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  for (const name of ['end-a', 'end-b', 'end-c'])
    hosts.push(await startCrashHost({ name, bootScript: withCli() }, GRACE));
  [a, b, c] = hosts as [LabHost, LabHost, LabHost];
  await createVolume(a, 'kept', { size: '200M' });
  await runOn(a, 'kept', 'echo word > /data/word');
  const token = await initCluster(a);
  await joinCluster(b, token);
  await joinCluster(c, token);
  await waitForVoters(a, 3);
}, 600_000);

afterAll(async () => {
  await closeAll(hosts);
  hosts = [];
});

async function whatRuns(host: LabHost): Promise<string> {
  const plugin = await host.ok('plugin', 'ls', '--format', '{{.Enabled}}');
  return `${plugin}; ${await host.ok('ps', '-aq', '--filter', 'label=openebs.role')}`;
}

/** One that dies before its engine has found it is disabled by the engine, and goes on when somebody enables it. */
async function isDown(host: LabHost): Promise<void> {
  await waitFor(
    `nothing runs on ${host.name}`,
    async () => {
      const now = await whatRuns(host);
      if (now.startsWith('false') && now !== 'false; ') await host.ok('plugin', 'enable', 'openebs');
      return now === 'false; ';
    },
    { timeoutMs: 120_000, everyMs: 500 },
  );
}

/** One that was disabled before it was done ends its part when it is enabled, and comes back the next time. */
async function comesBack(): Promise<void> {
  await Promise.all(
    hosts.map((host) =>
      waitFor(
        `${host.name} is enabled for good`,
        async () => {
          if ((await whatRuns(host)).startsWith('false')) await host.ok('plugin', 'enable', 'openebs');
          return (await clusterOf(host)).etcd.usable;
        },
        { timeoutMs: 120_000, everyMs: 1000 },
      ),
    ),
  );
  for (const host of hosts) await waitForVoters(host, 3);
  for (const host of hosts) expect(await runOn(host, 'kept', 'cat /data/word')).toBe('word');
  await waitFor(
    'nothing is left of the decision',
    async () => (await recordsOf(a, '/openebs/end')).length === 0,
    { timeoutMs: 60_000 },
  );
  for (const host of hosts) expect(existsSync(join(host.lib, 'openebs/transition.json'))).toBe(false);
}

/** Both may be told that it is done; one may be told that the other is at it. */
function expectTold(results: readonly Result[]): void {
  expect(results.some(({ code }) => code === 0)).toBe(true);
  for (const { code, stdout, stderr } of results)
    if (code !== 0) expect(stderr + stdout).toContain('somebody else takes the cluster down just now');
}

test.each<FailPoint>(['before ending ack', 'after ending engine', 'after ending files'])(
  'two callers at once take it down while a host dies %s',
  { timeout: 400_000 },
  async (point) => {
    arm(b, { action: 'kill', point });
    const callers = Promise.all([openebs(a, 'cluster down'), openebs(c, 'cluster down')]);
    await waitFor(`b is ${point}`, () => hasFired(b), { everyMs: 20, timeoutMs: 120_000 });
    disarm(b);
    await b.killPlugin();
    expectTold(await callers);
    for (const host of hosts) await isDown(host);
    await comesBack();
  },
);

test(
  'a container that is started meanwhile either keeps it up, or does not start',
  { timeout: 400_000 },
  async () => {
    const [down, started] = await Promise.all([
      openebs(a, 'cluster down'),
      startIdle(b, 'user', 'kept').then(
        () => '',
        (reason: unknown) => String(reason),
      ),
    ]);
    console.log(`down: ${String(down.code)}, container: ${started === '' ? 'runs' : 'does not start'}`);
    expect(down.code === 0, `${down.stderr}\n${started}`).toBe(started !== '');
    if (down.code !== 0) {
      expect(down.stderr).toContain('containers use 1 volume(s): kept');
      expect(await b.ok('exec', 'user', 'cat', '/data/word')).toBe('word');
      await b.ok('rm', '-f', 'user');
      await waitFor('it is given up', async () => (await openebs(a, 'cluster down')).code === 0, {
        timeoutMs: 60_000,
        everyMs: 1000,
      });
    } else expect(started).toContain('is being taken down');
    for (const host of hosts) await isDown(host);
    await b.docker('rm', '-f', 'user');
    await comesBack();
  },
);

test(
  'without a host that is away it is refused, and forced; that host ends with make down',
  { timeout: 600_000 },
  async () => {
    await c.powerOff();
    await waitFor(
      'it is known to be away',
      async () => {
        const { nodes } = await admin<NodesMessage>(a, 'GET', '/v1/nodes');
        return nodes.some(({ hostname, state }) => hostname === 'end-c' && state === 'away');
      },
      { timeoutMs: 90_000, everyMs: 1000 },
    );
    const refused = await openebs(a, 'cluster down');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toMatch(/node end-c \(.*is away.*--force/s);
    const forced = await openebs(a, 'cluster down --force');
    expect(forced.code, forced.stderr).toBe(0);
    for (const host of [a, b]) await isDown(host);
    await c.powerOn();
    const ended = await c.shell(`cd ${repository} && plugin/down.sh`, { timeoutMs: 180_000 });
    expect(ended.code, ended.stderr).toBe(0);
    expect(await c.ok('ps', '-aq', '--filter', 'label=openebs.role')).toBe('');
    expect(existsSync(join(c.lib, 'openebs/etcd/member'))).toBe(true);
    await Promise.all([a, b].map((host) => host.ok('plugin', 'enable', 'openebs')));
    await waitFor(
      'it serves with two of three',
      async () => (await runOn(b, 'kept', 'cat /data/word')) === 'word',
      {
        timeoutMs: 120_000,
      },
    );
  },
);
