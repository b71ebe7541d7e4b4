import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ensureCertificates } from '../../src/cluster/certificates.js';
import { createLog } from '../../src/log.js';
import type { RegistryBackend } from '../../src/registrator/backends/backend.js';
import {
  type ConsulBackendOptions,
  createConsulBackend,
} from '../../src/registrator/backends/consul/consul-backend.js';
import { createClaimKeeper } from '../../src/registrator/claims/keeper.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { startConsul, type TestConsul, whyNoConsul } from '../support/consul.js';
import { startEtcd } from '../support/etcd.js';
import { type BackendWorld, describeRegistryBackend, silent } from './registry-backend-contract.js';

describeRegistryBackend('etcd', () => etcdWorld(false));
describeRegistryBackend('etcd, which loses its data', () => etcdWorld(true));

/** @param forgets whether it has lost all keys and leases when it is started again */
async function etcdWorld(forgets: boolean): Promise<BackendWorld> {
  const etcd = await startEtcd();
  const connect = () => createEtcdState({ endpoints: [etcd.endpoint], log: silent });
  const look = connect();
  const ctx = { log: silent, signal: new AbortController().signal, requestId: 'test' };
  return {
    key: (name) => `/reg/${name}`,
    value: (text) => text,
    read: (keys) => Promise.all(keys.map(async (key) => (await look.get(ctx, key))?.value)),
    start(owner, log) {
      const state = connect();
      const backend = createClaimKeeper({ state, owner, log, leaseMs: 3_000 });
      return {
        backend,
        async kill() {
          await state.close();
          void backend.close('hand-over');
        },
        end: () => state.close(),
      };
    },
    async putByStranger(key, value) {
      await look.transact(ctx, { if: [], then: [{ put: key, value }] });
    },
    async removeByStranger(key) {
      await look.transact(ctx, { if: [], then: [{ delete: key }] });
    },
    async stopStore() {
      await etcd.stop();
      if (forgets) await etcd.forget();
    },
    startStore: () => etcd.start(),
    async end() {
      await look.close();
      await etcd[Symbol.asyncDispose]();
    },
  };
}

const PREFIX = 'consul:/';

/** @param forgets whether the agent has lost all services when it is started again */
async function consulWorld(forgets: boolean): Promise<BackendWorld> {
  const consul = await startConsul();
  const idOf = (key: string) => key.slice(PREFIX.length);
  const registration = (text: string) => ({ Name: 'web', Tags: [text], Port: 80, Address: '10.0.0.1' });
  return {
    key: (name) => `${PREFIX}host:${name}:80`,
    value: (text) => JSON.stringify(registration(text)),
    async read(keys) {
      const services = await consul.services();
      return keys.map((key) => services[idOf(key)]?.Tags[0]);
    },
    start(owner, log) {
      const backend = createConsulBackend({ address: consul.address, owner, log, resyncMs: 500 });
      return { backend, kill: () => backend.close('hand-over'), end: () => Promise.resolve() };
    },
    async putByStranger(key, text) {
      await consul.api('PUT', '/v1/agent/service/register', { ...registration(text), ID: idOf(key) });
    },
    async removeByStranger(key) {
      await consul.api('PUT', `/v1/agent/service/deregister/${idOf(key)}`);
    },
    async stopStore() {
      await consul.stop();
      if (forgets) await consul.forget();
    },
    startStore: () => consul.start(),
    end: () => consul[Symbol.asyncDispose](),
  };
}

if (whyNoConsul !== null) console.warn(`SKIPPED: the registry on a real Consul agent. ${whyNoConsul}`);

