import { z } from 'zod';
import {
  address,
  duration,
  endpoint,
  hostPath,
  labels,
  matching,
  policies,
  poolPattern,
  size,
  sizeLimits,
  targetPorts,
  text,
  wholeNumber,
} from './config-values.js';
import { AppError } from './errors.js';
import { formatSize } from './lib/size.js';
import { logLevels } from './log.js';

/** One row per setting. config.json and README.md repeat names, defaults and descriptions; a test compares. */
export const settings = {
  LOG_LEVEL: ['info', 'How much is logged: debug, info, warn, error, fatal or silent'],
  NODE_ID: ['', "This host's name in the cluster; empty: the ID of its Docker engine"],
  DOCKER_SOCKET: ['/run/docker.sock', "The engine's socket, a path of the host below /run"],
  CLUSTER: [
    'etcd',
    'Where state is kept: in etcd, or none: by this host itself, in a file; one host alone, and no etcd at all',
  ],
  ETCD_ENDPOINTS: ['', 'URLs of an etcd of yours, separated by commas; empty: the plugin runs its own'],
  ETCD_CA_FILE: ['', 'Certificate authority of that etcd, a path of the host below /var/lib'],
  ETCD_CERT_FILE: ['', 'Client certificate for that etcd, a path of the host below /var/lib'],
  ETCD_KEY_FILE: ['', 'Key of the client certificate, a path of the host below /var/lib'],
  ETCD_USER: ['', 'User name for that etcd'],
  ETCD_PASSWORD_FILE: ['', 'File that holds the password of ETCD_USER, a path of the host below /var/lib'],
  ETCD_PORT: [
    '23790',
    "Client port of the plugin's own etcd; one higher is its peer port, two higher is where hosts join",
  ],
  MEMBER_GRACE: [
    '5m',
    "How long a host's etcd must not answer before a spare host takes its place, 5s to 30d",
  ],
  BACKUP_EVERY: [
    '6h',
    "How often a host with a member of the plugin's own etcd makes a backup; 0s: never, up to 30d",
  ],
  BACKUP_KEEP: ['8', 'How many backups a host keeps'],
  DISCOVERY: [
    'multicast',
    'How hosts of the same network that join find this one without its address, once others can join: multicast, or none',
  ],
  TARGET_ADDRESS: [
    '127.0.0.1',
    "Address on which this host's volumes are served; in a cluster by default the one that was advertised",
  ],
  TARGET_PORTS: ['13260-14259', 'Ports for the volumes, one each'],
  DEFAULT_SIZE: ['10G', 'Size of a volume created without the option size'],
  DEFAULT_FS: ['ext4', 'File system of a volume created without the option fs: ext4, xfs or btrfs'],
  DEFAULT_POOL: ['default', 'Pool of a volume created without the option pool'],
  MOUNT_TIMEOUT: ['25s', 'How long a mount may take before it fails with the reason, 1s to 110s'],
  DRAIN_TIMEOUT: ['90s', 'How long targets and initiators serve on at shutdown, 1s to 1h'],
  FAILOVER_AFTER: [
    '30s',
    'How long a node must be away before others take over what it has attached, 1s to 365d',
  ],
  EVENTS_MAX_COUNT: ['10000', 'How many Docker events of this host are kept'],
  EVENTS_MAX_AGE: ['7d', 'How long Docker events are kept, 1m to 365d'],
  EVENTS_NOISE: ['false', 'Keep the events of exec and of health probes too: true or false'],
  POLICIES: [
    'objects,services,vsm',
    'Policies that run with their defaults: objects, services, vsm, skydns, loadbalancer, separated by commas; none: the registrator is off',
  ],
  POLICY_DIR: [
    '/var/lib/openebs/policies',
    'Policies of yours, and configurations of all, a path of the host below /var/lib',
  ],
  REGISTRY_AT_STOP: [
    'hand-over',
    'What becomes of registrations when the plugin stops: hand-over (keys stay for 30 s, services at Consul until the next start) or withdraw',
  ],
  CONSUL_ADDRESS: ['', 'Consul agent of this host, like http://127.0.0.1:8500; empty: none'],
  CONSUL_TOKEN_FILE: ['', 'File that holds the token for that agent, a path of the host below /var/lib'],
  CONSUL_CA_FILE: ['', 'Certificate authority of that agent, a path of the host below /var/lib'],
  CONSUL_CERT_FILE: ['', 'Client certificate for that agent, a path of the host below /var/lib'],
  CONSUL_KEY_FILE: ['', 'Key of that client certificate, a path of the host below /var/lib'],
  NODE_LABELS: ['', 'Labels of this host, KEY=VALUE separated by commas'],
} as const satisfies Record<string, readonly [fallback: string, description: string]>;
export type SettingName = keyof typeof settings;

