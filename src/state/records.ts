/**
 * Shapes of the values in shared state. Each is JSON with a `schema` number, checked on read; fields this
 * version does not know survive a rewrite (loose objects), and a newer schema is refused with the reason, never
 * rewritten. Every encoding carries a fresh `nonce`, so that a writer whose answer was lost can tell its own
 * write from another's.
 */
import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { z } from 'zod';
import { poolPattern } from '../config-values.js';
import { AppError } from '../errors.js';

export const fileSystems = ['ext4', 'xfs', 'btrfs'] as const;
export type FileSystem = (typeof fileSystems)[number];

/**
 * Records come from shared state, and end in paths, in the specs of roles and in the arguments of root's programs:
 * these patterns are what keeps a damaged or hostile one from leaving its place there.
 */
const id = z.string().regex(/^[a-z0-9][a-z0-9-]{0,40}$/);
const pool = z.string().regex(poolPattern);
const iqn = z.string().regex(/^iqn\.[a-z0-9.:-]{1,200}$/);
const account = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);
const mkfsArgument = z.string().regex(/^[A-Za-z0-9^_.,=-]{1,400}$/);
const mountOption = z.string().regex(/^[a-z0-9_=:-]{1,80}$/);

const volume = z.looseObject({
  schema: z.literal(1),
  name: z.string().regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$/),
  /** Short, lower case, unique: what containers, files and IQNs are named after. */
  id,
  sizeBytes: z.int().positive(),
  fs: z.enum(fileSystems),
  mkfsOptions: z.array(mkfsArgument),
  mountOptions: z.array(mountOption),
  uid: z.int().nonnegative(),
  gid: z.int().nonnegative(),
  /** Permission bits of the volume's root, e.g. 0o755. */
  mode: z.int().nonnegative().max(0o7777),
  pool,
  /** creating: target not up yet. ready. removing: no way back. */
  status: z.enum(['creating', 'ready', 'removing']),
  /**
   * Of one that is being removed: its data need not be found. It was never ready, so none can be on a disk that is away now;
   * or its host has found it, and deletes it.
   */
  neverReady: z.boolean().optional(),
  /** True once mkfs has succeeded; mkfs never runs again after that. */
  formatted: z.boolean(),
  /** Epoch of the newest attachment; grows by one with each. */
  epoch: z.int().nonnegative(),
  /** RFC 3339. */
  createdAt: z.string(),
});
export type VolumeRecord = z.infer<typeof volume>;

const target = z.looseObject({
  schema: z.literal(1),
  volume: z.string(),
  volumeId: id,
  copy: z.int().nonnegative(),
  node: z.string(),
  iqn,
  address: z.string().refine((value) => isIP(value) !== 0, 'not an IP address'),
  port: z.int().min(1).max(65_535),
  pool,
});
export type TargetRecord = z.infer<typeof target>;

const attachment = z.looseObject({
  schema: z.literal(1),
  volume: z.string(),
  volumeId: id,
  node: z.string(),
  epoch: z.int().nonnegative(),
  initiatorIqn: iqn,
  chapUser: account,
  chapSecret: account,
  /** RFC 3339. */
  attachedAt: z.string(),
});
export type AttachmentRecord = z.infer<typeof attachment>;

/** What was taken from a node that was away. It stays until that node has given up what it had of the volume. */
const eviction = z.looseObject({
  schema: z.literal(1),
  volume: z.string(),
  volumeId: id,
  /** Of the attachment that is void. */
  epoch: z.int().nonnegative(),
});
export type EvictionRecord = z.infer<typeof eviction>;

const node = z.looseObject({
  schema: z.literal(1),
  id: z.string(),
  hostname: z.string(),
  address: z.string(),
  engineVersion: z.string(),
  pluginVersion: z.string(),
  pools: z.record(z.string(), z.object({ sizeBytes: z.int(), freeBytes: z.int() })),
  labels: z.record(z.string(), z.string()),
});
export type NodeRecord = z.infer<typeof node>;

const alive = z.looseObject({ schema: z.literal(1), node: z.string(), since: z.string() });
export type AliveRecord = z.infer<typeof alive>;

const cluster = z.looseObject({
  schema: z.literal(1),
  id: z.string(),
  createdAt: z.string(),
  /** Grows by one with each recovery: of two etcds that claim to be this cluster, the higher one is it. */
  incarnation: z.int().nonnegative().optional(),
});
export type ClusterRecord = z.infer<typeof cluster>;

export const voterCounts = [1, 3, 5] as const;

const formation = z.looseObject({
  schema: z.literal(1),
  /** How many voters there shall be, hosts permitting. */
  voters: z.union([z.literal(1), z.literal(3), z.literal(5)]),
});
export type FormationRecord = z.infer<typeof formation>;

const etcdUrl = z.string().regex(/^https:\/\/(\[[0-9a-fA-F:.]+\]|[0-9.]+):\d{1,5}$/);
const number64 = z.string().regex(/^[0-9]{1,20}$/);

const peer = z.looseObject({
  schema: z.literal(1),
  node: z.string(),
  hostname: z.string(),
  peerUrl: etcdUrl,
  clientUrl: etcdUrl,
  /** The member whose data it has; null: none. */
  member: number64.nullable(),
  /** The data of that member is gone. */
  lost: z.boolean(),
  /** It is to leave: the member goes first. */
  leaving: z.boolean(),
});
export type PeerRecord = z.infer<typeof peer>;

