/** `docker openebs` as root of a host meets it: the built script where the docker command looks for its plugins. */
import { renameSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cliFolder as folder, openebs as openebsOn, withCli } from '../support/cli.js';
import { type Result, waitFor } from '../support/exec.js';
import { type LabHost, startLabHost } from '../support/lab.js';
import { repository } from '../support/lab-seed.js';
import { createVolume, poolFile, runOn, startIdle, startProductHost, statusOf } from '../support/product.js';

let host: LabHost;

beforeAll(async () => {
  host = await startProductHost({ name: 'cli', bootScript: withCli() });
  await createVolume(host, 'db');
  await createVolume(host, 'web', { size: '2G', fs: 'xfs' });
  await startIdle(host, 'user', 'db');
}, 240_000);

afterAll(async () => {
  await host.close();
});

const openebs = (words: string): Promise<Result> => openebsOn(host, words);

async function well(words: string): Promise<string> {
  const result = await openebs(words);
  expect(result).toMatchObject({ code: 0, stderr: '' });
  return result.stdout;
}

async function json<Message>(words: string): Promise<Message> {
  const { stdout } = await openebs(`${words} --format json`);
  return JSON.parse(stdout) as Message;
}

interface Status {
  readonly healthy: boolean;
  readonly findings: readonly { readonly object: string; readonly what: string; readonly level: string }[];
}

/** `cluster status` once it says so; the plugin looks at all its volumes every 15 s. */
function untilStatus(what: string, is: (status: Status) => boolean): Promise<Status> {
  const ask = async () => {
    const status = await json<Status>('cluster status');
    if (is(status)) return status;
    throw new Error(JSON.stringify(status.findings));
  };
  return waitFor(what, ask, { timeoutMs: 90_000, everyMs: 1000 });
}

const untilWell = () => untilStatus('all is well', ({ healthy }) => healthy);

test('docker lists it among its commands, and hands on requests for help', async () => {
  expect(await host.shellOk('docker --help')).toMatch(/openebs\*? +Volumes, nodes and the cluster/);
  const help = await well('--help');
  for (const command of ['cluster status', 'volume inspect', 'doctor', 'completion'])
    expect(help).toContain(command);
  expect(await host.shellOk('docker help openebs')).toBe(help.trim());
  expect(await well('events --help')).toContain('--since TIME');
  expect(await host.shellOk('docker -H unix:///run/docker.sock openebs volume ls -q')).toBe('db\nweb');
});

test('a slip ends with 2 and says what was meant', async () => {
  expect(await openebs('volume lss')).toMatchObject({
    code: 2,
    stdout: '',
    stderr: expect.stringContaining('did you mean ls?') as unknown,
  });
});

test('volumes are listed, filtered and shown', async () => {
  const lines = (await well('volume ls')).split('\n');
  expect(lines[0]).toMatch(/^NAME +STATE +SIZE +FS +DATA ON +ATTACHED TO/);
  expect(lines[1]).toMatch(/^db +ready +1 GiB +ext4 +cli +cli$/);
  expect(lines[2]).toMatch(/^web +ready +2 GiB +xfs +cli$/);
  expect(await well('volume ls -q --filter fs=xfs')).toBe('web\n');
  expect(await well('volume ls -q --filter attached=cli')).toBe('db\n');
  const { id, iqn } = await statusOf(host, 'db');
  const shown = await well('volume inspect db');
  for (const fact of [id, iqn, '1 GiB', 'mounts here   1']) expect(shown).toContain(fact);
  expect(await json('volume inspect db')).toMatchObject([{ name: 'db', status: { id } }]);
  const absent = await openebs('volume inspect dbb');
  expect(absent).toMatchObject({ code: 1, stderr: 'there is no volume "dbb"; did you mean db?\n' });
});