const varLib = hostPath('/var/lib');
const file = text((value) => (value === '' ? undefined : varLib(value)));

/** What says which etcd, where that is not ours. */
const ofYourEtcd = [
  'ETCD_ENDPOINTS',
  'ETCD_CA_FILE',
  'ETCD_CERT_FILE',
  'ETCD_KEY_FILE',
  'ETCD_USER',
  'ETCD_PASSWORD_FILE',
] as const;

const schema = z
  .object({
    LOG_LEVEL: z.enum(logLevels),
    NODE_ID: matching(/^([a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127})?$/, 'letters, digits, "_", ".", ":" and "-"'),
    DOCKER_SOCKET: text(hostPath('/run')),
    CLUSTER: z.enum(['etcd', 'none']),
    ETCD_ENDPOINTS: text((value) =>
      value === '' ? [] : value.split(',').map((url) => endpoint(url.trim())),
    ),
    ETCD_CA_FILE: file,
    ETCD_CERT_FILE: file,
    ETCD_KEY_FILE: file,
    ETCD_USER: text((value) => (value === '' ? undefined : value)),
    ETCD_PASSWORD_FILE: file,
    ETCD_PORT: wholeNumber(1024, 65_533),
    MEMBER_GRACE: duration('5s', '30d'),
    BACKUP_EVERY: duration('0s', '30d'),
    BACKUP_KEEP: wholeNumber(1, 1000),
    DISCOVERY: z.enum(['multicast', 'none']),
    TARGET_ADDRESS: text(address),
    TARGET_PORTS: text(targetPorts),
    DEFAULT_SIZE: text(size),
    DEFAULT_FS: z.enum(['ext4', 'xfs', 'btrfs']),
    DEFAULT_POOL: matching(
      poolPattern,
      'lower case letters, digits, "_", "." and "-", the first a letter or a digit',
    ),
    MOUNT_TIMEOUT: duration('1s', '110s'),
    DRAIN_TIMEOUT: duration('1s', '1h'),
    FAILOVER_AFTER: duration('1s', '365d'),
    EVENTS_MAX_COUNT: wholeNumber(1, 1_000_000),
    EVENTS_MAX_AGE: duration('1m', '365d'),
    EVENTS_NOISE: z.stringbool({ truthy: ['true', '1'], falsy: ['false', '0'] }),
    POLICIES: text(policies),
    POLICY_DIR: text(varLib),
    REGISTRY_AT_STOP: z.enum(['hand-over', 'withdraw']),
    CONSUL_ADDRESS: text((value) => (value === '' ? undefined : endpoint(value))),
    CONSUL_TOKEN_FILE: file,
    CONSUL_CA_FILE: file,
    CONSUL_CERT_FILE: file,
    CONSUL_KEY_FILE: file,
    NODE_LABELS: text(labels),
  } satisfies Record<SettingName, z.ZodType<unknown, string>>)
  .superRefine((values, context) => {
    const complain = (path: SettingName, message: string, wrong: boolean): void => {
      if (wrong) context.addIssue({ code: 'custom', path: [path], message });
    };
    const secure = values.ETCD_ENDPOINTS.filter((url) => url.startsWith('https:')).length;
    const least = sizeLimits.minBytes[values.DEFAULT_FS];
    const { first, last } = values.TARGET_PORTS;
    const runsEtcd = values.CLUSTER === 'etcd' && values.ETCD_ENDPOINTS.length === 0;
    const etcdMeets = runsEtcd && values.ETCD_PORT >= first - 2 && values.ETCD_PORT <= last;
    complain(
      'ETCD_ENDPOINTS',
      'must be all http or all https',
      secure > 0 && secure < values.ETCD_ENDPOINTS.length,
    );
    complain(
      'ETCD_CERT_FILE',
      'needs ETCD_KEY_FILE, and the other way round',
      !values.ETCD_CERT_FILE !== !values.ETCD_KEY_FILE,
    );
    complain(
      'ETCD_USER',
      'needs ETCD_PASSWORD_FILE, and the other way round',
      !values.ETCD_USER !== !values.ETCD_PASSWORD_FILE,
    );
    complain(
      'CONSUL_CERT_FILE',
      'needs CONSUL_KEY_FILE, and the other way round',
      !values.CONSUL_CERT_FILE !== !values.CONSUL_KEY_FILE,
    );
    for (const name of ofYourEtcd) {
      const isGiven = (values[name] ?? '').length > 0;
      complain(
        name,
        'is for an etcd, and CLUSTER=none uses none: empty one',
        isGiven && values.CLUSTER === 'none',
      );
    }
    complain('ETCD_PORT', 'it and the two ports above must lie outside TARGET_PORTS', etcdMeets);
    complain(
      'DEFAULT_SIZE',
      `must be at least ${formatSize(least)} for ${values.DEFAULT_FS}`,
      values.DEFAULT_SIZE < least,
    );
  });

