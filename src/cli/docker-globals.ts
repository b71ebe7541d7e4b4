/**
 * The docker command hands its own flags on to a plugin, before the plugin's name: `-H unix:///x openebs volume ls`. They
 * say which engine is meant.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';

export interface DockerGlobals {
  readonly host?: string;
  readonly context?: string;
  /** Directory of docker's settings. */
  readonly config?: string;
}

export interface SplitArguments {
  readonly globals: DockerGlobals;
  /** What is for this program, its own name left out. */
  readonly rest: readonly string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

export const DEFAULT_ENGINE = 'unix:///var/run/docker.sock';
const NAME = 'openebs';

/** Flags of docker that take a value. Those of no interest here are skipped. */
const valued: Readonly<Record<string, keyof DockerGlobals | null>> = {
  '-H': 'host',
  '--host': 'host',
  '-c': 'context',
  '--context': 'context',
  '--config': 'config',
  '-l': null,
  '--log-level': null,
  '--tlscacert': null,
  '--tlscert': null,
  '--tlskey': null,
};

/** Words of docker that come before the name of the plugin. */
const before = new Set(['help', '__complete', '__completeNoDesc']);

export function splitGlobals(args: readonly string[]): SplitArguments {
  const globals: { -readonly [Key in keyof DockerGlobals]: string } = {};
  const words: string[] = [];
  let at = 0;
  while (at < args.length && args[at] !== NAME) {
    const arg = args[at] ?? '';
    const found = valueOf(arg);
    if (found) {
      const value = found.value ?? args[(at += 1)] ?? '';
      if (found.sets !== null) globals[found.sets] = value;
    } else if (before.has(arg)) words.push(arg);
    // Without the docker command in between: the first word is a command of ours.
    else if (!isSwitch(arg)) return { globals, rest: [...words, ...args.slice(at)] };
    at += 1;
  }
  return { globals, rest: [...words, ...args.slice(at + 1)] };
}

/** A flag with the value that is in it, `--host=x` or `-Hx`; undefined for none that takes a value. */
function valueOf(arg: string): { sets: keyof DockerGlobals | null; value?: string } | undefined {
  const [flag = ''] = arg.split('=', 1);
  const name = arg.startsWith('--') ? flag : arg.slice(0, 2);
  const sets = valued[name];
  if (sets === undefined) return undefined;
  return arg === name ? { sets } : { sets, value: arg.slice(name.length).replace(/^=/, '') };
}

function isSwitch(arg: string): boolean {
  return ['-D', '--debug', '--tls', '--tlsverify'].includes(arg.split('=', 1)[0] ?? '');
}

/** Where the engine is that docker would talk to: its flags first, then the environment, then the context in use. */
export function engineEndpoint(globals: DockerGlobals, env: Environment): string {
  const named = first(globals.host, globals.context === undefined ? env['DOCKER_HOST'] : undefined);
  return named ?? contextEndpoint(globals, env) ?? DEFAULT_ENGINE;
}

function contextEndpoint({ context, config }: DockerGlobals, env: Environment): string | undefined {
  const home = first(env['HOME']) ?? '/root';
  const directory = first(config, env['DOCKER_CONFIG']) ?? path.join(home, '.docker');
  const name = first(context, env['DOCKER_CONTEXT'], currentContext(directory));
  return name === undefined || name === 'default' ? undefined : contextHost(directory, name);
}

/** An empty setting is none. */
function first(...settings: readonly (string | undefined)[]): string | undefined {
  return settings.find((setting) => setting !== undefined && setting !== '');
}

function currentContext(directory: string): string | undefined {
  const settings = readJson(path.join(directory, 'config.json')) as { currentContext?: string } | undefined;
  return settings?.currentContext;
}

/** Docker keeps a context below the hash of its name. */
function contextHost(directory: string, name: string): string | undefined {
  const folder = createHash('sha256').update(name).digest('hex');
  const meta = readJson(path.join(directory, 'contexts/meta', folder, 'meta.json')) as
    { Endpoints?: { docker?: { Host?: string } } } | undefined;
  return meta?.Endpoints?.docker?.Host;
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as unknown;
  } catch {
    return undefined;
  }
}
