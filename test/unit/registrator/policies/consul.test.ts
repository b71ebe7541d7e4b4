import { describe, expect, it } from 'vitest';
import { instanceOf } from '../../../../src/registrator/policies/built-in/built-in.js';
import { checkOf, metaOf } from '../../../../src/registrator/policies/built-in/services/consul.js';
import { services } from '../../../../src/registrator/policies/built-in/services/services.js';
import { keysOf } from '../../../../src/registrator/policies/policy.js';
import { subjectOf } from '../../../../src/registrator/policies/subject.js';

const container = { id: '0123456789abcdef0123', exposedPort: 80 };

function check(attributes: Record<string, string>, address = '10.0.0.1') {
  return checkOf({ id: 'id', name: 'web', address, port: 8080, tags: [], attributes }, container);
}

describe('the check of a service', () => {
  it.each<[Record<string, string>, object | null]>([
    [{}, null],
    [{ check_interval: '5s', check_initial_status: 'passing' }, null],
    [{ check_http: '/health' }, { HTTP: 'http://10.0.0.1:8080/health', Interval: '10s' }],
    [
      { check_http: 'health?at=$SERVICE_IP:$SERVICE_PORT', check_http_method: 'HEAD' },
      { HTTP: 'http://10.0.0.1:8080/health?at=10.0.0.1:8080', Method: 'HEAD', Interval: '10s' },
    ],
    [
      { check_https: '/', check_https_method: 'PUT', check_tls_skip_verify: 'true', check_timeout: '1s' },
      {
        HTTP: 'https://10.0.0.1:8080/',
        Method: 'PUT',
        TLSSkipVerify: true,
        Interval: '10s',
        Timeout: '1s',
      },
    ],
    [
      { check_https: '/', check_tls_skip_verify: 'false' },
      { HTTP: 'https://10.0.0.1:8080/', Interval: '10s' },
    ],
    [
      { check_tcp: 'true', check_interval: '3s', check_timeout: '2s', check_deregister_after: '10m' },
      { TCP: '10.0.0.1:8080', Interval: '3s', Timeout: '2s', DeregisterCriticalServiceAfter: '10m' },
    ],
    [{ check_grpc: 'true' }, { GRPC: '10.0.0.1:8080', Interval: '10s' }],
    [
      { check_grpc: 'true', check_tls_skip_verify: 'true' },
      { GRPC: '10.0.0.1:8080', Interval: '10s' },
    ],
    [
      { check_grpc: 'true', check_grpc_use_tls: 'true', check_tls_skip_verify: '1' },
      { GRPC: '10.0.0.1:8080', GRPCUseTLS: true, TLSSkipVerify: true, Interval: '10s' },
    ],
    [
      { check_script: 'curl $SERVICE_IP:$SERVICE_PORT' },
      { Args: ['/bin/sh', '-c', 'curl 10.0.0.1:8080'], Interval: '10s' },
    ],
    [
      { check_cmd: '/check.sh now' },
      { Args: ['/bin/sh', '-c', 'check-cmd 0123456789ab 80 /check.sh now'], Interval: '10s' },
    ],
    [
      { check_ttl: '30s', check_initial_status: 'passing', check_interval: '5s', check_timeout: '1s' },
      { TTL: '30s', Status: 'passing' },
    ],
    // The first counts.
    [
      { check_ttl: '30s', check_tcp: 'true', check_http: '/' },
      { HTTP: 'http://10.0.0.1:8080/', Interval: '10s' },
    ],
  ])('of %j is %j', (attributes, expected) => {
    expect(check(attributes)).toEqual(expected);
  });

  it('reaches an address of IPv6', () => {
    expect(check({ check_http: '/' }, 'fd00::1')).toMatchObject({ HTTP: 'http://[fd00::1]:8080/' });
    expect(check({ check_tcp: '1' }, 'fd00::1')).toMatchObject({ TCP: '[fd00::1]:8080' });
  });
});

describe("a service's Meta", () => {
  it('has all attributes but those of its check', () => {
    expect(metaOf({ region: 'us2', check_http: '/', check_grpc_use_tls: '1', check_mine: 'x' })).toEqual({
      region: 'us2',
      check_mine: 'x',
    });
  });

  it('is within the limits of Consul', () => {
    const long = 'a'.repeat(129);
    expect(
      metaOf({ 'a.b': '1', a_b: '0', ö: 'x', [long]: 'x', 'consul-x': 'x', 'openebs-owner': 'x' }),
    ).toEqual({ a_b: '1', _: 'x' });
    expect(metaOf({ fits: 'ü'.repeat(256), not: `${'ü'.repeat(256)}a` })).toEqual({ fits: 'ü'.repeat(256) });
    const many = Object.fromEntries(
      Array.from({ length: 100 }, (_, index) => [`m${String(100 + index)}`, 'x']),
    );
    expect(Object.keys(metaOf(many))).toEqual(Object.keys(many).slice(0, 61));
  });
});

describe('services of containers, for consul', () => {
  it('are registrations by their ids', async () => {
    const inspect = {
      Name: '/web 1',
      Config: {
        Image: 'nginx',
        Env: ['SERVICE_TAGS=a,b', 'SERVICE_REGION=us2', 'SERVICE_CHECK_CMD=/ok', 'SERVICE_443_IGNORE=1'],
        ExposedPorts: { '80/tcp': {}, '443/tcp': {} },
      },
      State: { Running: true },
      HostConfig: { NetworkMode: 'default' },
      NetworkSettings: {
        Ports: {
          '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8000' }],
          '443/tcp': [{ HostIp: '0.0.0.0', HostPort: '4430' }],
        },
        Networks: {},
      },
    };
    const node = { id: 'n1', hostname: 'host', address: '10.0.0.1' };
    const policy = instanceOf(services, 'test', { layout: 'consul' });
    const keys = keysOf(await policy.run(subjectOf('container', container.id, inspect, node)));
    expect([...keys].map(([key, value]): unknown[] => [key, JSON.parse(value)])).toEqual([
      [
        'consul:/host:web-1:80',
        {
          Name: 'nginx',
          Tags: ['a', 'b'],
          Port: 8000,
          Address: '10.0.0.1',
          Meta: { region: 'us2' },
          Check: { Args: ['/bin/sh', '-c', 'check-cmd 0123456789ab 80 /ok'], Interval: '10s' },
        },
      ],
    ]);
  });
});

describe('keys of consul', () => {
  it('are for policies of anybody, when they name a service', () => {
    expect([...keysOf({ 'consul:/host:web:80': { Name: 'web' } })]).toEqual([
      ['consul:/host:web:80', '{"Name":"web"}'],
    ]);
    for (const key of [
      'consul:/',
      'consul:/a/b',
      'consul:/..',
      'consul:/a b',
      'consul:/ü',
      `consul:/${'a'.repeat(257)}`,
    ])
      expect(() => keysOf({ [key]: {} })).toThrow('is not of the form consul:/ID');
    expect(() => keysOf({ 'consul:a': {} })).toThrow('is not of the form /PREFIX/NAME');
  });
});
