import { describe, expect, it } from 'vitest';
import { instanceOf } from '../../../../src/registrator/policies/built-in/built-in.js';
import { tagsOf } from '../../../../src/registrator/policies/built-in/services/metadata.js';
import { services } from '../../../../src/registrator/policies/built-in/services/services.js';
import { keysOf } from '../../../../src/registrator/policies/policy.js';
import { subjectOf } from '../../../../src/registrator/policies/subject.js';

const node = { id: 'n1', hostname: 'hostname', address: '192.168.1.102' };

interface Given {
  readonly name?: string;
  readonly image?: string;
  readonly env?: readonly string[];
  readonly labels?: Readonly<Record<string, string>>;
  /** `6379/tcp` -> bindings, `ip:port` each; none: exposed only. */
  readonly ports?: Readonly<Record<string, readonly string[]>>;
  readonly networks?: Readonly<Record<string, object>>;
  readonly state?: object;
  readonly mode?: string;
}

async function registered(given: Given, config: object = {}): Promise<Record<string, unknown>> {
  const ports = given.ports ?? {};
  const bindings = Object.entries(ports).map(([port, at]) => {
    const parsed = at.map((one) => {
      const colon = one.lastIndexOf(':');
      return { HostIp: one.slice(0, colon), HostPort: one.slice(colon + 1) };
    });
    return [port, parsed.length === 0 ? null : parsed];
  });
  const inspect = {
    Name: `/${given.name ?? 'redis.0'}`,
    Config: {
      Image: given.image ?? 'progrium/redis',
      Env: given.env ?? [],
      Labels: given.labels ?? {},
      ExposedPorts: Object.fromEntries(Object.keys(ports).map((port) => [port, {}])),
    },
    State: given.state ?? { Running: true },
    HostConfig: { NetworkMode: given.mode ?? 'default' },
    NetworkSettings: {
      Ports: Object.fromEntries(bindings) as unknown,
      Networks: given.networks ?? { bridge: { IPAddress: '172.17.0.2' } },
    },
  };
  const policy = instanceOf(services, 'test', config);
  const keys = keysOf(await policy.run(subjectOf('container', 'c1', inspect, node)));
  return Object.fromEntries(
    [...keys].map(([key, value]) => [key, value.startsWith('{') ? JSON.parse(value) : value]),
  );
}

const plain = { layout: 'address', prefix: '/p' };
const redis: Given = { ports: { '6379/tcp': ['0.0.0.0:10000'] } };
const nginx: Given = {
  name: 'nginx.0',
  image: 'nginx',
  ports: { '443/tcp': ['0.0.0.0:4443'], '80/tcp': ['0.0.0.0:8000'] },
};

