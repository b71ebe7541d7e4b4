/** The registrator that runs alone, as a process, with an engine to script and real stores: how it tells of itself. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureCertificates } from '../../src/cluster/certificates.js';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { type FakeEngine, startFakeEngine } from '../fakes/engine-server.js';
import { startConsul, whyNoConsul } from '../support/consul.js';
import { startEtcd, type TestEtcd } from '../support/etcd.js';
import { waitFor } from '../support/exec.js';
import {
  createRegistrator,
  keyIn,
  type Registrator,
  type RegistratorProcess,
  type Settings,
} from '../support/registrator.js';

if (whyNoConsul !== null) console.warn(`SKIPPED: ${whyNoConsul}`);

const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
/** What the policy `objects` gives for the engine itself. */
const KEY = '/openebs/objects/fake/daemon/fake';

let engine: FakeEngine;
let registrator: Registrator;
let directory: string;
let secure: TestEtcd | null = null;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'openebs-alone-'));
  engine = await startFakeEngine();
  const answer = (path: string, status: number, body: unknown) => {
    engine.handle('GET', path, (_request, response) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
  };
  for (const path of ['/containers/json', '/images/json', '/plugins', '/networks']) answer(path, 200, []);
  answer('/volumes', 200, { Volumes: null });
  for (const path of ['/services', '/nodes', '/secrets', '/configs'])
    answer(path, 503, { message: 'This node is not a swarm manager.' });
});

afterEach(async () => {
  await registrator.end();
  await engine.close();
  await secure?.[Symbol.asyncDispose]();
  secure = null;
  rmSync(directory, { recursive: true });
});

function start(settings: Settings): Promise<RegistratorProcess> {
  registrator = createRegistrator({ DOCKER_SOCKET: engine.socketPath, POLICIES: 'objects', ...settings });
  return registrator.start();
}

async function ask({ port }: RegistratorProcess, path: string): Promise<[status: number, text: string]> {
  const response = await fetch(`http://127.0.0.1:${String(port)}${path}`);
  return [response.status, await response.text()];
}

async function served(alone: RegistratorProcess): Promise<void> {
  await waitFor('it serves', async () => (await ask(alone, '/healthz'))[0] === 200);
}

async function says(alone: RegistratorProcess, what: RegExp): Promise<void> {
  await waitFor(`it says ${String(what)}`, () => what.test(alone.output())).catch((reason: unknown) => {
    throw new Error(`${String(reason)}\nit said:\n${alone.output()}`);
  });
}

/** Null: it is not told. */
async function leaseAge(alone: RegistratorProcess): Promise<number | null> {
  const [, text] = await ask(alone, '/metrics');
  const found = /^openebs_registrations_lease_age_seconds\{backend="etcd"\} (\S+)$/m.exec(text);
  return found ? Number(found[1]) : null;
}

describe('health of a registrator that runs alone', () => {
  it('is good while it waits for its engine, but it is not ready', async () => {
    await using etcd = await startEtcd();
    await engine.stop();
    const alone = await start({ ETCD_ENDPOINTS: etcd.endpoint });
    await served(alone);
    await says(alone, /ask the engine who it is/);
    expect(await ask(alone, '/healthz')).toEqual([200, 'ok\n']);
    expect(await ask(alone, '/readyz')).toEqual([503, 'not all is registered yet\n']);
    expect(await ask(alone, '/metrics')).toEqual([503, 'not started yet\n']);
    expect(await ask(alone, '/v1/registry')).toEqual([200, '{"ready":false}']);
    await engine.listen();
    await alone.ready();
    expect(await ask(alone, '/readyz')).toEqual([200, 'ready\n']);
    expect((await keyIn(etcd, KEY))?.value).toContain('"kind":"daemon"');
  });

  it('is good while etcd is away, but it is ready only when all is registered there, and stays so', async () => {
    await using etcd = await startEtcd();
    await etcd.stop();
    const alone = await start({ ETCD_ENDPOINTS: etcd.endpoint, LEASE: '10s' });
    await served(alone);
    await waitFor('it has started', async () => (await ask(alone, '/metrics'))[0] === 200);
    expect(await ask(alone, '/readyz')).toEqual([503, 'not all is registered yet\n']);
    expect(await ask(alone, '/healthz')).toEqual([200, 'ok\n']);
    const [, metrics] = await ask(alone, '/metrics');
    expect(metrics).toContain('openebs_registrator_ready 0');
    expect(await leaseAge(alone)).toBeNull();
    await etcd.start();
    await alone.ready();
    expect(await ask(alone, '/readyz')).toEqual([200, 'ready\n']);
    expect((await ask(alone, '/metrics'))[1]).toContain('openebs_registrator_ready 1');
    // A keepalive each third of it.
    expect(await leaseAge(alone)).toBeLessThan(5);

    etcd.kill('SIGSTOP');
    await waitFor('the age of its lease tells', async () => ((await leaseAge(alone)) ?? 0) > 5);
    expect(await ask(alone, '/readyz')).toEqual([200, 'ready\n']);
    expect(await ask(alone, '/healthz')).toEqual([200, 'ok\n']);
    etcd.kill('SIGCONT');
    await waitFor('keepalives are answered again', async () => ((await leaseAge(alone)) ?? 9) < 4);
  });
});

