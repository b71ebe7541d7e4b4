/** The settings of the registrator that runs alone, by flag or by environment variable: `--log-level` is LOG_LEVEL. */
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { address, duration, endpoint, listenAddress, matching, policies, text } from '../config-values.js';
import { AppError } from '../errors.js';
import { quote } from '../lib/quote.js';
import { logLevels } from '../log.js';

/** One row per setting; README.md repeats them, and a test compares. */
export const settings = {
  LOG_LEVEL: ['info', 'How much is logged: debug, info, warn, error, fatal or silent'],
  NODE_ID: ['', "This host's name in the registry; empty: the ID of its Docker engine"],
  INSTANCE: ['registrator', 'Tells registrators of one host apart, the plugin among them'],
  DOCKER_SOCKET: [
    '/var/run/docker.sock',
    "The engine's socket; mount its directory, so that it survives a restart",
  ],
  ADDRESS: ['', "Of services on published ports; empty: the host's first address that is not loopback"],
  ETCD_ENDPOINTS: [
    '',
    'URLs of etcd, separated by commas, or none; empty: http://127.0.0.1:2379, or none where CONSUL_ADDRESS is set',
  ],
  ETCD_CA_FILE: ['', 'Certificate authority of that etcd'],
  ETCD_CERT_FILE: ['', 'Client certificate for that etcd'],
  ETCD_KEY_FILE: ['', 'Key of the client certificate'],
  ETCD_USER: ['', 'User name for that etcd'],
  ETCD_PASSWORD_FILE: ['', 'File that holds the password of ETCD_USER'],
  CONSUL_ADDRESS: ['', 'Consul agent, like http://127.0.0.1:8500 or unix:///path; empty: none'],
  CONSUL_TOKEN_FILE: ['', 'File that holds the token for that agent'],
  CONSUL_CA_FILE: ['', 'Certificate authority of that agent'],
  CONSUL_CERT_FILE: ['', 'Client certificate for that agent'],
  CONSUL_KEY_FILE: ['', 'Key of that client certificate'],
  POLICIES: [
    'objects,services',
    'Built-in policies that run with their defaults, separated by commas: objects, services, vsm, skydns, loadbalancer; or none',
  ],
  POLICY_DIR: ['/etc/openebs/policies', 'Policies of yours, and configurations of all'],
  AT_STOP: [
    'hand-over',
    'What becomes of registrations at SIGTERM: hand-over (keys stay for LEASE, services at Consul until the next start) or withdraw',
  ],
  LEASE: ['30s', 'How long registrations outlive a registrator that was killed, 5s to 1h'],
  RESYNC: ['5m', 'How often all objects are looked at without an event, 10s to 1d'],
  LISTEN: ['127.0.0.1:9464', 'Where /metrics, /healthz, /readyz and /v1/registry are served; none: nowhere'],
} as const satisfies Record<string, readonly [fallback: string, description: string]>;
export type SettingName = keyof typeof settings;

const file = text((value) => (value === '' ? undefined : value));
const name = matching(/^([a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127})?$/, 'letters, digits, "_", ".", ":" and "-"');

const schema = z
  .object({
    LOG_LEVEL: z.enum(logLevels),
    NODE_ID: name,
    INSTANCE: name,
    DOCKER_SOCKET: z.string(),
    ADDRESS: text((value) => (value === '' ? undefined : address(value))),
    ETCD_ENDPOINTS: text(endpoints),
    ETCD_CA_FILE: file,
    ETCD_CERT_FILE: file,
    ETCD_KEY_FILE: file,
    ETCD_USER: file,
    ETCD_PASSWORD_FILE: file,
    CONSUL_ADDRESS: text((value) => (value === '' ? undefined : consulAddress(value))),
    CONSUL_TOKEN_FILE: file,
    CONSUL_CA_FILE: file,
    CONSUL_CERT_FILE: file,
    CONSUL_KEY_FILE: file,
    POLICIES: text(policies),
    POLICY_DIR: z.string(),
    AT_STOP: z.enum(['hand-over', 'withdraw']),
    LEASE: duration('5s', '1h'),
    RESYNC: duration('10s', '1d'),
    LISTEN: text((value) => (value === 'none' ? null : listenAddress(value))),
  } satisfies Record<SettingName, z.ZodType<unknown, string>>)
  .superRefine((values, context) => {
    const complain = (path: SettingName, message: string, wrong: boolean) => {
      if (wrong) context.addIssue({ code: 'custom', path: [path], message });
    };
    const given = values.ETCD_ENDPOINTS ?? [];
    const secure = given.filter((url) => url.startsWith('https:')).length;
    complain('ETCD_ENDPOINTS', 'must be all http or all https', secure > 0 && secure < given.length);
    const pairs = [
      ['ETCD_CERT_FILE', 'ETCD_KEY_FILE'],
      ['ETCD_USER', 'ETCD_PASSWORD_FILE'],
      ['CONSUL_CERT_FILE', 'CONSUL_KEY_FILE'],
    ] as const;
    for (const [one, other] of pairs)
      complain(one, `needs ${other}, and the other way round`, !values[one] !== !values[other]);
    complain(
      'ETCD_ENDPOINTS',
      'is none, and there is no CONSUL_ADDRESS: nothing could be registered anywhere',
      values.ETCD_ENDPOINTS?.length === 0 && values.CONSUL_ADDRESS === undefined,
    );
  })
  .transform((values) => ({
    ...values,
    ETCD_ENDPOINTS:
      values.ETCD_ENDPOINTS ?? (values.CONSUL_ADDRESS === undefined ? ['http://127.0.0.1:2379'] : []),
  }));
