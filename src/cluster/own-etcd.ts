/**
 * The etcd that comes with the plugin: one member in a container of this host, with mutual TLS, so that nobody else
 * reads the CHAP secrets in it. On loopback, and on the address of this host once others can join.
 *
 * INVARIANTS
 * - "New" is a phase of its life, once per identity: a random token, kept outside the data directory, is made
 *   when there is neither data nor token, and `formed` is noted there after the first start. From then on a
 *   missing data directory is a lost member, never a new one.
 */
import { mkdir } from 'node:fs/promises';
import type { Ctx } from '../context.js';
import type { HostPaths } from '../dataplane/host-paths.js';
import type { RoleContainer, RoleContainers } from '../dataplane/role-container.js';
import { failPoint } from '../lib/fail-points.js';
import {
  beginIncarnation,
  type Incarnation,
  readIncarnation,
  writeIncarnation,
} from './formation/incarnation.js';
import { urlOf, urlsOf } from './formation/membership.js';
import { canWait } from './renewal/restart.js';

export interface OwnEtcdOptions {
  readonly roles: RoleContainers;
  readonly paths: HostPaths;
  readonly image: string;
  readonly cluster: string;
  /** Client port; the peer port is one higher. */
  readonly port: number;
  readonly targetPorts: { readonly first: number; readonly last: number };
  /** Address of this host for the others; null: there are none. */
  readonly advertise: string | null;
}

/** What it needs of the certificates, and no more: the authority's key and our own as a client stay outside. */
export interface EtcdCertificates {
  readonly ca: Buffer;
  readonly server: { readonly certificate: Buffer; readonly key: Buffer };
  readonly peer: { readonly certificate: Buffer; readonly key: Buffer };
}

export const ETCD_CONTAINER = 'openebs-etcd';
export const RESCUE_CONTAINER = 'openebs-etcd-rescue';
/** It goes after the targets, but it does not hold up the host's shutdown for long. */
const DRAIN_SECONDS = 15;
const CONFIGURATION = 'etcd.json';
/** What etcd's database may take on each member. */
export const QUOTA_BYTES = 2 * 2 ** 30;

/** Makes it run and resolves when it serves. Idempotent. */
export async function ensureOwnEtcd(
  ctx: Ctx,
  options: OwnEtcdOptions,
  certificates: EtcdCertificates,
): Promise<void> {
  const { paths } = options;
  await mkdir(paths.view(paths.etcdData), { recursive: true, mode: 0o700 });
  const incarnation = (await readIncarnation(paths)) ?? (await beginIncarnation(paths));
  await runMember(ctx, options, { certificates, incarnation, turn: 'its turn' });
}

/** Whether the container of a member that serves may end, for what is different in this version of the plugin alone. */
export type Turn = 'its turn' | 'not its turn';

/**
 * The member of this incarnation, new, joining or long there. Resolves when it serves. Idempotent. One whose turn it is not
 * yet goes on as it is.
 * @returns whether it is as it should be
 */
export async function runMember(
  ctx: Ctx,
  options: OwnEtcdOptions,
  {
    certificates,
    incarnation,
    turn,
  }: { certificates: EtcdCertificates; incarnation: Incarnation; turn: Turn },
): Promise<boolean> {
  const { paths, roles } = options;
  const wanted = container(options, certificates, incarnation);
  const { status } = await roles.observe(ctx, ETCD_CONTAINER);
  if (turn === 'not its turn') {
    const running = {
      image: status?.image,
      configuration: await roles.readNote(ETCD_CONTAINER, CONFIGURATION),
    };
    const configuration = wanted.spec.secrets[CONFIGURATION] ?? null;
    if (canWait(status?.state, running, { image: options.image, configuration })) return false;
  }
  // Volumes work on without etcd for the second that this takes; what it has acknowledged is on disk.
  const older = status !== null && status.state !== 'draining' && status.image !== options.image;
  await failPoint('before etcd run');
  await (older ? roles.renew(ctx, wanted) : roles.ensure(ctx, wanted));
  await failPoint('after etcd run');
  if (incarnation.formed) return true;
  const formed = { ...incarnation, formed: true };
  await writeIncarnation(paths, formed);
  await roles.ensure(ctx, container(options, certificates, formed));
  return true;
}

/**
 * What a member had, answered by an etcd over a copy of its data that takes itself for the only one. On the port of the
 * member, which must not run. The caller removes the container.
 */
export async function runAlone(
  ctx: Ctx,
  options: OwnEtcdOptions,
  certificates: EtcdCertificates,
  directory: string,
): Promise<void> {
  const incarnation = { token: 'openebs-rescue', formed: true, name: 'openebs-rescue' };
  const base = container({ ...options, advertise: null }, certificates, incarnation);
  const settings = {
    ...configuration({ ...options, advertise: null }, incarnation),
    'force-new-cluster': true,
  };
  await options.roles.ensure(ctx, {
    container: { ...base.container, name: RESCUE_CONTAINER, binds: [{ source: directory, target: '/data' }] },
    spec: { ...base.spec, secrets: { ...base.spec.secrets, [CONFIGURATION]: JSON.stringify(settings) } },
  });
}

function container(
  options: OwnEtcdOptions,
  certificates: EtcdCertificates,
  incarnation: Incarnation,
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
        ['formed', incarnation.formed ? 'yes' : 'no'],
        ['drain', String(DRAIN_SECONDS)],
        ['after', `${String(targetPorts.first)}-${String(targetPorts.last)}`],
        ['arg', `--config-file=/spec/${CONFIGURATION}`],
      ],
      // The token too: everybody on the host can read the arguments of a process.
      secrets: {
        [CONFIGURATION]: JSON.stringify(configuration(options, incarnation)),
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
function configuration({ port, advertise }: OwnEtcdOptions, { token, name, initialCluster }: Incarnation) {
  const loopback = urlOf('127.0.0.1', port);
  const { clientUrl, peerUrl } = urlsOf(advertise ?? '127.0.0.1', port);
  const security = (side: 'server' | 'peer') => ({
    'client-cert-auth': true,
    'trusted-ca-file': '/spec/ca.crt',
    'cert-file': `/spec/${side}.crt`,
    'key-file': `/spec/${side}.key`,
  });
  return {
    name,
    'data-dir': '/data',
    'listen-client-urls': clientUrl === loopback ? loopback : `${loopback},${clientUrl}`,
    'advertise-client-urls': clientUrl,
    'listen-peer-urls': peerUrl,
    // The rest of the initials is read at the first start alone.
    'initial-advertise-peer-urls': peerUrl,
    'initial-cluster': initialCluster ?? `${name}=${peerUrl}`,
    'initial-cluster-state': initialCluster === undefined ? 'new' : 'existing',
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
