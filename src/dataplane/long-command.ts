/**
 * Programs that may take longer than a mount has, and must not be cut off: each goes on when its caller gives up, has the
 * device for itself meanwhile (an exclusive open, so nobody detaches it), and is waited for by the callers that follow.
 */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { runCommand, type CommandResult } from './command.js';

export interface LongCommands {
  readonly isRunning: (device: string) => boolean;
  /** What runs on the device already, or this program. @throws `unavailable` while it takes longer than the caller has. */
  run(ctx: Ctx, device: string, program: string, args: readonly string[]): Promise<CommandResult>;
  /** Waits for what runs on the device, if anything does. @throws `unavailable` like `run`. */
  wait(ctx: Ctx, device: string): Promise<void>;
}

const LONGEST_MS = 24 * 60 * 60_000;

/** `doing`: ends the sentence "the file system on DEVICE ...". */
export function createLongCommands(doing: string): LongCommands {
  const running = new Map<string, Promise<CommandResult>>();

  function start(ctx: Ctx, device: string, command: [string, readonly string[]]): Promise<CommandResult> {
    const untilItEnds = { ...ctx, signal: new AbortController().signal };
    const result = runCommand(untilItEnds, ...command, LONGEST_MS).finally(() => {
      running.delete(device);
    });
    running.set(device, result);
    // Nobody may be waiting for it when it ends.
    result.catch(() => undefined);
    return result;
  }

  async function untilAborted({ signal }: Ctx, device: string, result: Promise<CommandResult>) {
    const given = Promise.withResolvers<never>();
    const giveUp = () => {
      const text = `the file system on ${device} ${doing}, which takes longer than a mount may`;
      given.reject(new AppError('unavailable', `${text}: it goes on; start the container again in a while`));
    };
    if (signal.aborted) giveUp();
    signal.addEventListener('abort', giveUp, { once: true });
    try {
      return await Promise.race([given.promise, result]);
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  return {
    isRunning: (device) => running.has(device),
    run: (ctx, device, program, args) =>
      untilAborted(ctx, device, running.get(device) ?? start(ctx, device, [program, args])),
    async wait(ctx, device) {
      const result = running.get(device);
      // How it ended is for who asked for it, and for the probe that follows.
      if (result) await untilAborted(ctx, device, result.then(ended, ended));
    },
  };
}

const ended = (): CommandResult => ({ code: 0, stdout: '', stderr: '' });
