import { execFile, type ChildProcess } from 'node:child_process';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const TIMEOUT_MS = 60_000;
/** What a program that was asked to end gets for it, and then once more after it was killed. */
const END_MS = 2000;

/**
 * Runs a program without a shell; the only importer of node:child_process. A non-zero exit is a result, not an
 * error. A program that was given up has ended when this rejects, so it meets nobody who cleans up after it; only
 * one that the kernel holds (a dead device) is left behind.
 * @throws `internal` when the program does not start, `deadline_exceeded` after timeoutMs, `canceled`.
 */
export async function runCommand(
  ctx: Ctx,
  program: string,
  args: readonly string[],
  timeoutMs = TIMEOUT_MS,
): Promise<CommandResult> {
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = AbortSignal.any([ctx.signal, timeout]);
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  const child = execFile(
    program,
    args,
    { signal, encoding: 'utf8', maxBuffer: 1 << 20 },
    (failure, stdout, stderr) => {
      if (failure === null) resolve({ code: 0, stdout, stderr });
      else if (typeof failure.code === 'number') resolve({ code: failure.code, stdout, stderr });
      else if (ctx.signal.aborted)
        reject(new AppError('canceled', `${program} was stopped: the caller gave up`));
      else if (timeout.aborted) {
        reject(
          new AppError('deadline_exceeded', `${program} did not end within ${String(timeoutMs / 1000)} s`),
        );
      } else
        reject(new AppError('internal', `cannot run ${program}: ${failure.message}`, { cause: failure }));
    },
  );
  const ended = new Promise((resolveEnd) => child.once('exit', resolveEnd));
  try {
    return await promise;
  } finally {
    if (signal.aborted) await end(child, ended);
  }
}

async function end(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  await Promise.race([ended, sleep(END_MS)]);
  child.kill('SIGKILL');
  await Promise.race([ended, sleep(END_MS)]);
}

/** Like runCommand, but a non-zero exit is an error that carries what the program said. */
export async function mustRun(ctx: Ctx, program: string, args: readonly string[]): Promise<string> {
  const result = await runCommand(ctx, program, args);
  mustSucceed(program, result);
  return result.stdout;
}

/** @throws `internal` with what the program said, unless it ended well. */
export function mustSucceed(program: string, result: CommandResult): void {
  if (result.code === 0) return;
  const said = (result.stderr.trim() || result.stdout.trim()).split('\n').slice(-3).join('; ');
  throw new AppError('internal', `${program} failed (exit ${String(result.code)}): ${said}`);
}
