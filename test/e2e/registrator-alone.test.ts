/** The image of the stand-alone registrator, as README.md says to run it, on an engine without the plugin. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, type LabProcess, startLabHost } from '../support/lab.js';

const image = fileURLToPath(new URL('../../build/registrator.tar.gz', import.meta.url));
const entryPoint = '["/usr/bin/node","--max-semi-space-size=1","/app/dist/standalone/main.js"]';

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
  ...[
    '-v',
    '/var/run:/var/run',
    '-v',
    '/etc/openebs/policies:/etc/openebs/policies:ro',
    'openebs/registrator',
  ],
];

async function services(): Promise<string[]> {
  const found = await below('/openebs/services/');
  return Object.keys(found).map((key) => key.split('/')[3] ?? '');
}

it('registers what runs, with policies of a user, and tells how it is', async () => {
  await host.shellOk(`mkdir -p /etc/openebs/policies && printf %s "$POLICY" >/etc/openebs/policies/own.js`, {
    env: { POLICY: 'export const container = ({ name }) => ({ ["/test/" + name]: name });' },
  });
  await host.ok('run', '-d', '--name', 'web', '-p', '18080:80', '-e', 'SERVICE_NAME=web', 'lab');
  await host.ok(...run);
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
