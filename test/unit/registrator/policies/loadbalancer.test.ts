import { expect, it } from 'vitest';
import { instanceOf } from '../../../../src/registrator/policies/built-in/built-in.js';
import { loadbalancer } from '../../../../src/registrator/policies/built-in/loadbalancer.js';
import { keysOf } from '../../../../src/registrator/policies/policy.js';
import { subjectOf } from '../../../../src/registrator/policies/subject.js';

const node = { id: 'n1', hostname: 'h', address: '10.0.0.1' };
const kontena = {
  'io.kontena.load_balancer.name': 'lb',
  'io.kontena.service.name': 'web',
  'io.kontena.stack.name': 'shop',
  'io.kontena.container.name': 'web-1',
};

async function written(
  labels: Record<string, string>,
  env: readonly string[] = [],
  more: object = {},
  config: object = {},
) {
  const inspect = {
    Name: '/some-name',
    Config: { Labels: labels, Env: env },
    State: { Running: true },
    NetworkSettings: { Networks: { app: { IPAddress: '10.5.0.2' }, back: { GlobalIPv6Address: 'fd00::2' } } },
    ...more,
  };
  const policy = instanceOf(loadbalancer, 'test', config);
  return Object.fromEntries(keysOf(await policy.run(subjectOf('container', 'c1', inspect, node))));
}

it('writes the settings of an HTTP service, and an upstream', async () => {
  const labels = {
    ...kontena,
    'io.kontena.container.overlay_cidr': '10.81.0.5/16',
    'io.kontena.health_check.uri': '/up',
  };
  const env = ['KONTENA_LB_VIRTUAL_HOSTS=a.example,b.example', 'KONTENA_LB_COOKIE='];
  expect(await written(labels, env)).toEqual({
    '/kontena/haproxy/lb/services/shop-web/balance': 'roundrobin',
    '/kontena/haproxy/lb/services/shop-web/virtual_hosts': 'a.example,b.example',
    '/kontena/haproxy/lb/services/shop-web/health_check_uri': '/up',
    '/kontena/haproxy/lb/services/shop-web/upstreams/web-1': '10.81.0.5:80',
  });
});

it('writes those of a TCP service, on its ports', async () => {
  const labels = {
    ...kontena,
    'io.kontena.load_balancer.mode': 'tcp',
    'io.kontena.load_balancer.internal_port': '3306',
  };
  expect(await written(labels, ['KONTENA_LB_BALANCE=leastcon'])).toEqual({
    '/kontena/haproxy/lb/tcp-services/shop-web/balance': 'leastcon',
    '/kontena/haproxy/lb/tcp-services/shop-web/external_port': '5000',
    '/kontena/haproxy/lb/tcp-services/shop-web/upstreams/web-1': '10.5.0.2:3306',
  });
});

it.each([
  ['of no stack', { ...kontena, 'io.kontena.stack.name': 'null' }, [], 'web'],
  ['that is named', kontena, ['KONTENA_LB_SERVICE=mine'], 'mine'],
])('writes a service %s under its name', async (_, labels, env, name) => {
  expect(Object.keys(await written(labels, env))).toContain(
    `/kontena/haproxy/lb/services/${name}/upstreams/web-1`,
  );
});

it('takes the address of the network that is asked for', async () => {
  const found = await written(kontena, [], {}, { network: 'back', prefix: '/lb' });
  expect(found['/lb/lb/services/shop-web/upstreams/web-1']).toBe('[fd00::2]:80');
  expect(await written(kontena, [], {}, { network: 'none' })).toEqual({});
});

it.each([
  ['is behind none', { 'io.kontena.service.name': 'web' }, {}],
  ['is stopped', kontena, { State: { Running: false } }],
  ['is paused', kontena, { State: { Running: true, Paused: true } }],
  ['is being stopped', kontena, { State: { Running: true, Stopping: true } }],
  ['is not healthy', kontena, { State: { Running: true, Health: { Status: 'unhealthy' } } }],
])('writes nothing of a container that %s', async (_, labels, more) => {
  expect(await written(labels, [], more)).toEqual({});
});