describe('services of containers', () => {
  it('are named after the image, with the address where they are published', async () => {
    expect(await registered(redis, plain)).toEqual({
      '/p/redis/hostname:redis.0:6379': '192.168.1.102:10000',
    });
    expect(await registered({ ...redis, image: 'host:5000/a/redis:7@sha256:01' }, plain)).toEqual({
      '/p/redis/hostname:redis.0:6379': '192.168.1.102:10000',
    });
  });

  it('have the name, tags and attributes that the container says', async () => {
    const env = ['SERVICE_NAME=db', 'SERVICE_TAGS=master,backups', 'SERVICE_REGION=us2'];
    expect(await registered({ ...redis, env })).toEqual({
      '/openebs/services/db/hostname:redis.0:6379': {
        id: 'hostname:redis.0:6379',
        name: 'db',
        address: '192.168.1.102',
        port: 10000,
        protocol: 'tcp',
        tags: ['master', 'backups'],
        attributes: { region: 'us2' },
      },
    });
  });

  it('of several ports have the port in their names, but where a port has its own', async () => {
    expect(Object.keys(await registered(nginx, plain)).toSorted()).toEqual([
      '/p/nginx-443/hostname:nginx.0:443',
      '/p/nginx-80/hostname:nginx.0:80',
    ]);
    const env = [
      'SERVICE_443_NAME=https',
      'SERVICE_443_ID=https.12345',
      'SERVICE_443_SNI=enabled',
      'SERVICE_80_NAME=http',
      'SERVICE_TAGS=www',
    ];
    expect(await registered({ ...nginx, env }, plain)).toEqual({
      '/p/https/https.12345': '192.168.1.102:4443',
      '/p/http/hostname:nginx.0:80': '192.168.1.102:8000',
    });
    const all = await registered({ ...nginx, env }, { prefix: '/p' });
    expect(all['/p/https/https.12345']).toMatchObject({ tags: ['www'], attributes: { sni: 'enabled' } });
    expect(all['/p/http/hostname:nginx.0:80']).toMatchObject({ tags: ['www'], attributes: {} });
  });

  it.each([
    ['a label before the environment', { env: ['SERVICE_NAME=a'], labels: { SERVICE_NAME: 'b' } }, 'b'],
    ['a port before all', { labels: { SERVICE_NAME: 'a' }, env: ['SERVICE_6379_NAME=b'] }, 'b'],
    ['a protocol before a port', { env: ['SERVICE_6379_TCP_NAME=b', 'SERVICE_6379_NAME=a'] }, 'b'],
    ['not those of another port', { env: ['SERVICE_80_NAME=b', 'SERVICE_NAME=a'] }, 'a'],
    ['not those of another protocol', { env: ['SERVICE_6379_UDP_NAME=b', 'SERVICE_NAME=a'] }, 'a'],
  ])('count %s', async (_, said, name) => {
    expect(Object.keys(await registered({ ...redis, ...said }, plain))).toEqual([
      `/p/${name}/hostname:redis.0:6379`,
    ]);
  });

  it.each([
    ['ignored, whatever the value', { ...redis, env: ['SERVICE_IGNORE=false'] }, {}],
    ['ignored on their port', { ...redis, labels: { SERVICE_6379_IGNORE: '1' } }, {}],
    ['without a name, when only named ones are wanted', redis, { explicit: true }],
    ['exposed, not published', { ports: { '6379/tcp': [] } }, {}],
    ['stopped', { ...redis, state: { Running: false } }, {}],
    ['paused', { ...redis, state: { Running: true, Paused: true } }, {}],
    ['being stopped', { ...redis, state: { Running: true, Stopping: true } }, {}],
    [
      'starting, by their health check',
      { ...redis, state: { Running: true, Health: { Status: 'starting' } } },
      {},
    ],
    ['unhealthy', { ...redis, state: { Running: true, Health: { Status: 'unhealthy' } } }, {}],
  ])('are not there when they are %s', async (_, given, config) => {
    expect(await registered(given, config)).toEqual({});
  });

  it("do not tell what is nobody else's business", async () => {
    const env = [
      'SERVICE_NAME=db',
      'SERVICE_PASSWORD=x',
      'SERVICE_6379_AUTH_TOKEN=x',
      'SERVICE_URL=postgres://u:p@db/x',
      'SERVICE_REGION=eu',
      'SERVICE_DOCS=https://example.org/a@b',
    ];
    const found = Object.values(await registered({ ...redis, env }));
    expect(found).toMatchObject([{ attributes: { region: 'eu', docs: 'https://example.org/a@b' } }]);
    expect(JSON.stringify(found)).not.toMatch(/password|token|postgres/);
  });

  it('are there when they are healthy, or health is not asked for', async () => {
    const state = (Status: string) => ({ ...redis, state: { Running: true, Health: { Status } } });
    expect(await registered(state('healthy'), plain)).not.toEqual({});
    expect(await registered(state('unhealthy'), { ...plain, healthyOnly: false })).not.toEqual({});
  });

  it('of UDP say so', async () => {
    const found = await registered({
      image: 'dns',
      name: 'dns',
      ports: { '53/udp': ['0.0.0.0:53'], '53/tcp': ['0.0.0.0:53'] },
    });
    expect(Object.values(found)).toMatchObject([
      { id: 'hostname:dns:53', name: 'dns-53', tags: [] },
      { id: 'hostname:dns:53:udp', name: 'dns-53', tags: ['udp'] },
    ]);
  });

  it('have an address for each binding, those of both families being one', async () => {
    const ports = { '80/tcp': ['0.0.0.0:8080', ':::8080', '10.1.2.3:8081', '2001:db8::1:8082'] };
    expect(await registered({ ...nginx, ports }, plain)).toEqual({
      '/p/nginx/hostname:nginx.0:80': '192.168.1.102:8080',
      '/p/nginx/hostname:nginx.0:80:8081': '10.1.2.3:8081',
      '/p/nginx/hostname:nginx.0:80:8082': '[2001:db8::1]:8082',
    });
  });

  it('have the port of their address where the engine has chosen another one for the other family', async () => {
    const ports = { '80/tcp': ['0.0.0.0:32769', ':::32768'] };
    expect(await registered({ ...nginx, ports }, plain)).toEqual({
      '/p/nginx/hostname:nginx.0:80': '192.168.1.102:32769',
    });
    expect(await registered({ ...nginx, ports }, { ...plain, ip: '2001:db8::2' })).toEqual({
      '/p/nginx/hostname:nginx.0:80': '[2001:db8::2]:32768',
    });
    expect(await registered({ ...nginx, ports: { '80/tcp': [':::32768'] } }, plain)).toEqual({
      '/p/nginx/hostname:nginx.0:80': '192.168.1.102:32768',
    });
  });

  it('have the address that the settings, or a label, say', async () => {
    expect(await registered(redis, { ...plain, ip: '10.0.0.1' })).toEqual({
      '/p/redis/hostname:redis.0:6379': '10.0.0.1:10000',
    });
    const labels = { 'io.rancher.container.ip': '10.42.1.2/16' };
    expect(
      await registered(
        { ...redis, labels },
        { ...plain, ip: '10.0.0.1', ipLabel: 'io.rancher.container.ip' },
      ),
    ).toEqual({
      '/p/redis/hostname:redis.0:6379': '10.42.1.2:10000',
    });
  });

  it('within have the address of the container on the network that is asked for', async () => {
    const within = { ...plain, internal: true };
    const two = {
      ...redis,
      networks: { app: { IPAddress: '10.5.0.2' }, back: { GlobalIPv6Address: 'fd00::2' } },
    };
    expect(await registered({ ports: { '6379/tcp': [] } }, within)).toEqual({
      '/p/redis/hostname:redis.0:6379': '172.17.0.2:6379',
    });
    expect(Object.values(await registered(two, within))).toEqual(['10.5.0.2:6379']);
    expect(Object.values(await registered(two, { ...within, network: 'back' }))).toEqual(['[fd00::2]:6379']);
    const labels = { SERVICE_NETWORK: 'app' };
    expect(Object.values(await registered({ ...two, labels }, { ...within, network: 'back' }))).toEqual([
      '10.5.0.2:6379',
    ]);
    expect(await registered(two, { ...within, network: 'none' })).toEqual({});
  });

  it("on the host's own network are where they are exposed", async () => {
    const given = { ports: { '6379/tcp': [] }, mode: 'host', networks: { host: { IPAddress: '' } } };
    expect(await registered(given, plain)).toEqual({
      '/p/redis/hostname:redis.0:6379': '192.168.1.102:6379',
    });
  });

  it('of the layout of SkyDNS are what CoreDNS reads', async () => {
    expect(await registered(redis, { layout: 'skydns', domain: 'cluster.local' })).toEqual({
      '/skydns/local/cluster/redis/hostname-redis-0-6379': { host: '192.168.1.102', port: 10000 },
    });
  });

  it.each([
    ['foo\\,bar', ['foo,bar']],
    [',,,,foo,,,bar,,,,', ['foo', 'bar']],
    [',,\\,,,', [',']],
    ['', []],
  ])('have tags split at commas: %s', (text, tags) => {
    expect(tagsOf(text)).toEqual(tags);
  });
});
