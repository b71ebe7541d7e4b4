import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureCertificates, type Certificates } from '../../src/cluster/certificates.js';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import type { State } from '../../src/state/state.js';
import { startEtcd, type TestEtcd } from '../support/etcd.js';
import { context, createMirror, describeState, until } from './state-contract.js';

const log = createLog('silent');
const ctx = context();

interface SecureEtcd {
  etcd: TestEtcd;
  made: Certificates;
  readonly connect: (tls: { ca: Buffer; certificate?: Buffer; key?: Buffer }, timeoutMs?: number) => State;
  readonly end: () => Promise<void>;
}

async function startSecureEtcd(): Promise<SecureEtcd> {
  const directory = await mkdtemp(join(tmpdir(), 'openebs-tls-'));
  const made = await ensureCertificates(join(directory, 'certificates'), { addresses: [] });
  const { certificatePath, keyPath } = made.server;
  const etcd = await startEtcd({ tls: { ca: made.caPath, certificate: certificatePath, key: keyPath } });
  return {
    etcd,
    made,
    connect: (tls, callTimeoutMs = 5_000) =>
      createEtcdState({ endpoints: [etcd.endpoint], tls, log, callTimeoutMs }),
    async end() {
      await etcd[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

describeState('etcd with mutual TLS', async () => {
  const { made, connect, end } = await startSecureEtcd();
  const state = connect({ ca: made.ca, ...made.client });
  const second = connect({ ca: made.ca, ...made.client });
  return {
    state,
    second,
    async end() {
      await state.close();
      await second.close();
      await end();
    },
  };
});

describe('etcd with mutual TLS', () => {
  let secure: SecureEtcd;
  beforeAll(async () => {
    secure = await startSecureEtcd();
  }, 60_000);
  afterAll(() => secure.end());

  it('refuses a client without a certificate, and the client says what to check', async () => {
    const state = secure.connect({ ca: secure.made.ca }, 1_500);
    const call = state.get(ctx, '/openebs/a');
    await expect(call).rejects.toMatchObject({ code: 'unavailable' });
    await expect(call).rejects.toThrow(
      /127\.0\.0\.1.*fails \(alert bad certificate\): check that CA, client certificate/,
    );
    await state.close();
  });

  it('refuses a client with the certificate of another authority', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'openebs-foreign-'));
    const foreign = await ensureCertificates(directory, { addresses: [] });
    const state = secure.connect({ ca: secure.made.ca, ...foreign.client }, 1_500);
    await expect(state.get(ctx, '/openebs/a')).rejects.toThrow(/client certificate/);
    await state.close();
    const deceived = secure.connect({ ca: foreign.ca, ...secure.made.client }, 1_500);
    await expect(deceived.get(ctx, '/openebs/a')).rejects.toThrow(/TLS connection .* fails .*certificate/);
    await deceived.close();
    await rm(directory, { recursive: true });
  });

  it('says what to check when it is spoken to without TLS', async () => {
    const endpoint = secure.etcd.endpoint.replace('https:', 'http:');
    const state = createEtcdState({ endpoints: [endpoint], log, callTimeoutMs: 1_500 });
    const call = state.get(ctx, '/openebs/a');
    await expect(call).rejects.toMatchObject({ code: 'unavailable' });
    await expect(call).rejects.toThrow(/https/);
    await state.close();
  });

  it('keeps a watch over a restart', async () => {
    const state = secure.connect({ ca: secure.made.ca, ...secure.made.client });
    const mirror = createMirror();
    state.watch('/openebs/tls/', mirror.listener);
    await until(() => mirror.snapshots() === 1);
    await secure.etcd.stop();
    await secure.etcd.start();
    await state.transact(ctx, {
      if: [{ key: '/openebs/tls/a', absent: true }],
      then: [{ put: '/openebs/tls/a', value: 'x' }],
    });
    await until(() => mirror.known.has('/openebs/tls/a'));
    await state.close();
  });
});
