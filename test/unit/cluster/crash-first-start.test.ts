import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ensureCertificates, type Certificates } from '../../../src/cluster/certificates.js';
import { ensureOwnEtcd } from '../../../src/cluster/own-etcd.js';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import type { RoleContainer, RoleContainers } from '../../../src/dataplane/role-container.js';
import { removeUnfinished } from '../../../src/lib/atomic-file.js';
import { hookFailPoints } from '../../../src/lib/fail-points.js';
import { createLog } from '../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };

afterEach(() => {
  hookFailPoints(null);
});

/** Stops at its n-th point for ever, as a process that died there; answers whether it got that far. */
async function diesAt(at: number, operation: () => Promise<unknown>): Promise<boolean> {
  const { promise: died, resolve } = Promise.withResolvers<boolean>();
  let left = at;
  hookFailPoints(() => {
    if (left-- !== 0) return undefined;
    resolve(true);
    return new Promise<never>(() => undefined);
  });
  const result = await Promise.race([died, operation().then(() => false)]);
  hookFailPoints(null);
  return result;
}

/** A first start on an empty disk, its etcd a container that takes any spec. Answers the specs it was given. */
function createStart(root: string) {
  const paths = createHostPaths(root, '/mnt');
  const specs: RoleContainer[] = [];
  const status = { role: 'etcd', state: 'ready' as const, error: '', generation: 'g', image: 'i' };
  const roles = {
    observe: () => Promise.resolve({ present: true, generation: 'g', settings: new Map(), status }),
    ensure: (_ctx: Ctx, wanted: RoleContainer) => {
      specs.push(wanted);
      return Promise.resolve(status);
    },
    // The first start calls nothing else of it: what is missing throws.
  } as unknown as RoleContainers;
  const targetPorts = { first: 13_260, last: 13_300 };
  const options = { roles, paths, image: 'i', cluster: 'c', port: 23_790, targetPorts, advertise: null };
  const directories = [paths.state, paths.certificates].map((directory) => paths.view(directory));
  return {
    specs,
    directories,
    async run(): Promise<Certificates> {
      for (const directory of directories) await removeUnfinished(directory);
      const certificates = await ensureCertificates(paths.view(paths.certificates), { addresses: [] });
      await ensureOwnEtcd(ctx, options, certificates);
      return certificates;
    },
  };
}

const tokenOf = ({ spec }: RoleContainer): unknown =>
  (JSON.parse(spec.secrets['etcd.json'] ?? '') as Record<string, unknown>)['initial-cluster-token'];

describe('a first start that dies', () => {
  it('at any point leaves the next one good certificates and one identity of its etcd', async () => {
    let points = 0;
    for (let reached = true; reached; points += 1) {
      const root = mkdtempSync(join(tmpdir(), 'start-'));
      try {
        mkdirSync(join(root, 'var/lib/openebs'), { recursive: true });
        const start = createStart(root);
        reached = await diesAt(points, () => start.run());
        const { ca, server, peer, client } = await start.run();
        const authority = new X509Certificate(ca);
        for (const { certificate, key } of [server, peer, client]) {
          const leaf = new X509Certificate(certificate);
          expect(leaf.verify(authority.publicKey), `point ${String(points)}`).toBe(true);
          expect(leaf.checkPrivateKey(createPrivateKey(key)), `point ${String(points)}`).toBe(true);
        }
        // etcd was told one token, whenever it was told: with another it would refuse its own data.
        expect(new Set(start.specs.map(tokenOf)).size, `point ${String(points)}`).toBe(1);
        expect(readFileSync(join(root, 'var/lib/openebs/etcd-incarnation.json'), 'utf8')).toContain(
          '"formed":true',
        );
        const files = start.directories.flatMap((directory) => readdirSync(directory));
        expect(files.filter((name) => name.endsWith('.tmp'))).toEqual([]);
      } finally {
        rmSync(root, { recursive: true });
      }
    }
    // Eight files of certificates and two states of the incarnation, before and after each, and the run itself.
    expect(points).toBeGreaterThan(20);
  });
});
