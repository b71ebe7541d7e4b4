import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureCertificates, type Certificates } from '../../src/cluster/certificates.js';
import { parseConfig } from '../../src/config.js';
import type { Ctx } from '../../src/context.js';
import { createHostPaths } from '../../src/dataplane/host-paths.js';
import type { RoleContainers } from '../../src/dataplane/role-container.js';
import { createLog } from '../../src/log.js';
import { connectState } from '../../src/shared-state.js';
import { startEtcd } from '../support/etcd.js';

let hostRoot: string;
let made: Certificates;
const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const unexpected = () => Promise.reject(new Error('an etcd of the user must start no container'));
const roles: RoleContainers = {
  observe: unexpected,
  ensure: unexpected,
  renew: unexpected,
  remove: unexpected,
  discard: unexpected,
  readNote: unexpected,
  list: unexpected,
  hasContainer: unexpected,
};

beforeEach(async () => {
  hostRoot = mkdtempSync(join(tmpdir(), 'openebs-host-'));
  mkdirSync(join(hostRoot, 'var/lib/etcd-of-mine'), { recursive: true });
  mkdirSync(join(hostRoot, 'var/lib/openebs'));
  made = await ensureCertificates(join(hostRoot, 'var/lib/etcd-of-mine/pki'), { addresses: [] });
});

afterEach(() => {
  rmSync(hostRoot, { recursive: true });
});

function connect(settings: Record<string, string>, more: Partial<RoleContainers> = {}) {
  const paths = createHostPaths(hostRoot, '/mnt/none');
  return connectState(ctx, parseConfig(settings), {
    paths,
    roles: { ...roles, ...more },
    image: 'none',
    cluster: 'test',
  });
}

const hostPath = (file: string) => file.slice(hostRoot.length);

describe('an etcd of the user', () => {
  it('with mutual TLS is used with the files that the settings name', async () => {
    const { certificatePath: certificate, keyPath: key } = made.server;
    await using etcd = await startEtcd({ tls: { ca: made.caPath, certificate, key } });
    const { state, ensureEtcd } = await connect({
      ETCD_ENDPOINTS: etcd.endpoint,
      ETCD_CA_FILE: hostPath(made.caPath),
      ETCD_CERT_FILE: hostPath(made.client.certificatePath),
      ETCD_KEY_FILE: hostPath(made.client.keyPath),
    });
    await ensureEtcd(ctx);
    await state.transact(ctx, { if: [], then: [{ put: '/openebs/x', value: 'nonce-1' }] });
    expect((await state.get(ctx, '/openebs/x'))?.value).toBe('nonce-1');
    await state.close();
    // Nothing of an etcd of our own was made: no container (the roles refuse), data, or certificate.
    expect(readdirSync(join(hostRoot, 'var/lib/openebs'))).toEqual(['kept-in.json']);
  });

  it('with user and password is used with the password from its file', async () => {
    await using etcd = await startEtcd();
    await etcd.admin('auth/user/add', { name: 'root', password: 'pa55-word' });
    await etcd.admin('auth/role/add', { name: 'root' });
    await etcd.admin('auth/user/grant', { user: 'root', role: 'root' });
    await etcd.admin('auth/enable', {});
    const file = join(hostRoot, 'var/lib/etcd-of-mine/password');
    writeFileSync(file, 'pa55-word\n', { mode: 0o600 });
    const settings = { ETCD_ENDPOINTS: etcd.endpoint, ETCD_USER: 'root', ETCD_PASSWORD_FILE: hostPath(file) };
    const { state } = await connect(settings);
    await state.transact(ctx, { if: [], then: [{ put: '/openebs/x', value: 'nonce-2' }] });
    expect((await state.get(ctx, '/openebs/x'))?.value).toBe('nonce-2');
    await state.close();

    writeFileSync(file, 'wrong\n');
    const other = await connect(settings);
    await expect(other.state.get(ctx, '/openebs/x')).rejects.toThrow(/root|password|user/i);
    await other.state.close();
  });

  it('whose file is missing is told by the path that the setting has', async () => {
    await expect(
      connect({ ETCD_ENDPOINTS: 'https://127.0.0.1:1', ETCD_CA_FILE: '/var/lib/nowhere/ca.crt' }),
    ).rejects.toThrow('/var/lib/nowhere/ca.crt');
  });
});

describe('no cluster', () => {
  const absent = { present: false, generation: null, settings: new Map<string, string>(), status: null };

  it('needs no etcd, and has after a start what it had before', async () => {
    const observe = () => Promise.resolve(absent);
    const first = await connect({ CLUSTER: 'none' }, { observe });
    await first.ensureEtcd(ctx);
    expect(first.which).toEqual({ none: true, own: false, endpoints: [] });
    await first.state.transact(ctx, { if: [], then: [{ put: '/openebs/x', value: '1' }] });
    await first.state.close();
    const second = await connect({ CLUSTER: 'none' }, { observe });
    expect(await second.state.get(ctx, '/openebs/x')).toMatchObject({ value: '1' });
    await second.state.close();
    expect(readdirSync(join(hostRoot, 'var/lib/openebs')).sort()).toEqual(['kept-in.json', 'local']);
  });

  it('ends the etcd of a time before, which nobody needs', async () => {
    const removed: string[] = [];
    const { state, ensureEtcd } = await connect(
      { CLUSTER: 'none' },
      {
        observe: () => Promise.resolve({ ...absent, present: true }),
        remove: (_ctx, name) => {
          removed.push(name);
          return Promise.resolve();
        },
      },
    );
    await ensureEtcd(ctx);
    await state.close();
    expect(removed).toEqual(['openebs-etcd']);
  });

  it('is refused, and leaves the etcd alone, while that may have volumes', async () => {
    writeFileSync(join(hostRoot, 'var/lib/openebs/etcd-incarnation.json'), '{}');
    const { state, ensureEtcd } = await connect({ CLUSTER: 'none' });
    for (const call of [
      ensureEtcd(ctx),
      state.get(ctx, '/openebs/x'),
      state.transact(ctx, { if: [], then: [] }),
      state.lease(ctx, 5000),
    ]) {
      await expect(call).rejects.toThrow('volumes may be recorded in etcd and would be hidden');
    }
  });
});
