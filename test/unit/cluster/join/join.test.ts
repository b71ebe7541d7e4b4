import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Certificates, ensureCertificates } from '../../../../src/cluster/certificates.js';
import { askToJoin, type Candidate, type Joining } from '../../../../src/cluster/join/client.js';
import { type JoinServer, startJoinServer } from '../../../../src/cluster/join/server.js';
import { type JoinToken, sumOf } from '../../../../src/cluster/join/token.js';
import { createTokens, type Tokens } from '../../../../src/cluster/join/tokens.js';
import type { Ctx } from '../../../../src/context.js';
import { createLog } from '../../../../src/log.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import { records } from '../../../../src/state/records.js';
import type { State } from '../../../../src/state/state.js';
import { waitFor } from '../../../support/exec.js';

const directory = mkdtempSync(join(tmpdir(), 'join-'));
let stopping: AbortController;
let ctx: Ctx;
let state: State;
let tokens: Tokens;
let now: number;
let certificates: Certificates;
let server: JoinServer;
let port: number;
let answered: number;

beforeEach(async () => {
  stopping = new AbortController();
  ctx = { log: createLog('silent'), signal: stopping.signal, requestId: 'test' };
  state = createMemoryState();
  now = Date.UTC(2026, 0, 1);
  answered = 0;
  tokens = createTokens(state, () => now);
  certificates = await ensureCertificates(join(directory, 'cluster'), { addresses: [] });
  port = await freePort();
  server = startJoinServer(ctx, {
    advertise: '127.0.0.1',
    port,
    state,
    tokens,
    tls: () => ({
      cert: `${certificates.server.certificate.toString()}${certificates.ca.toString()}`,
      key: certificates.server.key.toString(),
    }),
    answer: () => {
      answered += 1;
      return Promise.resolve({
        cluster: 'c1',
        incarnation: 0,
        authority: certificates.ca.toString(),
        authorityKey: certificates.caKey.toString(),
        endpoints: ['https://10.0.0.1:23790'],
      });
    },
  });
  await waitFor('it listens', listens);
});

afterEach(async () => {
  server.close();
  stopping.abort();
  await state.close();
});

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port: found } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return found;
}

async function newToken(ttlMs?: number): Promise<JoinToken> {
  const { record, secret } = await tokens.create(ctx, ttlMs);
  const authority = sumOf(new X509Certificate(certificates.ca).raw);
  return { addresses: [], authority, id: record.id, secret };
}

const here = (): Candidate => ({ host: '127.0.0.1', port });

function ask(token: JoinToken, more: Partial<Joining> = {}, candidates: readonly Candidate[] = [here()]) {
  const joining = { token, node: 'n2', hostname: 'two', advertise: '10.0.0.2', port: 23_790, ...more };
  return askToJoin(ctx, candidates, joining);
}

/** The server listens a moment after it was started. */
function listens(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}

async function addPeer(node: string, address: string, alive: boolean): Promise<void> {
  const value = records.peer.encode({
    schema: 1,
    node,
    hostname: `host of ${node}`,
    peerUrl: `https://${address}:23791`,
    clientUrl: `https://${address}:23790`,
    member: null,
    lost: false,
    leaving: false,
  });
  const sign = records.alive.encode({ schema: 1, node, since: '2026-01-01T00:00:00Z' });
  const then = [{ put: keys.peer(node), value }, ...(alive ? [{ put: keys.alive(node), value: sign }] : [])];
  await state.transact(ctx, { if: [], then });
}

