import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureOwnEtcd, type OwnEtcdOptions, runMember, type Turn } from '../../../src/cluster/own-etcd.js';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import type { RoleStatus } from '../../../src/dataplane/role-client.js';
import type { RoleContainer, RoleContainers } from '../../../src/dataplane/role-container.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const certificates = {
  ca: Buffer.from('the authority'),
  server: { certificate: Buffer.from('server certificate'), key: Buffer.from('server key') },
  peer: { certificate: Buffer.from('peer certificate'), key: Buffer.from('peer key') },
};
let root: string;
let asked: RoleContainer[];
let failing: AppError | null;
let renewed: number;
/** What the container that runs was made from, and what it says of itself. */
let image: string;
let state: RoleStatus['state'];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'own-etcd-'));
  mkdirSync(join(root, 'var/lib/openebs'), { recursive: true });
  asked = [];
  failing = null;
  renewed = 0;
  image = 'i';
  state = 'ready';
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

function ensure(): Promise<void> {
  return ensureOwnEtcd(ctx, options(null), certificates);
}

/** Of a host that others can join. */
function run(turn: Turn): Promise<boolean> {
  const member = { token: 't', formed: true, name: 'openebs' };
  return runMember(ctx, options('10.0.0.1'), { certificates, incarnation: member, turn });
}

function options(advertise: string | null): OwnEtcdOptions {
  const status = () => ({ role: 'etcd', state, error: '', generation: 'g', image });
  const roles: Pick<RoleContainers, 'observe' | 'ensure' | 'renew' | 'readNote'> = {
    readNote: () => Promise.resolve(asked.at(-1)?.spec.secrets['etcd.json'] ?? null),
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
  return {
    roles: roles as RoleContainers,
    paths,
    image: 'i',
    cluster: 'c',
    port: 23_790,
    targetPorts,
    advertise,
  };
}

const formed = () => asked.map(({ spec }) => new Map(spec.lines).get('formed'));
const configuration = (wanted: RoleContainer | undefined) =>
  JSON.parse(wanted?.spec.secrets['etcd.json'] ?? '{}') as Record<string, unknown>;
const token = (wanted: RoleContainer) => configuration(wanted)['initial-cluster-token'];
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

  it('among others goes on from an older image until it is its turn', async () => {
    expect(await run('not its turn')).toBe(true);
    image = 'older';
    asked = asked.slice(-1);
    expect(await run('not its turn')).toBe(false);
    expect([renewed, asked.length]).toEqual([0, 1]);
    expect(await run('its turn')).toBe(true);
    expect(renewed).toBe(1);
    expect(await run('not its turn')).toBe(true);
  });

  it.each(['starting', 'error'] as const)(
    'from an older image that is %s is made anew at once',
    async (now) => {
      await run('its turn');
      image = 'older';
      state = now;
      expect(await run('not its turn')).toBe(true);
      expect(renewed).toBe(1);
    },
  );

  it('that the engine stops is left to it', async () => {
    image = 'older';
    state = 'draining';
    await run('not its turn');
    expect(renewed).toBe(0);
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
    const found = configuration(asked[0]);
    for (const url of ['listen-client-urls', 'listen-peer-urls']) {
      expect(found[url]).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/);
    }
    for (const [side, name] of [
      ['client-transport-security', 'server'],
      ['peer-transport-security', 'peer'],
    ] as const) {
      expect(found[side]).toEqual({
        'client-cert-auth': true,
        'trusted-ca-file': '/spec/ca.crt',
        'cert-file': `/spec/${name}.crt`,
        'key-file': `/spec/${name}.key`,
      });
    }
  });

  it('is given its own certificates as files, no key of the authority, and its token in no argument', async () => {
    await ensure();
    const { spec, container } = asked[0]!;
    expect(spec.secrets).toMatchObject({
      'ca.crt': 'the authority',
      'server.crt': 'server certificate',
      'server.key': 'server key',
      'peer.crt': 'peer certificate',
      'peer.key': 'peer key',
    });
    expect(container.binds?.map(({ target }) => target)).toEqual(['/data']);
    expect(token(asked[0]!)).toMatch(/^openebs-[0-9a-f]{16}$/);
    expect(JSON.stringify([spec.lines, container])).not.toContain(String(token(asked[0]!)));
  });
});
