import { parseArgs } from 'node:util';
import type { Settings } from './trial.js';

export interface CommandLine extends Omit<Settings, 'prefix'> {
  readonly prefix: string;
  readonly skipMount: boolean;
  readonly outage: { readonly begin: string; readonly end: string } | null;
  readonly only: RegExp | null;
  readonly list: boolean;
  readonly format: 'table' | 'json';
}

export const help = `Conformance of a volume driver with Docker's VolumeDriver protocol.

usage: npm run conformance -- --socket PATH [options]

It makes volumes of its own, mounts and removes them, and takes all of them back at the end, also after a failure
or SIGINT. Volumes that are there already are only read.

  --socket PATH         the driver's unix socket; of a managed plugin: /run/docker/plugins/ID/NAME.sock
  --create-opt K=V      an option for each volume that is made, as size=200M; may be given several times
  --prefix TEXT         how the names of its volumes begin (default: conformance- and some digits)
  --skip-mount          leave out all that mounts
  --volumes N           measure with at least N volumes present; those that are missing are made (default 1)
  --calls N             calls per measurement (default 300)
  --latency-bar MS      the p99 of Get, List and Capabilities must not be above it (default 1000)
  --idle SECONDS        how long a connection is left idle before it is used again (default 7)
  --limit SECONDS       for each answer, instead of Docker's own limits (120 for Create and Mount, else 60)
  --outage-begin CMD    shell command that takes away what the driver depends on, as its etcd
  --outage-end CMD      shell command that brings it back; the cases of an outage need both
  --only PATTERN        cases whose "group: name" matches this regular expression
  --list                print the cases and run none
  --format FORMAT       table (default) or json
  --help                this text

exit code: 0 all passed or skipped, 1 a case failed, 2 not run to the end (usage, no driver at the socket, SIGINT)
`;

export class UsageError extends Error {}

const options = {
  socket: { type: 'string' },
  'create-opt': { type: 'string', multiple: true },
  prefix: { type: 'string' },
  'skip-mount': { type: 'boolean' },
  volumes: { type: 'string' },
  calls: { type: 'string' },
  'latency-bar': { type: 'string' },
  idle: { type: 'string' },
  limit: { type: 'string' },
  'outage-begin': { type: 'string' },
  'outage-end': { type: 'string' },
  only: { type: 'string' },
  list: { type: 'boolean' },
  format: { type: 'string' },
  help: { type: 'boolean' },
} as const;

type Values = ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];

function parse(argv: readonly string[]): Values {
  try {
    return parseArgs({ args: [...argv], options }).values;
  } catch (reason) {
    throw new UsageError(reason instanceof Error ? reason.message : String(reason));
  }
}

function positive(flag: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (text !== '' && value > 0 && Number.isFinite(value)) return value;
  throw new UsageError(`--${flag} takes a number above 0, not ${JSON.stringify(text)}`);
}

function parseCreateOpts(given: readonly string[] | undefined): Readonly<Record<string, string>> | null {
  if (given === undefined) return null;
  const entries = given.map((text): [string, string] => {
    const equals = text.indexOf('=');
    if (equals > 0) return [text.slice(0, equals), text.slice(equals + 1)];
    throw new UsageError(`--create-opt takes KEY=VALUE, not ${JSON.stringify(text)}`);
  });
  return Object.fromEntries(entries);
}

function parseOutage(values: Values): CommandLine['outage'] {
  const { 'outage-begin': begin, 'outage-end': end } = values;
  if (begin === undefined && end === undefined) return null;
  if (begin !== undefined && end !== undefined) return { begin, end };
  throw new UsageError('--outage-begin and --outage-end are given together');
}

function parsePattern(text: string | undefined): RegExp | null {
  try {
    return text === undefined ? null : new RegExp(text, 'i');
  } catch (reason) {
    throw new UsageError(`--only takes a regular expression: ${String(reason)}`);
  }
}

function parseFormat(text: string | undefined): 'table' | 'json' {
  if (text === undefined || text === 'table' || text === 'json') return text ?? 'table';
  throw new UsageError(`--format is table or json, not ${JSON.stringify(text)}`);
}

/** Null for --help. @throws UsageError. */
export function parseCommandLine(argv: readonly string[]): CommandLine | null {
  const values = parse(argv);
  if (values.help === true) return null;
  const list = values.list === true;
  if (values.socket === undefined && !list) throw new UsageError('--socket PATH is missing');
  return {
    socketPath: values.socket ?? '',
    prefix: values.prefix ?? `conformance-${String(process.pid)}${String(Date.now() % 1000)}`,
    createOpts: parseCreateOpts(values['create-opt']),
    limitMs: values.limit === undefined ? null : positive('limit', values.limit, 0) * 1000,
    idleMs: positive('idle', values.idle, 7) * 1000,
    volumes: Math.ceil(positive('volumes', values.volumes, 1)),
    calls: Math.ceil(positive('calls', values.calls, 300)),
    latencyBarMs: positive('latency-bar', values['latency-bar'], 1000),
    skipMount: values['skip-mount'] === true,
    outage: parseOutage(values),
    only: parsePattern(values.only),
    list,
    format: parseFormat(values.format),
  };
}
