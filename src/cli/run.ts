/** From arguments to an exit code. */
import { createAdminClient, type AdminClient } from './admin-client.js';
import { parseCommandLine, socketOf } from './arguments.js';
import type { Input, Surroundings } from './command.js';
import { complete } from './completion.js';
import { engineEndpoint, splitGlobals } from './docker-globals.js';
import { createEngine, type Engine } from './engine-client.js';
import { exitCodes, type ExitCode, Failure } from './failure.js';
import { helpOf } from './help.js';
import { plainLines } from './table.js';
import { explainUnreachable } from './unreachable.js';

export interface Program {
  /** As the docker command hands them on. */
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly version: string;
  readonly isRoot: boolean;
  readonly input: Input;
  print(text: string): void;
  complain(text: string): void;
}

const DEFAULT_SOCKET = '/run/openebs/admin.sock';
/** Who presses the tab key waits no longer. */
const COMPLETION_MS = 1500;

/** Never rejects: a failure is told, and is the exit code. */
export async function runProgram(program: Program): Promise<ExitCode> {
  try {
    return await run(program);
  } catch (reason) {
    if (reason instanceof Failure) {
      program.complain(`${plainLines(reason.message)}\n`);
      return reason.exitCode;
    }
    program.complain(`this is a defect of docker openebs: ${plainLines(String((reason as Error).stack))}\n`);
    return exitCodes.wrong;
  }
}

async function run(program: Program): Promise<ExitCode> {
  const { args, env } = program;
  const { globals, rest } = splitGlobals(args);
  const around = (given: string | undefined, timeoutMs?: number): Surroundings => {
    const engine = createEngine(engineEndpoint(globals, env));
    const socketPath = given ?? DEFAULT_SOCKET;
    const admin = createAdmin(engine, { ...program, given, timeoutMs });
    return { ...program, socketPath, engine, admin };
  };
  const [first = '', ...more] = rest;
  if (first.startsWith('__complete')) {
    program.print(await complete(more, around(socketOf(more), COMPLETION_MS).admin));
    return exitCodes.ok;
  }
  const parsed = parseCommandLine(rest);
  if (parsed.kind === 'help') {
    program.print(helpOf(parsed.words));
    return exitCodes.ok;
  }
  const { command, call } = parsed;
  const runCommand = await command.load();
  return runCommand(call, around(call.text('socket')));
}

interface AdminParts extends Pick<Program, 'isRoot'> {
  readonly given: string | undefined;
  readonly timeoutMs: number | undefined;
}

function createAdmin(engine: Engine, { given, isRoot, timeoutMs }: AdminParts): AdminClient {
  const socketPath = given ?? DEFAULT_SOCKET;
  // The admin socket is this host's: its answers would be taken for those of the host that docker talks to.
  if (given === undefined && engine.socketPath === null) {
    const text =
      `docker talks to the engine at ${engine.endpoint}, and docker openebs to the plugin of this host alone: ` +
      'run it on that host, or name the socket of this one with --socket';
    const refuse = () => Promise.reject(new Failure(exitCodes.unreachable, text));
    return { get: refuse, post: refuse, remove: refuse };
  }
  const situation = { socketPath, isGiven: given !== undefined, isRoot, engine };
  return createAdminClient(
    socketPath,
    (code, detail) => explainUnreachable(situation, code, detail),
    timeoutMs,
  );
}