type Values = z.infer<typeof schema>;

function shape(values: Values) {
  return Object.freeze({
    logLevel: values.LOG_LEVEL,
    /** Empty: the engine's ID. */
    nodeId: values.NODE_ID,
    /** A path of the host, like all files here: a managed plugin finds it below its own mounts. */
    dockerSocket: values.DOCKER_SOCKET,
    cluster: values.CLUSTER,
    etcd: Object.freeze({
      /** Empty: the plugin runs its own, unless `cluster` is none. */
      endpoints: Object.freeze(values.ETCD_ENDPOINTS),
      caFile: values.ETCD_CA_FILE,
      certFile: values.ETCD_CERT_FILE,
      keyFile: values.ETCD_KEY_FILE,
      user: values.ETCD_USER,
      passwordFile: values.ETCD_PASSWORD_FILE,
      /** Client port of our own etcd; its peer port is one higher, and hosts join two higher. */
      port: values.ETCD_PORT,
    }),
    memberGraceMs: values.MEMBER_GRACE,
    discovery: values.DISCOVERY,
    backup: Object.freeze({ everyMs: values.BACKUP_EVERY, keep: values.BACKUP_KEEP }),
    targetAddress: values.TARGET_ADDRESS,
    targetPorts: Object.freeze(values.TARGET_PORTS),
    defaults: Object.freeze({
      sizeBytes: values.DEFAULT_SIZE,
      fs: values.DEFAULT_FS,
      pool: values.DEFAULT_POOL,
    }),
    mountTimeoutMs: values.MOUNT_TIMEOUT,
    drainTimeoutMs: values.DRAIN_TIMEOUT,
    failoverAfterMs: values.FAILOVER_AFTER,
    events: Object.freeze({
      maxCount: values.EVENTS_MAX_COUNT,
      maxAgeMs: values.EVENTS_MAX_AGE,
      noise: values.EVENTS_NOISE,
    }),
    policies: Object.freeze({
      defaults: Object.freeze(values.POLICIES),
      /** A path of the host. */
      directory: values.POLICY_DIR,
    }),
    registry: Object.freeze({ farewell: values.REGISTRY_AT_STOP }),
    consul: Object.freeze({
      /** Undefined: none. */
      address: values.CONSUL_ADDRESS,
      tokenFile: values.CONSUL_TOKEN_FILE,
      caFile: values.CONSUL_CA_FILE,
      certFile: values.CONSUL_CERT_FILE,
      keyFile: values.CONSUL_KEY_FILE,
    }),
    nodeLabels: Object.freeze(values.NODE_LABELS),
  });
}
export type Config = ReturnType<typeof shape>;

/**
 * Reads all settings; an empty value means the default, as `docker plugin set NAME=` leaves one behind.
 * @throws AppError `invalid_argument` that names every wrong setting at once.
 */
export function parseConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const raw = Object.fromEntries(
    Object.entries(settings).map(([name, [fallback]]) => {
      const given = env[name]?.trim() ?? '';
      return [name, given === '' ? fallback : given];
    }),
  );
  const parsed = schema.safeParse(raw);
  if (parsed.success) return shape(parsed.data);
  throw new AppError(
    'invalid_argument',
    `the settings are wrong (change them with "docker plugin set"):\n${z.prettifyError(parsed.error)}`,
  );
}
