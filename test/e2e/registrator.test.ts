/** The registrator in the installed plugin: what runs on a real engine, in the plugin's own etcd. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { execOk, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { askAdmin, createVolume, recordsOf, startProductHost, statusOf } from '../support/product.js';

/** Of the data plane: it has Perl. */
const image = resolve(import.meta.dirname, '../../build/image.tar.gz');

let host: LabHost;
let engineId: string;

beforeAll(async () => {
  host = await startProductHost({ name: 'registrator' });
  engineId = await host.ok('info', '--format', '{{.ID}}');
});

afterAll(async () => {
  await host.close();
});

type Values = Record<string, unknown>;

/** Below a prefix, without it. */
async function below(prefix: string): Promise<Values> {
  const found = await recordsOf(host, prefix);
  return Object.fromEntries(found.map(({ key, value }) => [key.slice(prefix.length), value]));
}

async function settles(what: string, prefix: string, matches: (values: Values) => boolean): Promise<Values> {
  let now: Values = {};
  await waitFor(
    what,
    async () => {
      now = await below(prefix);
      return matches(now);
    },
    { timeoutMs: 30_000, everyMs: 200 },
  ).catch((reason: unknown) => {
    throw new Error(`${String(reason)}\nbelow ${prefix}: ${JSON.stringify(now, null, 2)}`);
  });
  return now;
}

/** A container that does nothing. */
const startHere = (name: string, options: readonly string[]) =>
  host.ok('run', '-d', '--name', name, ...options, 'lab', 'sleep', '100000');

const inventory = (kind: string) => `/openebs/objects/${engineId}/${kind}/`;