export type StandaloneSettings = z.infer<typeof schema>;

/** Undefined: as it follows from the others. */
function endpoints(value: string): readonly string[] | undefined {
  if (value === '') return undefined;
  return value === 'none' ? [] : value.split(',').map((url) => endpoint(url.trim()));
}

function consulAddress(value: string): string {
  return value.startsWith('unix:///') ? value : endpoint(value);
}

export interface CommandLine {
  readonly settings: StandaloneSettings;
  /** `run`, or `policy test FILE`. */
  readonly words: readonly string[];
  /** Flags that are no settings. */
  readonly flags: Readonly<Record<string, string | true>>;
}

/** Flags beside the settings, with what they take. */
export const otherFlags = {
  'dry-run': 'boolean',
  help: 'boolean',
  version: 'boolean',
  format: 'string',
  input: 'string',
  config: 'string',
  kind: 'string',
} as const;

/**
 * A flag goes before the variable, and an empty value means the default.
 * @throws AppError `invalid_argument` that names every wrong setting at once, or the flag that is not known.
 */
export function readCommandLine(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): CommandLine {
  const { values, positionals } = parseFlags(args);
  const raw = Object.fromEntries(
    Object.entries(settings).map(([setting, [fallback]]) => {
      const given = values[flagOf(setting)] ?? env[setting];
      const trimmed = typeof given === 'string' ? given.trim() : '';
      return [setting, trimmed === '' ? fallback : trimmed];
    }),
  );
  const parsed = schema.safeParse(raw);
  if (!parsed.success)
    throw new AppError('invalid_argument', `the settings are wrong:\n${z.prettifyError(parsed.error)}`);
  const flags = Object.fromEntries(
    Object.keys(otherFlags).flatMap((flag) => {
      const value = values[flag];
      return typeof value === 'string' || value === true ? [[flag, value] as const] : [];
    }),
  );
  return { settings: parsed.data, words: positionals, flags };
}

function parseFlags(args: readonly string[]) {
  const known = [
    ...Object.keys(settings).map((setting) => [flagOf(setting), { type: 'string' }] as const),
    ...Object.entries(otherFlags).map(([flag, type]) => [flag, { type }] as const),
  ];
  try {
    return parseArgs({ args: [...args], options: Object.fromEntries(known), allowPositionals: true });
  } catch (reason) {
    const [first = ''] = AppError.from(reason).message.split('. ');
    throw new AppError('invalid_argument', `${first}: see --help`, { cause: reason });
  }
}

function flagOf(setting: string): string {
  return setting.toLowerCase().replaceAll('_', '-');
}

export function usage(): string {
  const rows = Object.entries(settings).map(([setting, [fallback, description]]) => {
    const shown = fallback === '' ? '' : ` (${quote(fallback)})`;
    return `  --${flagOf(setting)} VALUE, ${setting}\n      ${description}${shown}`;
  });
  return `usage: registrator [run] [FLAGS]
       registrator --dry-run [FLAGS]
       registrator policy test FILE-OR-NAME --input inspect.json [--kind KIND] [--config config.json]

Registers what a Docker engine runs, by policies, in etcd and Consul.

  run           until SIGTERM; the default
  --dry-run     shows what a run would change, and changes nothing
  policy test   shows what a policy registers for an object, as "docker inspect" prints it: a file, or one
                of the built-in ones by its name
  --format      of these two: text or json
  --help, --version

Settings, by flag or by environment variable:

${rows.join('\n')}
`;
}
