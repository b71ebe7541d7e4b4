/** The image of the stand-alone registrator, as README.md says to run it, on an engine without the plugin. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { consulProgram, whyNoConsul } from '../support/consul.js';
import { waitFor } from '../support/exec.js';
import { type LabHost, type LabProcess, startLabHost } from '../support/lab.js';

const image = fileURLToPath(new URL('../../build/registrator.tar.gz', import.meta.url));
const entryPoint =
  '["/usr/bin/env","MALLOC_ARENA_MAX=2","/usr/bin/node","--max-semi-space-size=1","--max-old-space-size=512","/app/dist/standalone/main.js"]';

if (whyNoConsul !== null) console.warn(`SKIPPED: ${whyNoConsul}`);

let host: LabHost;
let etcd: LabProcess;

beforeAll(async () => {
  host = await startLabHost({ name: 'alone' });
  await host.ok('import', '--change', `ENTRYPOINT ${entryPoint}`, image, 'openebs/registrator');
  const url = 'http://127.0.0.1:2379';
  etcd = host.spawn('/usr/bin/etcd', [
    ...[
      '--data-dir',
      '/var/lib/etcd-of-the-test',
      '--listen-client-urls',
      url,
      '--advertise-client-urls',
      url,
    ],
    ...['--listen-peer-urls', 'http://127.0.0.1:2380'],
  ]);
  await waitFor('etcd answers', async () => (await host.shell(`curl -sf ${url}/health`)).code === 0);
});

afterAll(async () => {
  await etcd.stop();
  await host.close();
});

/** All keys below a prefix, from etcd itself. */
async function below(prefix: string): Promise<Record<string, string>> {
  const encode = (text: string) => Buffer.from(text).toString('base64');
  const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
  const body = JSON.stringify({ key: encode(prefix), range_end: encode(end) });
  const answer = await host.shellOk('curl -sf --data @- http://127.0.0.1:2379/v3/kv/range', { input: body });
  const decode = (text: string) => Buffer.from(text, 'base64').toString();
  const { kvs = [] } = JSON.parse(answer) as { kvs?: { key: string; value?: string }[] };
  return Object.fromEntries(kvs.map(({ key, value = '' }) => [decode(key), decode(value)]));
}

const run = [
  ...['run', '-d', '--name', 'registrator', '--network', 'host', '--read-only', '--cap-drop', 'ALL'],
  ...['-v', '/var/run:/var/run', '-v', '/var/lib/policies:/etc/openebs/policies:ro', 'openebs/registrator'],
];

async function services(): Promise<string[]> {
  const found = await below('/openebs/services/');
  return Object.keys(found).map((key) => key.split('/')[3] ?? '');
}

it('registers what runs, with policies of a user, and tells how it is', async () => {
  await host.shellOk(`mkdir -p /var/lib/policies && printf %s "$POLICY" >/var/lib/policies/own.js`, {
    env: { POLICY: 'export const container = ({ name }) => ({ ["/test/" + name]: name });' },
  });
  await host.ok('run', '-d', '--name', 'web', '-p', '18080:80', '-e', 'SERVICE_NAME=web', 'lab');
  await host.ok(...run, '--resync', '10s');
  await waitFor('the service is there', async () => (await services()).includes('web'), {
    timeoutMs: 30_000,
  });
  await waitFor(
    'it is ready',
    async () => (await host.shell('curl -sf http://127.0.0.1:9464/readyz')).code === 0,
    {
      timeoutMs: 30_000,
    },
  );
  expect(await below('/test/')).toMatchObject({ '/test/web': 'web', '/test/registrator': 'registrator' });
  expect(await host.shellOk('curl -sf http://127.0.0.1:9464/metrics')).toContain(
    'openebs_registrator_ready 1',
  );
  const health = await host.shellOk('curl -sf http://127.0.0.1:9464/v1/registry');
  expect(JSON.parse(health)).toMatchObject({ ready: true });
});