function policyFile(name: string, content: string | object): void {
  const file = join(host.lib, 'openebs/policies', name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
}

const removePolicy = (name: string) => {
  rmSync(join(host.lib, 'openebs/policies', name), { force: true });
};

/** A plugin that does nothing but listen, as an engine wants it of each. */
async function makeSmallPlugin(): Promise<void> {
  const folder = join(host.dir, 'small');
  mkdirSync(join(folder, 'rootfs'), { recursive: true });
  await execOk('tar', ['-C', join(folder, 'rootfs'), '-xzf', image]);
  const listen = 'IO::Socket::UNIX->new(Listen => 1, Local => "/run/docker/plugins/small.sock")';
  const config = {
    description: 'listens',
    entrypoint: ['perl', '-MIO::Socket::UNIX', '-e', `$SIG{TERM} = sub { exit }; $s = ${listen}; sleep`],
    interface: { types: ['docker.none/1.0'], socket: 'small.sock' },
    linux: { capabilities: [] },
    network: { type: 'none' },
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  await host.ok('plugin', 'create', 'small', folder);
  await host.ok('plugin', 'enable', 'small');
}

interface Policy {
  readonly name: string;
  readonly running: boolean;
  readonly problem: string | null;
}

async function policies(): Promise<Policy[]> {
  return (JSON.parse(await askAdmin(host, '/v1/registry')) as { policies: Policy[] }).policies;
}

describe('what runs here', () => {
  it('is in the inventory, each kind of object that an engine has', async () => {
    await host.ok('network', 'create', 'net1');
    await startHere('plain', []);
    await host.ok('volume', 'create', 'local1');
    const containers = await settles('the container is there', inventory('container'), (values) =>
      JSON.stringify(values).includes('"plain"'),
    );
    const id = await host.ok('inspect', '--format', '{{.Id}}', 'plain');
    expect(containers[id]).toMatchObject({ kind: 'container', name: 'plain', running: true, health: 'none' });
    await settles('the volume is there', inventory('volume'), (values) => 'local1' in values);
    await settles('the network is there', inventory('network'), (values) =>
      JSON.stringify(values).includes('"net1"'),
    );
    await settles('the image is there', inventory('image'), (values) =>
      JSON.stringify(values).includes('lab'),
    );
    await settles('the plugin is there', inventory('plugin'), (values) =>
      JSON.stringify(values).includes('openebs:latest'),
    );
    expect(Object.keys(await below(inventory('daemon')))).toEqual([encodeURIComponent(engineId)]);

    await host.ok('rename', 'plain', 'renamed');
    await settles('its new name', inventory('container'), (values) =>
      JSON.stringify(values).includes('"renamed"'),
    );
    await host.ok('tag', 'lab', 'other:1');
    await settles('the tag', inventory('image'), (values) => JSON.stringify(values).includes('other:1'));
    await host.ok('rm', '-f', 'renamed');
    await host.ok('volume', 'rm', 'local1');
    await host.ok('network', 'rm', 'net1');
    await settles('the container is gone', inventory('container'), (values) => !(id in values));
    await settles('the volume is gone', inventory('volume'), (values) => !('local1' in values));
    await settles(
      'the network is gone',
      inventory('network'),
      (values) => !JSON.stringify(values).includes('net1'),
    );
    await host.ok('rmi', 'other:1');
  });

  it('has VSMs with portal and health', async () => {
    await createVolume(host, 'db');
    await startHere('user', ['-v', 'db:/data']);
    const { target, iqn, id } = await statusOf(host, 'db');
    const values = await settles(
      'the VSM has an initiator',
      '/openebs/vsms/',
      ({ db }) => ((db as { initiators?: string[] } | undefined)?.initiators ?? []).length > 0,
    );
    expect(values['db']).toMatchObject({
      volume: 'db',
      node: engineId,
      portal: target,
      iqn,
      volumeId: id,
      state: 'ready',
    });
    await host.ok('kill', `openebs-target-${id}`);
    await settles(
      'the VSM is down',
      '/openebs/vsms/',
      ({ db }) => (db as { state: string } | undefined)?.state !== 'ready',
    );
    await settles(
      'the VSM is back',
      '/openebs/vsms/',
      ({ db }) => (db as { state: string } | undefined)?.state === 'ready',
    );
    await host.ok('rm', '-f', 'user');
    await host.ok('volume', 'rm', 'db');
    await settles('the VSM is gone', '/openebs/vsms/', (found) => !('db' in found));
  });
});

describe('services', () => {
  const service = (values: Values, name: string) =>
    Object.entries(values).find(([key]) => key.startsWith(`${name}/`))?.[1] as
      { port: number; address: string } | undefined;

  it('are there while their container runs, is healthy, is not paused and is not being stopped', async () => {
    const health = ['--health-cmd', 'test -e /ok', '--health-interval', '1s', '--health-retries', '1'];
    const publish = ['-p', '18080:80', '-e', 'SERVICE_NAME=web', '-l', 'SERVICE_TAGS=a,b'];
    await startHere('web', [...publish, ...health]);
    await settles('it is in the inventory', inventory('container'), (values) =>
      JSON.stringify(values).includes('"web"'),
    );
    expect(service(await below('/openebs/services/'), 'web')).toBeUndefined();
    await host.ok('exec', 'web', 'touch', '/ok');
    const values = await settles(
      'it is healthy',
      '/openebs/services/',
      (found) => service(found, 'web') !== undefined,
    );
    expect(service(values, 'web')).toMatchObject({ address: '127.0.0.1', port: 18080, tags: ['a', 'b'] });
    await host.ok('pause', 'web');
    await settles('it is paused', '/openebs/services/', (found) => service(found, 'web') === undefined);
    await host.ok('unpause', 'web');
    await settles('it goes on', '/openebs/services/', (found) => service(found, 'web') !== undefined);
    await host.ok('exec', 'web', 'rm', '/ok');
    await settles('it is not healthy', '/openebs/services/', (found) => service(found, 'web') === undefined);
    await host.ok('rm', '-f', 'web');
  });

  it('go when their container is told to stop, while it still runs', async () => {
    await host.ok(
      ...['run', '-d', '--name', 'slow', '-p', '18081:81', '--stop-timeout', '20'],
      ...['lab', 'sh', '-c', 'trap "sleep 8; exit 0" TERM; while :; do sleep 0.2; done'],
    );
    await settles('it is there', '/openebs/services/', (found) => service(found, 'lab') !== undefined);
    const stopping = host.docker('stop', 'slow');
    await settles('it drains', '/openebs/services/', (found) => service(found, 'lab') === undefined);
    expect(await host.ok('inspect', '--format', '{{.State.Running}}', 'slow')).toBe('true');
    await stopping;
    await host.ok('rm', '-f', 'slow');
  });
});

describe('policies', () => {
  const own = `
    export const config = { properties: { name: { type: 'string', default: 'x' } }, additionalProperties: false };
    export function container({ name, container, inspect }, config) {
      const net = container.networks.late;
      return { ['/test/' + config.name + '/' + name]: { ip: net ? net.ip : 'none' }, ['/test/image/' + name]: [inspect.Config.Image] };
    }
    export function volume({ name, inspect }) { return { ['/test/volumes/' + name]: inspect.Driver }; }`;

  it('of a user run in the plugin, follow their files, and see a network that comes later', async () => {
    policyFile('own.js', own);
    policyFile('own/a.json', {});
    policyFile('own/b.json', { name: 'y' });
    await host.ok('network', 'create', 'late');
    await startHere('c1', []);
    await host.ok('volume', 'create', 'v1');
    await settles(
      'both instances',
      '/test/',
      (found) => 'x/c1' in found && 'y/c1' in found && 'volumes/v1' in found,
    );
    await host.ok('network', 'connect', 'late', 'c1');
    const values = await settles('the address is there', '/test/', (found) =>
      /"ip":"\d+\.\d+\.\d+\.\d+"/.test(JSON.stringify(found['x/c1'])),
    );
    expect(values['image/c1']).toEqual(['lab']);
    removePolicy('own/b.json');
    await settles('one instance is gone', '/test/', (found) => 'x/c1' in found && !('y/c1' in found));
    removePolicy('own/a.json');
    await settles('all is gone', '/test/', (found) => Object.keys(found).length === 0);
    removePolicy('own.js');
    await host.ok('rm', '-f', 'c1');
    await host.ok('volume', 'rm', 'v1');
    await host.ok('network', 'rm', 'late');
  });

  const seen = (kind: string, more: string) =>
    `export const ${kind} = ({ id, name, inspect }) => ({ ['/six/${kind}/' + name]: { id, ...(${more}) } });`;
  const six = [
    seen('container', '{ of: inspect.Id, networks: Object.keys(inspect.NetworkSettings.Networks).sort() }'),
    seen('image', '{ of: inspect.Id, tags: inspect.RepoTags }'),
    seen('plugin', '{ of: inspect.Id, enabled: inspect.Enabled }'),
    seen('volume', '{ of: inspect.Name, driver: inspect.Driver }'),
    seen('network', '{ of: inspect.Id, containers: Object.values(inspect.Containers).map((c) => c.Name) }'),
    seen('daemon', '{ of: inspect.ID, labels: inspect.Labels }'),
  ].join('\n');
  const sees = (what: string, key: string, expected: object | undefined) =>
    settles(what, '/six/', ({ [key]: found }) =>
      expected ? JSON.stringify(found) === JSON.stringify(expected) : found === undefined,
    );

  it('of a user see id, name and inspection of each kind of object, and what changes of them', async () => {
    await makeSmallPlugin();
    const files = join(host.dir, 'six');
    mkdirSync(files);
    writeFileSync(join(files, 'file'), 'six');
    await host.ok('network', 'create', 'six-net');
    await startHere('six', []);
    await host.ok('volume', 'create', 'six-volume');
    await host.shellOk(`tar -C ${files} -cf ${files}.tar .`);
    await host.ok('import', `${files}.tar`, 'six:1');
    policyFile('six.js', six);

    const idOf = async (kind: string, name: string) =>
      host.ok(kind, 'inspect', '--format', kind === 'plugin' ? '{{.ID}}' : '{{.Id}}', name);
    const container = await idOf('container', 'six');
    const network = await idOf('network', 'six-net');
    const plugin = await idOf('plugin', 'small');
    const image = await idOf('image', 'six:1');
    await sees('the container', 'container/six', { id: container, of: container, networks: ['bridge'] });
    await sees('the image', 'image/six:1', { id: image, of: image, tags: ['six:1'] });
    await sees('the plugin', 'plugin/small:latest', { id: plugin, of: plugin, enabled: true });
    const volume = { id: 'six-volume', of: 'six-volume', driver: 'local' };
    await sees('the volume', 'volume/six-volume', volume);
    await sees('the network', 'network/six-net', { id: network, of: network, containers: [] });
    await sees('the daemon', 'daemon/registrator', { id: engineId, of: engineId, labels: [] });

    await host.ok('network', 'connect', 'six-net', 'six');
    const networks = ['bridge', 'six-net'];
    await sees('its second network', 'container/six', { id: container, of: container, networks });
    await sees('its container', 'network/six-net', { id: network, of: network, containers: ['six'] });
    await host.ok('plugin', 'disable', 'small');
    await sees('it is disabled', 'plugin/small:latest', { id: plugin, of: plugin, enabled: false });
    await host.ok('plugin', 'enable', 'small');
    await sees('it is enabled', 'plugin/small:latest', { id: plugin, of: plugin, enabled: true });
    for (const labels of [['zone=eu'], ['zone=us', 'disk=fast']]) {
      const file = JSON.stringify({ labels });
      await host.shellOk(`echo '${file}' >/etc/docker/daemon.json; kill -HUP "$(cat /run/docker.pid)"`);
      await sees('its labels', 'daemon/registrator', { id: engineId, of: engineId, labels });
    }
    await host.shellOk('rm /etc/docker/daemon.json');

    await host.ok('tag', 'six:1', 'six:2');
    await sees('two tags', 'image/six:1', { id: image, of: image, tags: ['six:1', 'six:2'] });
    await host.ok('rmi', 'six:2');
    await sees('one tag', 'image/six:1', { id: image, of: image, tags: ['six:1'] });
    await host.ok('save', '-o', `${files}.saved`, 'six:1');
    await host.ok('rmi', 'six:1');
    await sees('the image is gone', 'image/six:1', undefined);
    await host.ok('load', '-i', `${files}.saved`);
    await sees('it is loaded', 'image/six:1', { id: image, of: image, tags: ['six:1'] });

    await host.ok('rm', '-f', 'six');
    await host.ok('network', 'rm', 'six-net');
    await host.ok('volume', 'rm', 'six-volume');
    await host.ok('rmi', 'six:1');
    await host.ok('plugin', 'rm', '-f', 'small');
    for (const key of ['container/six', 'network/six-net', 'volume/six-volume', 'image/six:1'])
      await sees(`${key} is gone`, key, undefined);
    await sees('the plugin is gone', 'plugin/small:latest', undefined);
    removePolicy('six.js');
    await settles('all is gone', '/six/', (found) => Object.keys(found).length === 0);
  });

  it('that are bad are told, and harm none of the others', async () => {
    await startHere('c2', []);
    policyFile('loops.js', 'export function container() { for (;;); }');
    policyFile('throws.js', 'export function container() { throw new Error("so be it"); }');
    policyFile('mutates.js', 'export function container(c) { c.name = "x"; return {}; }');
    policyFile('nonsense.js', 'export function container() { return "text"; }');
    policyFile('records.js', 'export function container() { return { "/openebs/volumes/x": 1 }; }');
    policyFile('broken.js', 'export function (');
    policyFile('skydns/broken.json', '{"domain":');
    policyFile('good.js', 'export const container = ({ name }) => ({ ["/test/good/" + name]: name });');
    await settles('the good one', '/test/', (found) => 'good/c2' in found);
    const problems = async () =>
      Object.fromEntries((await policies()).map(({ name, problem }) => [name, problem ?? '']));
    await waitFor('all are told', async () => (await problems())['records/records'] !== '', {
      timeoutMs: 30_000,
    });
    const dir = '/var/lib/openebs/policies';
    expect(await problems()).toMatchObject({
      'loops/loops': expect.stringContaining('took longer than 100 ms') as string,
      'throws/throws': expect.stringContaining('so be it') as string,
      'mutates/mutates': expect.stringContaining('read-only') as string,
      'nonsense/nonsense': expect.stringContaining('a string') as string,
      'records/records': expect.stringContaining("the product's own records") as string,
      [`${dir}/broken.js`]: expect.stringContaining('SyntaxError') as string,
      'skydns/broken': expect.stringContaining('not JSON') as string,
      'good/good': '',
      'objects/objects': '',
    });
    expect(host.log()).toContain('so be it');
    for (const name of ['loops', 'throws', 'mutates', 'nonsense', 'records', 'broken', 'good'])
      removePolicy(`${name}.js`);
    removePolicy('skydns/broken.json');
    await settles('the good one is gone', '/test/', (found) => Object.keys(found).length === 0);
    await host.ok('rm', '-f', 'c2');
  });
});

describe('the plugin', () => {
  it('takes its registrations over after it was killed, and withdraws what has gone meanwhile', async () => {
    await startHere('stays', ['-p', '18090:90', '-e', 'SERVICE_NAME=stays']);
    await startHere('goes', ['-p', '18091:91', '-e', 'SERVICE_NAME=goes']);
    await settles('both', '/openebs/services/', (found) => Object.keys(found).length === 2);
    await host.stopEngine({ signal: 'SIGKILL' });
    await host.startEngine();
    await host.docker('rm', '-f', 'goes');
    await settles('one', '/openebs/services/', (found) =>
      Object.keys(found).every((key) => key.startsWith('stays/')),
    );
    await waitFor(
      'it is ready',
      async () => (JSON.parse(await askAdmin(host, '/v1/registry')) as { ready: boolean }).ready,
    );
    await host.docker('rm', '-f', 'stays');
    await settles('none', '/openebs/services/', (found) => Object.keys(found).length === 0);
  });

  it('tells Prometheus, and the journal by time', async () => {
    const metrics = await askAdmin(host, '/metrics');
    expect(metrics).toMatch(/^openebs_events_total\{[^}]*type="container"[^}]*\} [1-9]/m);
    expect(metrics).toContain('openebs_healthy 1');
    await host.ok('volume', 'create', 'told');
    await host.ok('volume', 'rm', 'told');
    await waitFor('the event is in the journal', async () => {
      const text = await askAdmin(host, '/v1/events?since=5m&type=volume&actor=told');
      const { events } = JSON.parse(text) as { events: { action: string }[] };
      return events.map(({ action }) => action).join() === 'create,destroy';
    });
    const later = await askAdmin(host, '/v1/events?since=2999-01-01T00:00:00Z&type=volume').catch(String);
    expect(later).toMatch(/"events":\[\]|400/);
  });
});