test('nodes are listed and shown, this host marked', async () => {
  const self = await host.ok('info', '--format', '{{.ID}}');
  expect(await well('node ls')).toMatch(new RegExp(`\\n${self} \\* +cli +alive +127\\.0\\.0\\.1 +\\d+\\.`));
  expect(await json('node inspect cli')).toMatchObject([{ id: self, self: true, state: 'alive' }]);
  expect(await openebs('node inspect other')).toMatchObject({ code: 1 });
});

test('events are shown, by type, action and object', async () => {
  await runOn(host, 'web', 'true');
  await waitFor('the journal has the start', async () => {
    const { stdout } = await openebs('events --since 10m --type container --action start --actor user');
    return /container +start +user +image=lab/.test(stdout);
  });
  const { stdout } = await openebs('events --type volume --format json');
  const events = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; actor: string });
  expect(new Set(events.map(({ type }) => type))).toEqual(new Set(['volume']));
  expect(events.map(({ actor }) => actor)).toContain('web');
  expect(await openebs('events --since tomorrow')).toMatchObject({ code: 2 });
});

test('versions of both sides are told', async () => {
  expect(await well('version')).toMatch(/^docker openebs +\d+\.\d+\.\d+\nplugin +\d+\.\d+\.\d+ on node /);
});

test("docker's completion, where its client asks plugins, and ours know commands and volumes", async () => {
  expect(await well('__complete volume inspect d')).toBe('db\n:4\n');
  const script = await well('completion bash');
  const typed = `COMP_WORDS=(docker openebs volume inspect w); COMP_CWORD=4; __docker_openebs; echo "\${COMPREPLY[*]}"`;
  expect((await host.shell(`bash -s`, { input: `${script}\n${typed}\n` })).stdout).toBe('web\n');
});

describe('the status of the cluster', () => {
  test('is well on a host that is', async () => {
    await untilWell();
    const status = await well('cluster status');
    expect(status).toMatch(/^etcd +answers in \d+ ms: https:\/\/127\.0\.0\.1:23790 \(run by the plugin\)$/m);
    expect(status).toMatch(/^nodes +1: 1 alive$/m);
    expect(status).toMatch(/^volumes +2: 2 ready; 1 attached$/m);
    expect(status).toMatch(/^registrator +ready: 3 policies, \d+ keys/m);
    expect(status).toContain('All is well.');
  });

  test('names an etcd that stands still, what goes on meanwhile, and is well when it is back', async () => {
    await host.ok('pause', 'openebs-etcd');
    try {
      const status = await openebs('cluster status');
      expect(status.code).toBe(1);
      expect(status.stdout).toMatch(/^etcd +NOT USABLE/m);
      expect(status.stdout).toMatch(
        /^ {2}etcd: etcd at https:\/\/127\.0\.0\.1:23790 .*\n {6}meanwhile: .*\n {6}to do: .*docker logs openebs-etcd/m,
      );
      expect(status.stdout).toMatch(/^volumes +2: 2 ready; 1 attached/m);
      const nodes = await openebs('node ls');
      expect(nodes).toMatchObject({
        code: 0,
        stderr: expect.stringContaining('nobody can tell who is alive') as unknown,
      });
    } finally {
      await host.ok('unpause', 'openebs-etcd');
    }
    await untilWell();
  });

  test('names a volume whose data is missing, and is well when that is back', async () => {
    const file = poolFile(host, await statusOf(host, 'web'));
    renameSync(file, `${file}.away`);
    try {
      const { findings } = await untilStatus('it is told', (status) => !status.healthy);
      expect(findings.map(({ object }) => object)).toContain('volume web');
      const status = await openebs('cluster status');
      expect(status.code).toBe(1);
      expect(status.stdout).toMatch(/^ {2}volume web: ready, its data on cli \(this host\): .*disk\.img/m);
      expect(await well('volume ls -q --filter troubled=true')).toBe('web\n');
    } finally {
      renameSync(`${file}.away`, file);
    }
    await untilWell();
    await runOn(host, 'web', 'true');
  });
});

interface Doctor {
  readonly healthy: boolean;
  readonly checks: readonly { readonly name: string; readonly state: string; readonly found: string }[];
}

