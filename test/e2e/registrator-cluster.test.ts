/** The registrators of two hosts on one etcd that is not the plugin's own: policies in it, and a start without it. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cluster, startCluster } from '../support/cluster.js';
import { waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { askAdmin, driverSocket, exchange } from '../support/product.js';

let cluster: Cluster;
let a: LabHost;
let b: LabHost;

beforeAll(async () => {
  cluster = await startCluster(['a', 'b']);
  [a, b] = cluster.hosts as [LabHost, LabHost];
}, 240_000);

afterAll(async () => {
  await cluster.close();
});

const encode = (text: string) => Buffer.from(text).toString('base64');
const decode = (text = '') => Buffer.from(text, 'base64').toString();

/** The JSON gateway of the etcd that both use. */
async function etcd(path: string, body: object): Promise<unknown> {
  const url = `http://${b.address}:2379/v3/kv/${path}`;
  return JSON.parse(await b.shellOk(`curl -sf --data @- ${url}`, { input: JSON.stringify(body) }));
}

interface Stored {
  readonly value: string;
  /** Another one after it was away. */
  readonly created: string;
  readonly puts: string;
}

async function below(prefix: string): Promise<Record<string, Stored>> {
  const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
  const { kvs = [] } = (await etcd('range', { key: encode(prefix), range_end: encode(end) })) as {
    kvs?: { key: string; value?: string; create_revision: string; version: string }[];
  };
  return Object.fromEntries(
    kvs.map(({ key, value, create_revision: created, version: puts }) => [
      decode(key),
      { value: decode(value), created, puts },
    ]),
  );
}

const valuesBelow = async (prefix: string) =>
  Object.fromEntries(Object.entries(await below(prefix)).map(([key, { value }]) => [key, value]));

const startHere = (host: LabHost, name: string, ...options: string[]) =>
  host.ok('run', '-d', '--name', name, '--hostname', name, ...options, 'lab', 'sleep', '100000');

async function problemOf(host: LabHost, policy: string): Promise<string | null | undefined> {
  const { policies } = JSON.parse(await askAdmin(host, '/v1/registry')) as {
    policies: { name: string; problem: string | null }[];
  };
  return policies.find(({ name }) => name === policy)?.problem;
}

it('an instance of a policy in etcd runs on all hosts, its last good version while it is bad, until it is removed', async () => {
  await startHere(a, 'test-1');
  await startHere(b, 'test-2');
  const address = (host: LabHost, name: string) =>
    host.ok('inspect', '--format', '{{.NetworkSettings.IPAddress}}', name);
  const hosts = {
    'test-1': JSON.stringify({ host: await address(a, 'test-1') }),
    'test-2': JSON.stringify({ host: await address(b, 'test-2') }),
  };
  const keysIn = (prefix: string) =>
    Object.fromEntries(Object.entries(hosts).map(([name, value]) => [`${prefix}/${name}`, value]));
  const instance = encode('/openebs/policies/skydns/test');
  const put = (text: string) => etcd('put', { key: instance, value: encode(text) });
  const settles = (what: string, expected: object) =>
    waitFor(what, async () => {
      const found = await valuesBelow('/skydns/');
      const tests = Object.entries(found).filter(([key]) => /\/test-\d$/.test(key));
      return JSON.stringify(tests) === JSON.stringify(Object.entries(expected));
    });

  await put('{"domain":"kontena.local"}');
  await settles('both are there', keysIn('/skydns/local/kontena'));
  const before = await below('/skydns/');
  for (const [bad, reason] of [
    ['{"domain":', /not JSON/],
    ['{"domain":7}', /domain/],
    ['{"domian":"kontena.local"}', /domian/],
  ] as const) {
    await put(bad);
    for (const host of [a, b])
      await waitFor(`${host.name} tells of ${bad}`, async () =>
        reason.test((await problemOf(host, 'skydns/test')) ?? ''),
      );
    expect(await below('/skydns/')).toEqual(before);
  }
  await put('{"domain":"other.local"}');
  await settles('both have moved', keysIn('/skydns/local/other'));
  for (const host of [a, b]) expect(await problemOf(host, 'skydns/test')).toBeNull();
  await etcd('deleterange', { key: instance });
  await settles('both are gone', {});
  for (const host of [a, b]) expect(await problemOf(host, 'skydns/test')).toBeUndefined();
  await a.ok('rm', '-f', 'test-1');
  await b.ok('rm', '-f', 'test-2');
});

it('an engine that starts while etcd is away keeps its plugin enabled, and all is caught up when etcd is back', async () => {
  await startHere(b, 'other', '-p', '18080:80', '-e', 'SERVICE_NAME=other');
  await startHere(a, 'goes', '-p', '18080:80', '-e', 'SERVICE_NAME=goes');
  const services = async () => Object.keys(await below('/openebs/services/')).map((key) => key.split('/')[3]);
  const are = (...names: string[]) =>
    waitFor(
      `services are ${names.join(', ')}`,
      async () => (await services()).toSorted().join() === names.join(),
      { timeoutMs: 60_000 },
    );
  await are('goes', 'other');
  const ofOther = async () =>
    Object.entries({
      ...(await below('/openebs/services/other/')),
      ...(await below(`/openebs/objects/${await b.ok('info', '--format', '{{.ID}}')}/container/`)),
    });
  const before = await ofOther();
  expect(before.length).toBeGreaterThan(1);

  await cluster.stopEtcd();
  await a.stopEngine();
  await a.startEngine();
  expect(await a.ok('plugin', 'ls', '--format', '{{.Name}} {{.Enabled}}')).toBe('openebs:latest true');
  const answer = await exchange(await driverSocket(a), 'POST', '/Plugin.Activate');
  expect(answer).toEqual([200, '{"Implements":["VolumeDriver"]}']);
  await a.ok('rm', '-f', 'goes');
  await startHere(a, 'comes', '-p', '18081:81', '-e', 'SERVICE_NAME=comes');
  expect(await a.ok('plugin', 'ls', '--format', '{{.Name}} {{.Enabled}}')).toBe('openebs:latest true');

  await cluster.startEtcd();
  await are('comes', 'other');
  expect(await ofOther()).toEqual(before);
  await a.ok('rm', '-f', 'comes');
  await b.ok('rm', '-f', 'other');
  await are();
});