const duty = z.looseObject({
  schema: z.literal(1),
  node: z.string(),
  member: number64,
  /** What etcd calls the member. */
  name: z.string().regex(/^[a-z0-9-]{1,64}$/),
  /** All members as they were when this one was added: `name=URL,...` */
  initialCluster: z.string().max(4000),
  /** etcd's number for the cluster. */
  clusterId: number64,
});
export type DutyRecord = z.infer<typeof duty>;

const manager = z.looseObject({
  schema: z.literal(1),
  node: z.string(),
  /** What it does about the members, or waits for; empty: all is as wanted. */
  doing: z.string(),
});
export type ManagerRecord = z.infer<typeof manager>;

const renewal = z.looseObject({ schema: z.literal(1), node: z.string(), hostname: z.string() });
export type RenewalRecord = z.infer<typeof renewal>;

const joinToken = z.looseObject({
  schema: z.literal(1),
  id: z.string(),
  /** SHA-256 of the secret, hexadecimal. */
  secretSum: z.string(),
  /** RFC 3339. */
  createdAt: z.string(),
  expiresAt: z.string(),
  joined: z.int().nonnegative(),
});
export type JoinTokenRecord = z.infer<typeof joinToken>;

const nodeSettings = z.looseObject({
  schema: z.literal(1),
  labels: z.record(z.string(), z.string()),
  /** It runs no member and makes no new volumes. */
  drained: z.boolean(),
});
export type NodeSettingsRecord = z.infer<typeof nodeSettings>;

const event = z.looseObject({
  schema: z.literal(1),
  node: z.string(),
  type: z.string(),
  action: z.string(),
  actor: z.string(),
  attributes: z.record(z.string(), z.string()),
  scope: z.string(),
  /** Nanoseconds since 1970, as the engine stamped it: too long for a number. */
  timeNano: z.string(),
});
export type EventRecord = z.infer<typeof event>;

export const mergeRules = ['min', 'first', 'union'] as const;

/** One owner's wish that a key of the registry has a value. */
const claim = z.looseObject({
  schema: z.literal(1),
  key: z.string().min(1),
  owner: z.string().min(1),
  value: z.string(),
  /** What becomes of different values: the smallest, the one that was claimed first, or all of them in a list. */
  merge: z.enum(mergeRules),
  /** Whether a key that nobody claimed and somebody else has written is taken over. */
  overwrite: z.boolean(),
  /** What it comes from: policy and object. */
  source: z.string(),
});
export type ClaimRecord = z.infer<typeof claim>;

const sharedKey = z.looseObject({ schema: z.literal(1), key: z.string().min(1) });
export type SharedKeyRecord = z.infer<typeof sharedKey>;

const ending = z.looseObject({
  schema: z.literal(1),
  id: z.string().min(1),
  cluster: z.string().min(1),
  /** The data goes as well. */
  purge: z.boolean(),
  /** Hosts that have a part in it. */
  nodes: z.array(z.string()),
  /** Before that nobody acts on it: it may be taken back, and goes with its lease. */
  decided: z.boolean(),
});
export type EndingRecord = z.infer<typeof ending>;

const ended = z.looseObject({ schema: z.literal(1), node: z.string(), ending: z.string() });
export type EndedRecord = z.infer<typeof ended>;

export interface Codec<T> {
  encode(record: T): string;
  /** @throws AppError `internal` for a damaged value, `conflict` for one written by a newer version. */
  decode(key: string, value: string): T;
}

const head = z.looseObject({ schema: z.int() });

function codec<T>(kind: string, shape: z.ZodType<T>): Codec<T> {
  return {
    encode: (record) => JSON.stringify({ ...record, nonce: randomUUID() }),
    decode(key, value) {
      let json: unknown;
      try {
        json = JSON.parse(value);
      } catch (cause) {
        throw new AppError('internal', `the ${kind} record at ${key} is damaged: not JSON`, { cause });
      }
      const version = head.safeParse(json);
      if (version.success && version.data.schema > 1) {
        throw new AppError(
          'conflict',
          `the ${kind} record at ${key} was written by a newer version of this plugin (schema ` +
            `${String(version.data.schema)}, this one reads 1): upgrade the plugin on this host`,
        );
      }
      const parsed = shape.safeParse(json);
      if (parsed.success) return parsed.data;
      throw new AppError(
        'internal',
        `the ${kind} record at ${key} is damaged: ${z.prettifyError(parsed.error)}`,
      );
    },
  };
}

export const records = {
  volume: codec<VolumeRecord>('volume', volume),
  target: codec<TargetRecord>('target', target),
  attachment: codec<AttachmentRecord>('attachment', attachment),
  eviction: codec<EvictionRecord>('eviction', eviction),
  node: codec<NodeRecord>('node', node),
  alive: codec<AliveRecord>('alive', alive),
  cluster: codec<ClusterRecord>('cluster', cluster),
  formation: codec<FormationRecord>('formation', formation),
  peer: codec<PeerRecord>('peer', peer),
  duty: codec<DutyRecord>('duty', duty),
  manager: codec<ManagerRecord>('manager', manager),
  ending: codec<EndingRecord>('ending', ending),
  ended: codec<EndedRecord>('ended', ended),
  renewal: codec<RenewalRecord>('renewal', renewal),
  joinToken: codec<JoinTokenRecord>('join token', joinToken),
  nodeSettings: codec<NodeSettingsRecord>('node settings', nodeSettings),
  event: codec<EventRecord>('event', event),
  claim: codec<ClaimRecord>('claim', claim),
  sharedKey: codec<SharedKeyRecord>('shared key', sharedKey),
} as const;