async function checks(on: LabHost): Promise<ReadonlyMap<string, string>> {
  const { stdout } = await on.shell('docker openebs doctor --format json');
  const { checks: found } = JSON.parse(stdout) as Doctor;
  return new Map(found.map(({ name, state, found: what }) => [name, `${state} ${what}`]));
}

describe('the doctor', () => {
  test('finds a host fit, and knows ports of ours from those of others', async () => {
    const found = await checks(host);
    for (const [name, what] of found)
      if (name !== 'disk') expect([name, what]).toEqual([name, expect.stringMatching(/^ok/)]);
    expect(found.get('ports of etcd')).toBe('ok 23790 and 23791 are held by our etcd');
    expect(found.get('ports of volumes')).toMatch(/998 of 1000 free, 2 targets of ours/);
    expect(found.get('disk')).toMatch(
      /128 flushes of 2300 bytes at \/var\/lib\/openebs: half within [\d.]+ ms/,
    );
    expect((await openebs('doctor')).code).toBe(0);
    expect(await host.shellOk('ls -A /var/lib/openebs')).not.toContain('.doctor');
    const other = host.spawn('node', ['-e', "require('net').createServer().listen(14000, '127.0.0.1')"]);
    await waitFor('it is named', async () =>
      ((await checks(host)).get('ports of volumes') ?? '').includes('14000 (node, process'),
    );
    await other.stop();
  });

  test('names what a host lacks', async () => {
    const lacking = await startLabHost({
      name: 'lacking',
      images: false,
      bootScript: withCli(),
      missingDevices: ['fuse'],
    });
    try {
      const result = await lacking.shell('docker openebs doctor');
      expect(result.code).toBe(1);
      expect(result.stdout).toMatch(/^FAIL +FUSE +\/dev\/fuse is missing$/m);
      expect(result.stdout).toContain('to do: load the kernel module: modprobe fuse');
      expect(result.stdout).toMatch(/^WARN +plugin +not installed$/m);
      const status = await lacking.shell('docker openebs cluster status');
      expect(status).toMatchObject({
        code: 3,
        stdout: '',
        stderr: expect.stringContaining('the plugin openebs is not installed on this host') as unknown,
      });
      await lacking.stopEngine();
      expect((await lacking.shell('docker openebs volume ls')).stderr).toMatch(
        /neither does the Docker engine/,
      );
    } finally {
      await lacking.close();
    }
  });
});

test('a plugin that is disabled is told, with what to do', async () => {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  try {
    await waitFor('its socket is closed', async () => (await openebs('volume ls')).code === 3);
    const stderr = 'the plugin openebs is installed, but disabled: docker plugin enable openebs\n';
    expect(await openebs('volume ls')).toMatchObject({ code: 3, stdout: '', stderr });
    expect((await checks(host)).get('plugin')).toBe('warn openebs:latest, disabled');
  } finally {
    await host.ok('plugin', 'enable', 'openebs');
  }
  await untilWell();
});

test('nobody but root may ask', async () => {
  // The file of the script is for all, the socket is not.
  const { code, stderr } = await host.shell(
    `setpriv --reuid 65534 --regid 65534 --clear-groups ${folder}/docker-openebs node ls`,
  );
  expect([code, stderr]).toEqual([
    3,
    '/run/openebs/admin.sock is for root alone: run the same as root (sudo docker openebs ...)\n',
  ]);
});

test('the executable for hosts without Node does the same', async () => {
  await host.shellOk(`cp ${repository}/build/docker-openebs-static ${folder}/docker-openebs`);
  await host.shellOk(
    `mkdir /var/lib/path; for name in docker sh; do ln -s "$(command -v $name)" /var/lib/path/; done`,
  );
  const result = await host.shell('PATH=/var/lib/path; ! command -v node; docker openebs volume ls -q');
  expect(result).toMatchObject({ code: 0, stdout: 'db\nweb\n' });
});