it('shows what would change, and what a policy makes of a container', async () => {
  const dry = await host.ok(
    ...['exec', 'registrator', '/usr/bin/node', '/app/dist/standalone/main.js', '--dry-run'],
  );
  expect(dry).toContain('0 to make, 0 to change, 0 to remove, 0 of somebody else');
  const other = await host.ok(
    ...['exec', 'registrator', '/usr/bin/node', '/app/dist/standalone/main.js', '--dry-run'],
    ...['--policies', 'skydns', '--instance', 'another'],
  );
  expect(other).toMatch(/^\+ \/skydns\/local\/skydns\/\w+ = \{"host":"/m);
  expect(await below('/skydns/')).toEqual({});
  const tested = await host.shellOk(
    'docker inspect web | docker run -i --rm openebs/registrator policy test services --input - --address 192.0.2.7',
    { env: { DOCKER_HOST: `unix://${host.socket}` } },
  );
  expect(tested).toContain('"address":"192.0.2.7","port":18080');
});

it("has Swarm's objects where the engine is a manager", async () => {
  const kinds = async () => {
    const found = await below('/openebs/objects/');
    return new Set(Object.keys(found).map((key) => key.split('/')[4] ?? ''));
  };
  expect([...(await kinds())].toSorted()).toEqual(['container', 'daemon', 'image', 'network']);
  await host.ok('swarm', 'init', '--advertise-addr', '127.0.0.1');
  await host.shellOk('echo hidden | docker secret create s1 - && echo shown | docker config create c1 -', {
    env: { DOCKER_HOST: `unix://${host.socket}` },
  });
  await host.ok('service', 'create', '--detach', '--name', 'web2', '--replicas', '0', 'lab');
  await waitFor(
    'all kinds are there',
    async () => {
      const found = await kinds();
      return ['node', 'secret', 'config', 'service'].every((kind) => found.has(kind));
    },
    { timeoutMs: 30_000 },
  );
  const found = JSON.stringify(await below('/openebs/objects/'));
  expect(found).toContain('"s1');
  expect(found).not.toContain('hidden');
  await host.ok('service', 'rm', 'web2');
  await host.ok('secret', 'rm', 's1');
  await waitFor('what was removed is gone', async () => {
    const left = await kinds();
    return !left.has('secret') && !left.has('service') && left.has('config');
  });
  await host.ok('swarm', 'leave', '--force');
  // No event tells of it.
  await waitFor('all of Swarm is gone', async () => !(await kinds()).has('config'), { timeoutMs: 30_000 });
});

it('hands over to the next, and withdraws where it is told to', async () => {
  await host.ok('rm', '-f', 'registrator');
  expect(await services()).toContain('web');
  await host.ok(...run, '--at-stop', 'withdraw');
  await waitFor(
    'it is ready',
    async () => (await host.shell('curl -sf http://127.0.0.1:9464/readyz')).code === 0,
    {
      timeoutMs: 30_000,
    },
  );
  await host.ok('stop', 'registrator');
  expect(await host.ok('inspect', '--format', '{{.State.ExitCode}}', 'registrator')).toBe('0');
  expect(await below('/openebs/')).toEqual({});
  expect(await below('/test/')).toEqual({});
  await host.ok('rm', 'registrator');
});

it.skipIf(whyNoConsul !== null)('keeps services at a Consul agent, with their checks', async () => {
  const agent = host.spawn(consulProgram, [
    ...['agent', '-server', '-bootstrap-expect=1', '-data-dir=/var/lib/consul-of-the-test'],
    ...['-bind=127.0.0.1', '-disable-host-node-id', '-node=test', '-log-level=warn'],
  ]);
  type Listed = Record<
    string,
    { Service: string; Port: number; Tags: string[]; Meta: Record<string, string> }
  >;
  const listed = async () =>
    JSON.parse(await host.shellOk('curl -sf http://127.0.0.1:8500/v1/agent/services')) as Listed;
  await waitFor('the agent has a leader', async () =>
    /\d/.test((await host.shell('curl -sf http://127.0.0.1:8500/v1/status/leader')).stdout),
  );
  await host.shellOk('mkdir -p /var/lib/policies && echo $JSON >/var/lib/policies/services.json', {
    env: { JSON: '{"layout":"consul","tags":"docker"}' },
  });
  await host.ok(
    ...['run', '-d', '--name', 'checked', '-p', '18085:85', '-l', 'SERVICE_NAME=checked'],
    ...['-l', 'SERVICE_CHECK_TCP=true', '-l', 'SERVICE_REGION=eu', 'lab'],
  );
  await host.ok(...run, '--etcd-endpoints', 'none', '--consul-address', 'http://127.0.0.1:8500');
  const named = async () => Object.values(await listed()).find(({ Service }) => Service === 'checked');
  await waitFor('it is registered', async () => (await named()) !== undefined, { timeoutMs: 30_000 });
  expect(await named()).toMatchObject({ Port: 18085, Tags: ['docker'], Meta: { region: 'eu' } });
  expect(await host.shellOk('curl -sf http://127.0.0.1:8500/v1/agent/checks')).toContain('"Type":"tcp"');
  await host.ok('pause', 'checked');
  await waitFor('it is gone while paused', async () => (await named()) === undefined);
  await host.ok('rm', '-f', 'registrator', 'checked');
  await agent.stop();
});

it('says what is wrong with its settings, and exits', async () => {
  const wrong = await host.docker(
    'run',
    '--rm',
    'openebs/registrator',
    '--lease',
    '30',
    '--etcd-endpoints',
    'x',
  );
  expect(wrong.code).toBe(64);
  expect(wrong.stderr).toContain('LEASE');
  expect(wrong.stderr).toContain('ETCD_ENDPOINTS');
  const help = await host.docker('run', '--rm', 'openebs/registrator', '--help');
  expect(help.code).toBe(0);
  expect(help.stdout).toContain('--consul-address VALUE, CONSUL_ADDRESS');
});