describe('a registrator that runs alone, and an etcd with TLS', () => {
  async function startSecure(): Promise<{ etcd: TestEtcd; settings: Settings; other: Settings }> {
    const [made, foreign] = await Promise.all(
      ['own', 'foreign'].map((name) => ensureCertificates(join(directory, name), { addresses: [] })),
    );
    const { certificatePath: certificate, keyPath: key } = made!.server;
    const etcd = await startEtcd({ tls: { ca: made!.caPath, certificate, key } });
    secure = etcd;
    const write = (name: string, content: string | Buffer) => {
      writeFileSync(join(directory, name), content);
      return join(directory, name);
    };
    const clientOf = (name: string, client: { certificate: Buffer; key: Buffer }) => ({
      ETCD_CERT_FILE: write(`${name}.pem`, client.certificate),
      ETCD_KEY_FILE: write(`${name}.key`, client.key),
    });
    const common = { ETCD_ENDPOINTS: etcd.endpoint, ETCD_CA_FILE: made!.caPath };
    return {
      etcd,
      settings: { ...common, ...clientOf('client', made!.client) },
      other: { ...common, ...clientOf('other', foreign!.client) },
    };
  }

  it('registers with the client certificate that etcd wants', async () => {
    const { etcd, settings } = await startSecure();
    const alone = await start(settings);
    await alone.ready();
    const made = await ensureCertificates(join(directory, 'own'), { addresses: [] });
    const state = createEtcdState({
      ...{ endpoints: [etcd.endpoint], log: ctx.log },
      tls: { ca: made.ca, ...made.client },
    });
    expect((await state.get(ctx, KEY))?.value).toContain('"kind":"daemon"');
    await state.close();
  });

  it('says what to check when it has none, or that of another authority', async () => {
    const { settings, other } = await startSecure();
    for (const wrong of [{ ...settings, ETCD_CERT_FILE: '', ETCD_KEY_FILE: '' }, other]) {
      const alone = await start(wrong);
      await says(alone, /TLS connection .* fails \(.*\): check that CA, client certificate/);
      expect(await ask(alone, '/readyz')).toEqual([503, 'not all is registered yet\n']);
      await registrator.end();
    }
  });

  it('names a file that it cannot read, and ends', async () => {
    const missing = join(directory, 'missing.pem');
    const alone = await start({ ETCD_ENDPOINTS: 'https://127.0.0.1:1', ETCD_CA_FILE: missing });
    expect((await alone.ended).code).toBe(64);
    expect(alone.output()).toContain(`cannot read ${missing}`);
  });
});

describe('a registrator that runs alone, and an etcd with users', () => {
  it('registers with the right password, and names what is wrong with another one, or none', async () => {
    await using etcd = await startEtcd();
    for (const [path, body] of [
      ['auth/role/add', { name: 'root' }],
      ['auth/user/add', { name: 'root', password: 'pa55-word' }],
      ['auth/user/grant', { user: 'root', role: 'root' }],
      ['auth/role/add', { name: 'registrator' }],
      ...['/openebs/', '/own/'].map((prefix) => ['auth/role/grant', grant('registrator', prefix)] as const),
      ['auth/user/add', { name: 'registrator', password: 'right' }],
      ['auth/user/grant', { user: 'registrator', role: 'registrator' }],
      ['auth/enable', {}],
    ] as const)
      await etcd.admin(path, body);
    const password = (name: string, text: string) => {
      writeFileSync(join(directory, name), `${text}\n`);
      return { ETCD_USER: 'registrator', ETCD_PASSWORD_FILE: join(directory, name) };
    };
    const settings = { ETCD_ENDPOINTS: etcd.endpoint };
    const wrong = await start({ ...settings, ...password('wrong', 'wrong') });
    await says(wrong, /refuses the password of user registrator/);
    expect(await ask(wrong, '/readyz')).toEqual([503, 'not all is registered yet\n']);
    expect(wrong.output()).not.toContain('"wrong"');
    await registrator.end();

    const nobody = await start(settings);
    await says(nobody, /asks for a login: set an etcd user name and password/);
    await registrator.end();

    const right = await start({ ...settings, ...password('right', 'right') });
    await right.ready();
    const auth = { username: 'root', password: 'pa55-word' };
    const state = createEtcdState({ endpoints: [etcd.endpoint], log: ctx.log, auth });
    expect((await state.get(ctx, KEY))?.value).toContain('"kind":"daemon"');
    await state.close();
  });

  function grant(name: string, prefix: string) {
    const encode = (text: string) => Buffer.from(text).toString('base64');
    const end = `${prefix.slice(0, -1)}0`;
    const perm = { permType: 'READWRITE', key: encode(prefix), range_end: encode(end) };
    return { name, perm };
  }
});

describe.skipIf(whyNoConsul !== null)('a registrator that runs alone, and a Consul agent with tokens', () => {
  it('registers with the right one, and says that another one is denied', async () => {
    const token = '7c1e1d47-1f9b-4d5c-a1a2-3b7c0d1e2f30';
    const acl = { enabled: true, default_policy: 'deny', tokens: { master: token, agent: token } };
    await using consul = await startConsul({ acl });
    const services = async () => {
      const headers = { 'X-Consul-Token': token };
      const response = await fetch(`${consul.address}/v1/agent/services`, { headers });
      return Object.keys((await response.json()) as object);
    };
    const startWith = async (name: string, text: string) => {
      writeFileSync(join(directory, name), text);
      const started = await start({
        ...{ ETCD_ENDPOINTS: 'none', CONSUL_ADDRESS: consul.address },
        CONSUL_TOKEN_FILE: join(directory, name),
      });
      registrator.policies.write(
        'own.js',
        'export const daemon = ({ name }) => ({ ["consul:/" + name]: { Name: name } });',
      );
      return started;
    };
    const denied = await startWith('wrong', '00000000-1f9b-4d5c-a1a2-3b7c0d1e2f30');
    await says(denied, /ACL not found|Permission denied/);
    expect(await services()).toEqual([]);
    await registrator.end();

    await startWith('right', token);
    await waitFor('the service is there', async () => (await services()).includes('fake'));
  });
});