describe('a host that asks to join', () => {
  it('gets what it needs, and is counted', async () => {
    const token = await newToken();
    const joined = await ask(token);
    expect(joined).toMatchObject({
      cluster: 'c1',
      advertise: '10.0.0.2',
      endpoints: ['https://10.0.0.1:23790'],
    });
    expect(joined.authority).toBe(certificates.ca.toString());
    await ask(token, { node: 'n3', advertise: '10.0.0.3' });
    expect(await tokens.list(ctx)).toMatchObject([{ id: token.id, joined: 2 }]);
  });

  it('tells nothing to a host of another authority', async () => {
    const token = await newToken();
    const other = await ensureCertificates(join(directory, 'other'), { addresses: [] });
    const wrong = { ...token, authority: sumOf(new X509Certificate(other.ca).raw) };
    await ask(token);
    await expect(ask(wrong)).rejects.toThrow(/not of the cluster that the token is for/);
    expect(answered).toBe(1);
    expect(await tokens.list(ctx)).toMatchObject([{ joined: 1 }]);
  });

  it('is let in by the first of several that answers', async () => {
    const token = await newToken();
    await ask(token);
    const nobody = { host: '127.0.0.1', port: await freePort() };
    await expect(ask(token, {}, [nobody, here()])).resolves.toMatchObject({ cluster: 'c1' });
    await expect(ask(token, {}, [nobody, nobody])).rejects.toThrow(
      /no host of the cluster could be asked .*ECONNREFUSED/,
    );
    await expect(ask(token, {}, [])).rejects.toThrow(/no host of the cluster was found/);
  });

  it.each([
    ['revoked', (token: JoinToken) => tokens.revoke(ctx, token.id), /is not known here/],
    [
      'expired',
      () => Promise.resolve((now += 3_600_000)),
      /has expired \(2026-01-01T01:00:00.000Z; it is 2026-01-01T01:00/,
    ],
  ])('with a token that is %s is refused', async (_name, spoil, why) => {
    const token = await newToken();
    await spoil(token);
    await expect(ask(token)).rejects.toThrow(why);
    expect(answered).toBe(0);
  });

  it('with a wrong secret is refused like one with an unknown token, and soon nobody is listened to', async () => {
    const token = await newToken();
    const failures = [];
    for (let tries = 0; tries < 8; tries++) {
      const wrong = tries % 2 === 0 ? { ...token, secret: 'x'.repeat(32) } : { ...token, id: 'aaaaaaaa' };
      failures.push(await ask(wrong).then(() => 'let in', String));
    }
    expect(new Set(failures.slice(0, 5)).size).toBe(1);
    expect(failures[0]).toContain('is not known here');
    expect(failures.some((text) => text.includes('too many wrong tokens'))).toBe(true);
    await waitFor('it listens again', () => ask(token).catch(() => false as const));
  });

  it('is refused with the name of a host that is alive elsewhere, as a clone has it', async () => {
    await addPeer('n2', '10.0.0.9', true);
    await expect(ask(await newToken())).rejects.toThrow(
      /a host with the name n2 is in the cluster and alive .*cloned/,
    );
    await addPeer('n4', '10.0.0.4', false);
    await expect(ask(await newToken(), { node: 'n4' })).resolves.toMatchObject({ cluster: 'c1' });
  });

  it('is refused with the address of another that is alive', async () => {
    await addPeer('n9', '10.0.0.2', true);
    await expect(ask(await newToken())).rejects.toThrow(/the address 10.0.0.2 is that of host of n9/);
  });

  it('that came in before its answer was lost may ask again', async () => {
    await addPeer('n2', '10.0.0.2', true);
    await expect(ask(await newToken())).resolves.toMatchObject({ cluster: 'c1' });
  });

  it('cannot advertise loopback, or what is no address', async () => {
    const token = await newToken();
    await expect(ask(token, { advertise: null })).rejects.toThrow(
      /over loopback: name its address with --advertise/,
    );
    await expect(ask(token, { advertise: 'two.example' })).rejects.toThrow(/no IP address/);
  });
});

it('a token lives from a minute to a week', async () => {
  await expect(tokens.create(ctx, 59_999)).rejects.toMatchObject({ code: 'invalid_argument' });
  await expect(tokens.create(ctx, 7 * 24 * 3_600_000 + 1)).rejects.toMatchObject({
    code: 'invalid_argument',
  });
  await expect(tokens.revoke(ctx, 'none')).rejects.toMatchObject({ code: 'not_found' });
  expect(JSON.stringify(await state.range(ctx, '/'))).not.toContain((await newToken()).secret);
});

process.on('exit', () => {
  rmSync(directory, { recursive: true, force: true });
});
