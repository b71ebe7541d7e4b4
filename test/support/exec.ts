import { spawn } from 'node:child_process';

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Default 120 s; at its end the command is killed and the result says so. */
  readonly timeoutMs?: number;
}

/** Runs a command to its end. Never throws: a command that cannot start or runs too long has code 127 or 124. */
export function exec(command: string, args: readonly string[], options: ExecOptions = {}): Promise<Result> {
  const timeoutMs = options.timeoutMs ?? 120_000;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    let stdout = '';
    let stderr = '';
    let late = false;
    let settled = false;
    const settle = (code: number): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      // A grandchild that keeps the pipe open must not keep this process alive.
      child.stdout.destroy();
      child.stderr.destroy();
      if (late) stderr += `\n${command} did not end within ${String(timeoutMs)} ms and was killed`;
      resolve({ code: late ? 124 : code, stdout, stderr });
    };
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
      setTimeout(settle, 1000, 124);
    }, timeoutMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.stdin.on('error', () => undefined); // a command may end without reading its input
    child.on('error', (reason) => {
      stderr += reason.message;
      settle(127);
    });
    child.on('close', (code) => {
      settle(code ?? 128);
    });
    child.stdin.end(options.input ?? '');
  });
}

/** The same, but a failure throws with all the command said. Answers its standard output, trimmed. */
export async function execOk(
  command: string,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<string> {
  const result = await exec(command, args, options);
  if (result.code !== 0) throw new Error(failure(`${command} ${args.join(' ')}`, result));
  return result.stdout.trim();
}

export function failure(what: string, result: Result): string {
  return `${what} failed with code ${String(result.code)}:\n${result.stdout}${result.stderr}`;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export interface WaitOptions {
  /** Default 60 s. */
  readonly timeoutMs?: number;
  readonly everyMs?: number;
  /** True when waiting on is pointless. */
  readonly giveUp?: () => boolean;
}

/**
 * Asks again until the answer is neither undefined nor false. A question that throws counts as "not yet"; the
 * last reason is told when time is up.
 */
export async function waitFor<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  options: WaitOptions = {},
): Promise<T> {
  const timeoutMs = options.timeoutMs ?? 60_000;
  const until = Date.now() + timeoutMs;
  let why = '';
  do {
    try {
      const answer = await ask();
      if (answer !== undefined && answer !== false) return answer;
      why = '';
    } catch (reason) {
      why = `: ${String(reason)}`;
    }
    if (options.giveUp?.() === true) break;
    await sleep(options.everyMs ?? 200);
  } while (Date.now() < until);
  throw new Error(`waited up to ${String(timeoutMs)} ms in vain until ${what}${why}`);
}