describe.skipIf(whyNoConsul !== null)('on a real Consul agent,', () => {
  describeRegistryBackend('consul', () => consulWorld(false));
  describeRegistryBackend('consul, whose agent forgets', () => consulWorld(true));

  describe('the backend of consul', () => {
    let consul: TestConsul;
    let backends: RegistryBackend[] = [];
    let told: string[] = [];
    beforeAll(async () => {
      consul = await startConsul();
    }, 60_000);
    afterAll(() => consul[Symbol.asyncDispose]());
    afterEach(async () => {
      for (const backend of backends) await backend.close('withdraw');
      backends = [];
      told = [];
    });

    function start(options: Partial<ConsulBackendOptions> = {}): RegistryBackend {
      const log = createLog('warn', { write: (line) => void told.push(line) });
      const backend = createConsulBackend({ address: consul.address, owner: 'one', log, ...options });
      backends.push(backend);
      return backend;
    }

    const wanted = (registration: object) => ({
      value: JSON.stringify(registration),
      merge: 'min' as const,
      overwrite: false,
      source: 'services/test container 1',
    });
    const web = { Name: 'web', Tags: ['b', 'a'], Port: 8080, Address: '10.0.0.1' };
    const checksOf = async (id: string) =>
      Object.values(
        (await consul.api('GET', '/v1/agent/checks')) as Record<string, Record<string, unknown>>,
      ).filter(({ ServiceID }) => ServiceID === id);

    it('registers a service as it is given, with its marks and its check', async () => {
      const backend = start();
      const check = { TCP: '127.0.0.1:1', Interval: '60s', Status: 'warning' };
      backend.want('consul:/h:a:80', wanted({ ...web, Meta: { region: 'us2' }, Check: check }));
      await backend.settled();
      expect((await consul.services())['h:a:80']).toMatchObject({
        ID: 'h:a:80',
        Service: 'web',
        Tags: ['b', 'a'],
        Port: 8080,
        Address: '10.0.0.1',
        Meta: {
          region: 'us2',
          'openebs-owner': 'one',
          'openebs-source': 'services/test container 1',
          'openebs-digest': expect.stringMatching(/^.{43}$/) as string,
        },
      });
      expect(await checksOf('h:a:80')).toMatchObject([{ Type: 'tcp', Status: 'warning' }]);
    });

    it('changes a service when only its check has changed, and takes the former check away', async () => {
      const backend = start();
      const http = { HTTP: 'http://127.0.0.1:1/', Interval: '60s' };
      const ttl = { CheckID: 'own', TTL: '60s' };
      backend.want('consul:/a', wanted({ ...web, Checks: [http, ttl] }));
      await backend.settled();
      expect((await checksOf('a')).map(({ Type }) => Type).sort()).toEqual(['http', 'ttl']);
      backend.want('consul:/a', wanted({ ...web, Checks: [http] }));
      await backend.settled();
      expect((await checksOf('a')).map(({ Type }) => Type)).toEqual(['http']);
      expect(backend.stats().writes).toBe(2);
    });

    it('puts right what has been changed or taken away behind its back, and writes nothing else', async () => {
      const backend = start({ resyncMs: 200 });
      for (const id of ['a', 'b', 'c']) backend.want(`consul:/${id}`, wanted(web));
      await backend.settled();
      const { Meta } = (await consul.services())['a']!;
      await consul.api('PUT', '/v1/agent/service/register', { ...web, ID: 'a', Port: 1, Meta });
      await consul.api('PUT', '/v1/agent/service/deregister/b');
      await expect
        .poll(async () => Object.entries(await consul.services()).map(([id, { Port }]) => [id, Port]))
        .toEqual(['a', 'b', 'c'].map((id) => [id, 8080]));
      await delay(700);
      expect(backend.stats()).toMatchObject({ writes: 5, failures: 0 });
    });

    it('leaves tags to who may override them', async () => {
      const backend = start({ resyncMs: 200 });
      const open = { ...web, EnableTagOverride: true };
      backend.want('consul:/a', wanted(open));
      await backend.settled();
      const { Meta } = (await consul.services())['a']!;
      await consul.api('PUT', '/v1/agent/service/register', { ...open, ID: 'a', Tags: ['theirs'], Meta });
      await delay(700);
      expect((await consul.services())['a']!.Tags).toEqual(['theirs']);
      expect(backend.stats().writes).toBe(1);
    });

    it('tells once of what Consul refuses, and has all the others', async () => {
      const backend = start({ resyncMs: 300 });
      const bad: Record<string, object> = {
        noInterval: { ...web, Check: { TCP: '127.0.0.1:1' } },
        unknown: { ...web, Nonsense: 1 },
        script: { ...web, Check: { Args: ['true'], Interval: '60s' } },
        noName: { Port: 80 },
        text: { ...web, Port: '80' },
        otherId: { ...web, id: 'victim' },
      };
      for (const [id, registration] of Object.entries(bad))
        backend.want(`consul:/${id}`, wanted(registration));
      backend.want('consul:/none', { ...wanted({}), value: 'no JSON' });
      backend.want('consul:/a/b', wanted(web));
      backend.want('consul:/..', wanted(web));
      for (let index = 0; index < 20; index += 1) backend.want(`consul:/good${String(index)}`, wanted(web));
      await backend.settled();
      expect(Object.keys(await consul.services())).toHaveLength(20);
      await delay(1_000);
      expect(told).toHaveLength(9);
      const { failures } = backend.stats();
      expect(failures).toBeGreaterThan(7);
      // Seven a look, and a look each 300 ms: not a hot loop.
      expect(failures).toBeLessThan(100);
      backend.want('consul:/noInterval', wanted(web));
      await backend.settled();
      expect(Object.keys(await consul.services())).toContain('noInterval');
    });

    it('speaks through a unix socket', async () => {
      const backend = start({ address: `unix://${consul.socket}` });
      backend.want('consul:/a', wanted(web));
      await backend.settled();
      expect(Object.keys(await consul.services())).toEqual(['a']);
    });

    it('goes on when the agent accepts calls and does not answer for a while', async () => {
      const backend = start();
      backend.want('consul:/a', wanted(web));
      await backend.settled();
      consul.kill('SIGSTOP');
      backend.want('consul:/b', wanted(web));
      await delay(6_000);
      expect(backend.stats().failures).toBe(1);
      consul.kill('SIGCONT');
      await backend.settled();
      expect(Object.keys(await consul.services()).sort()).toEqual(['a', 'b']);
      expect(told).toHaveLength(1);
    }, 40_000);

    it('takes no address that is none', () => {
      for (const address of ['', 'localhost:8500', 'ftp://a', 'unix://'])
        expect(() => createConsulBackend({ address, owner: 'one', log: silent })).toThrow(
          'no address of a Consul agent',
        );
    });
  });

  it('certificates are shown, and looked at', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'openebs-tls-'));
    const { ca, client, caPath, server } = await ensureCertificates(directory, { addresses: [] });
    const tls = { ca: caPath, certificate: server.certificatePath, key: server.keyPath };
    await using consul = await startConsul({}, tls);
    const writesWith = async (given: ConsulBackendOptions['tls'] & object) => {
      const address = consul.secureAddress;
      const backend = createConsulBackend({ address, owner: 'one', log: silent, tls: given });
      const value = JSON.stringify({ Name: 'web' });
      backend.want('consul:/a', { value, merge: 'min', overwrite: false, source: 'test' });
      await Promise.race([backend.settled(), delay(1_500)]);
      const { writes } = backend.stats();
      await backend.close('hand-over');
      return writes;
    };
    expect(await writesWith({ ca })).toBe(0);
    expect(await writesWith({ ...client })).toBe(0);
    expect(await writesWith({ ca, ...client })).toBe(1);
    await rm(directory, { recursive: true, force: true });
  }, 90_000);

  it('a token is shown to an agent that asks for one', async () => {
    const token = '7c1e1d47-1f9b-4d5c-a1a2-3b7c0d1e2f30';
    const acl = { enabled: true, default_policy: 'deny', tokens: { master: token, agent: token } };
    await using consul = await startConsul({ acl });
    const want = (backend: RegistryBackend) => {
      const value = JSON.stringify({ Name: 'web' });
      backend.want('consul:/a', { value, merge: 'min', overwrite: false, source: 'test' });
    };
    const told: string[] = [];
    const log = createLog('warn', { write: (line) => void told.push(line) });
    const without = createConsulBackend({ address: consul.address, owner: 'one', log });
    want(without);
    await without.settled();
    expect(without.stats().writes).toBe(0);
    expect(told.join('')).toContain('Permission denied');
    await without.close('withdraw');
    const backend = createConsulBackend({ address: consul.address, owner: 'one', log: silent, token });
    want(backend);
    await expect.poll(() => backend.stats().writes, { timeout: 20_000 }).toBe(1);
    await backend.close('withdraw');
    expect(backend.stats().writes).toBe(2);
  }, 90_000);
});
