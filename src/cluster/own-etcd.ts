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

/** File names below the certificates' directory, which the container sees as /certificates. */
export interface EtcdCertificateFiles {
  readonly ca: string;
  readonly serverCertificate: string;
  readonly serverKey: string;
  readonly peerCertificate: string;
  readonly peerKey: string;
}

export const ETCD_CONTAINER = 'openebs-etcd';
/** It goes after the targets, but it does not hold up the host's shutdown for long. */
const DRAIN_SECONDS = 15;
const QUOTA_BYTES = 2 * 2 ** 30;

/** Makes it run and resolves when it serves. Idempotent. */
export async function ensureOwnEtcd(
  ctx: Ctx,
  options: OwnEtcdOptions,
  files: EtcdCertificateFiles,
): Promise<void> {
  const { paths, roles } = options;
  const file = paths.view(path.join(paths.state, 'etcd-incarnation.json'));
  await mkdir(paths.view(paths.etcdData), { recursive: true, mode: 0o700 });
  const incarnation = (await readIncarnation(file)) ?? (await begin(file, paths));
  const wanted = container(options, files, incarnation);
  const { status } = await roles.observe(ctx, ETCD_CONTAINER);
  // Volumes work on without etcd for the second that this takes; what it has acknowledged is on disk.
  const older = status?.state === 'ready' && status.image !== options.image;
  await (older ? roles.renew(ctx, wanted) : roles.ensure(ctx, wanted));
  if (incarnation.formed) return;
  const formed = { ...incarnation, formed: true };
  await writeFileAtomic(file, JSON.stringify(formed));
  await roles.ensure(ctx, container(options, files, formed));
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
  files: EtcdCertificateFiles,
  { token, formed }: Incarnation,
): RoleContainer {
  const { paths, port, targetPorts } = options;
  return {
    container: {
      name: ETCD_CONTAINER,
      image: options.image,
      command: ['etcd'],
      labels: { 'openebs.role': 'etcd', 'openebs.cluster': options.cluster },
      binds: [
        { source: paths.etcdData, target: '/data' },
        { source: paths.certificates, target: '/certificates' },
      ],
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
        ...etcdArguments(port, token, files).map((argument) => ['arg', argument] as const),
      ],
      secrets: {},
    },
  };
}

function etcdArguments(port: number, token: string, files: EtcdCertificateFiles): string[] {
  const client = `https://127.0.0.1:${String(port)}`;
  const peer = `https://127.0.0.1:${String(port + 1)}`;
  const certificate = (file: string) => path.join('/certificates', path.basename(file));
  return [
    '--name=openebs',
    '--data-dir=/data',
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=openebs=${peer}`,
    '--initial-cluster-state=new',
    `--initial-cluster-token=${token}`,
    '--client-cert-auth=true',
    `--trusted-ca-file=${certificate(files.ca)}`,
    `--cert-file=${certificate(files.serverCertificate)}`,
    `--key-file=${certificate(files.serverKey)}`,
    '--peer-client-cert-auth=true',
    `--peer-trusted-ca-file=${certificate(files.ca)}`,
    `--peer-cert-file=${certificate(files.peerCertificate)}`,
    `--peer-key-file=${certificate(files.peerKey)}`,
    '--auto-compaction-mode=periodic',
    '--auto-compaction-retention=1h',
    `--quota-backend-bytes=${String(QUOTA_BYTES)}`,
    '--log-level=warn',
  ];
}
