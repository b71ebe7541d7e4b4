import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { createVolume, exchange, inside, runOn, startIdle, startProductHost } from '../support/product.js';

let host: LabHost;

beforeAll(async () => {
  host = await startProductHost({ name: 'lost' });
  await createVolume(host, 'db');
  await runOn(host, 'db', 'echo kept > /data/kept; sync /data/kept');
  await createVolume(host, 'second');
  await startIdle(host, 'user', 'db');
});

afterAll(async () => {
  await host.close();
});

async function health(): Promise<{ problems: Readonly<Record<string, string>> }> {
  const [, text] = await exchange(join(host.run, 'openebs/admin.sock'), 'GET', '/v1/health');
  return JSON.parse(text) as { problems: Readonly<Record<string, string>> };
}

const volumes = () => host.ok('volume', 'ls', '--format', '{{.Driver}} {{.Name}}');
const both = 'openebs:latest db\nopenebs:latest second';

const losses: readonly (readonly [string, RegExp, string])[] = [
  ['its log, and nothing else', /lost its data/, 'rm etcd/member/wal/*'],
  ['its log and its snapshots', /lost its data/, 'rm -f etcd/member/wal/* etcd/member/snap/*'],
  ['all files', /lost its data/, 'rm -r etcd/member'],
  // To the plugin this is a host that never had an etcd: what it knows of its volumes tells.
  ['all files, and the plugin its note of them', /knows 2 volume/, 'rm -r etcd/member etcd-incarnation.json'],
];

test.each(losses)('an etcd that has lost %s is not begun anew below volumes', async (_, reason, loss) => {
  await host.shellOk('cd /var/lib/openebs; rm -rf /var/lib/saved; cp -a . /var/lib/saved');
  // The plugin would start etcd again before its files are gone.
  const plugin = String(await host.pluginPid());
  await host.shellOk(`kill -STOP ${plugin}`);
  await host.ok('kill', 'openebs-etcd');
  await host.shellOk(`cd /var/lib/openebs; cp -a etcd/. /var/lib/saved/etcd; ${loss}; kill -CONT ${plugin}`);
  await waitFor(
    'it is told',
    async () => Object.values((await health()).problems).some((problem) => reason.test(problem)),
    { timeoutMs: 60_000 },
  );
  expect((await host.docker('volume', 'create', '-d', 'openebs', 'new')).code).not.toBe(0);
  expect(await volumes()).toBe(both);
  // It may mount or fail, but never becomes a volume of the engine's own.
  await host.docker('run', '--rm', '--network', 'none', '-v', 'second:/data', 'lab', 'true');
  expect(await volumes()).toBe(both);
  expect(await inside(host, 'user', 'cat /data/kept')).toBe('kept');
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('kill', 'openebs-etcd').catch(() => undefined);
  await host.shellOk(
    'cd /var/lib/openebs; rm -rf etcd; cp -a /var/lib/saved/etcd /var/lib/saved/etcd-incarnation.json .',
  );
  await host.ok('plugin', 'enable', 'openebs');
  await waitFor('it is well again', async () => Object.keys((await health()).problems).length === 0, {
    timeoutMs: 60_000,
  });
  await createVolume(host, 'new');
  await host.ok('volume', 'rm', 'new');
  expect(await runOn(host, 'second', 'echo well > /data/well; cat /data/well')).toBe('well');
  expect(await inside(host, 'user', 'cat /data/kept')).toBe('kept');
});
