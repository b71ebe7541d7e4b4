/**
 * The etcd that comes with the plugin: one member in a container of this host, on loopback, with mutual TLS, so
 * that no other local user reads the CHAP secrets in it.
 *
 * INVARIANTS
 * - "New" is a phase of its life, once per identity: a random token, kept outside the data directory, is made
 *   when there is neither data nor token, and `formed` is noted there after the first start. From then on a
 *   missing data directory is a lost member, never a new one.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { Ctx } from '../context.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { RoleContainer, RoleContainers } from '../dataplane/role-container.js';
import { AppError } from '../errors.js';
import { writeFileAtomic } from '../lib/atomic-file.js';
import { failPoint } from '../lib/fail-points.js';

const incarnationShape = z.object({ token: z.string().min(1), formed: z.boolean() });
type Incarnation = z.infer<typeof incarnationShape>;

export interface OwnEtcdOptions {
  readonly roles: RoleContainers;
  readonly paths: HostPaths;
  readonly image: string;
  readonly cluster: string;
  /** Client port; the peer port is one higher. */
  readonly port: number;
  readonly targetPorts: { readonly first: number; readonly last: number };
}

/** What it needs of the certificates, and no more: the authority's key and our own as a client stay outside. */
export interface EtcdCertificates {
  readonly ca: Buffer;
  readonly server: { readonly certificate: Buffer; readonly key: Buffer };
  readonly peer: { readonly certificate: Buffer; readonly key: Buffer };
}

export const ETCD_CONTAINER = 'openebs-etcd';
/** It goes after the targets, but it does not hold up the host's shutdown for long. */
const DRAIN_SECONDS = 15;
const CONFIGURATION = 'etcd.json';
const QUOTA_BYTES = 2 * 2 ** 30;

/** Makes it run and resolves when it serves. Idempotent. */
export async function ensureOwnEtcd(
  ctx: Ctx,
  options: OwnEtcdOptions,
  certificates: EtcdCertificates,
): Promise<void> {
  const { paths, roles } = options;
  const file = paths.view(path.join(paths.state, 'etcd-incarnation.json'));
  await mkdir(paths.view(paths.etcdData), { recursive: true, mode: 0o700 });
  const incarnation = (await readIncarnation(file)) ?? (await begin(file, paths));
  const wanted = container(options, certificates, incarnation);
  const { status } = await roles.observe(ctx, ETCD_CONTAINER);
  // Volumes work on without etcd for the second that this takes; what it has acknowledged is on disk.
  const older = status?.state === 'ready' && status.image !== options.image;
  await failPoint('before etcd run');
  await (older ? roles.renew(ctx, wanted) : roles.ensure(ctx, wanted));
  await failPoint('after etcd run');
  if (incarnation.formed) return;
  const formed = { ...incarnation, formed: true };
  await writeFileAtomic(file, JSON.stringify(formed));
  await roles.ensure(ctx, container(options, certificates, formed));
}

async function begin(file: string, paths: HostPaths): Promise<Incarnation> {
  const hasData = await stat(path.join(paths.view(paths.etcdData), 'member')).then(
    () => true,
    () => false,
  );
  if (hasData) {
    throw new AppError(
      'conflict',
      `${paths.etcdData} holds the data of an etcd member, but ${paths.state}/etcd-incarnation.json, which says ` +
        'whose, is missing: restore that file, or move the data away to begin anew',
    );
  }
  const incarnation = { token: `openebs-${randomBytes(8).toString('hex')}`, formed: false };
  await writeFileAtomic(file, JSON.stringify(incarnation));
  return incarnation;
}

async function readIncarnation(file: string): Promise<Incarnation | null> {
  try {
    return incarnationShape.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new AppError('internal', `${file} is damaged: restore it before etcd can start`, { cause });
  }
}

function container(
  options: OwnEtcdOptions,
  certificates: EtcdCertificates,
  { token, formed }: Incarnation,
): RoleContainer {
  const { paths, port, targetPorts } = options;
  return {
    container: {
      name: ETCD_CONTAINER,
      image: options.image,
      command: ['etcd'],
      labels: { 'openebs.role': 'etcd', 'openebs.cluster': options.cluster },
      binds: [{ source: paths.etcdData, target: '/data' }],
      // None: it listens above port 1023, and its files are its own user's.
      capabilities: [],
      devices: [],
      deviceRules: [],
      securityOptions: ['label=disable', 'no-new-privileges'],
      stopTimeoutSeconds: DRAIN_SECONDS + 15,
    },
    spec: {
      lines: [
        ['port', String(port)],
        ['formed', formed ? 'yes' : 'no'],
        ['drain', String(DRAIN_SECONDS)],
        ['after', `${String(targetPorts.first)}-${String(targetPorts.last)}`],
        ['arg', `--config-file=/spec/${CONFIGURATION}`],
      ],
      // The token too: everybody on the host can read the arguments of a process.
      secrets: {
        [CONFIGURATION]: JSON.stringify(configuration(port, token)),
        'ca.crt': certificates.ca.toString(),
        'server.crt': certificates.server.certificate.toString(),
        'server.key': certificates.server.key.toString(),
        'peer.crt': certificates.peer.certificate.toString(),
        'peer.key': certificates.peer.key.toString(),
      },
    },
  };
}

/** etcd reads YAML, of which JSON is a part. It reads certificates anew with each connection, so renewed ones do. */
function configuration(port: number, token: string) {
  const client = `https://127.0.0.1:${String(port)}`;
  const peer = `https://127.0.0.1:${String(port + 1)}`;
  const security = (name: 'server' | 'peer') => ({
    'client-cert-auth': true,
    'trusted-ca-file': '/spec/ca.crt',
    'cert-file': `/spec/${name}.crt`,
    'key-file': `/spec/${name}.key`,
  });
  return {
    name: 'openebs',
    'data-dir': '/data',
    'listen-client-urls': client,
    'advertise-client-urls': client,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `openebs=${peer}`,
    'initial-cluster-state': 'new',
    'initial-cluster-token': token,
    'client-transport-security': security('server'),
    'peer-transport-security': security('peer'),
    'auto-compaction-mode': 'periodic',
    // Nobody reads history: a watch that was away longer lists anew. Dead revisions count for the quota.
    'auto-compaction-retention': '5m',
    'quota-backend-bytes': QUOTA_BYTES,
    'log-level': 'warn',
  };
}
