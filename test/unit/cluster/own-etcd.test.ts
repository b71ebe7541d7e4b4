import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureOwnEtcd } from '../../../src/cluster/own-etcd.js';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import type { RoleContainer, RoleContainers } from '../../../src/dataplane/role-container.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const files = {
  ca: '/host/certificates/ca.crt',
  serverCertificate: '/host/certificates/server.crt',
  serverKey: '/host/certificates/server.key',
  peerCertificate: '/host/certificates/peer.crt',
  peerKey: '/host/certificates/peer.key',
};
let root: string;
let asked: RoleContainer[];
let failing: AppError | null;
let renewed: number;
/** What the container that runs was made from. */
let image: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'own-etcd-'));
  mkdirSync(join(root, 'var/lib/openebs'), { recursive: true });
  asked = [];
  failing = null;
  renewed = 0;
  image = 'i';
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

function ensure(): Promise<void> {
  const status = () => ({ role: 'etcd', state: 'ready' as const, error: '', generation: 'g', image });
  const roles: Pick<RoleContainers, 'observe' | 'ensure' | 'renew'> = {
    observe: () => Promise.resolve({ present: true, generation: 'g', settings: new Map(), status: status() }),
    ensure: (_ctx, wanted) => {
      asked.push(wanted);
      return failing ? Promise.reject(failing) : Promise.resolve(status());
    },
    renew: (_ctx, wanted) => {
      renewed += 1;
      image = wanted.container.image;
      return Promise.resolve(status());
    },
  };
  const paths = createHostPaths(root, '/mnt');
  const targetPorts = { first: 13_260, last: 13_300 };
  const options = {
    roles: roles as RoleContainers,
    paths,
    image: 'i',
    cluster: 'c',
    port: 23_790,
    targetPorts,
  };
  return ensureOwnEtcd(ctx, options, files);
}

const formed = () => asked.map(({ spec }) => new Map(spec.lines).get('formed'));
const token = (wanted: RoleContainer | undefined) =>
  wanted?.spec.lines.map(([, value]) => value).find((value) => value.startsWith('--initial-cluster-token='));
const incarnation = () => join(root, 'var/lib/openebs/etcd-incarnation.json');
const pretendData = () => mkdirSync(join(root, 'var/lib/openebs/etcd/member'), { recursive: true });

describe('the etcd of our own', () => {
  it('is new once, and formed from its first start on', async () => {
    await ensure();
    expect(formed()).toEqual(['no', 'yes']);
    pretendData();
    await ensure();
    expect(formed()).toEqual(['no', 'yes', 'yes']);
    expect(new Set(asked.map(token)).size).toBe(1);
  });

  it('that did not come up is tried again as new, with the same token', async () => {
    failing = new AppError('deadline_exceeded', 'etcd does not answer');
    await expect(ensure()).rejects.toThrow('etcd does not answer');
    failing = null;
    await ensure();
    expect(formed()).toEqual(['no', 'no', 'yes']);
    expect(new Set(asked.map(token)).size).toBe(1);
  });

  it('that lost its data is not started as new: the container is told that it was formed', async () => {
    await ensure();
    asked = [];
    await ensure();
    expect(formed()).toEqual(['yes']);
  });

  it('is made anew once when it is of another image than the plugin', async () => {
    await ensure();
    image = 'older';
    await ensure();
    await ensure();
    expect(renewed).toBe(1);
  });

  it('does not adopt data of which nobody knows whose it is', async () => {
    pretendData();
    await expect(ensure()).rejects.toMatchObject({ code: 'conflict' });
    expect(asked).toEqual([]);
  });

  it.each(['', '{', '{"token":"","formed":true}', '{"token":"t"}'])(
    'does not begin anew when its incarnation is damaged: %j',
    async (content) => {
      writeFileSync(incarnation(), content);
      await expect(ensure()).rejects.toThrow('is damaged: restore it before etcd can start');
      expect(readFileSync(incarnation(), 'utf8')).toBe(content);
      expect(asked).toEqual([]);
    },
  );

  it('listens on loopback only and lets nobody in without a certificate', async () => {
    await ensure();
    const values = asked[0]?.spec.lines.map(([, value]) => value) ?? [];
    const listening = values.filter((value) => value.startsWith('--listen-'));
    expect(listening).toHaveLength(2);
    for (const value of listening) expect(value).toMatch(/=https:\/\/127\.0\.0\.1:\d+$/);
    expect(values).toEqual(
      expect.arrayContaining(['--client-cert-auth=true', '--peer-client-cert-auth=true']),
    );
    expect(values).toContain('--key-file=/certificates/server.key');
  });
});
