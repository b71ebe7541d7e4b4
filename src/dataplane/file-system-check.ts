/**
 * e2fsck before a mount: replays the journal and repairs what is safe to repair. A clean file system costs a few
 * milliseconds; a large damaged one may take hours, which no mount has. So a check goes on when its mount gives
 * up, has the device for itself meanwhile (nobody detaches it), and is waited for by the mounts that follow.
 */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { runCommand, type CommandResult } from './command.js';
import { isHeld } from './held-device.js';

export interface Checks {
  /** @throws `unavailable` for what e2fsck cannot repair by itself, and while it takes longer than the caller has. */
  check(ctx: Ctx, device: string): Promise<void>;
}

/** e2fsck: 0 clean, 1 repaired. */
const FSCK_REPAIRED = 1;
const LONGEST_MS = 24 * 60 * 60_000;

export function createChecks(): Checks {
  const running = new Map<string, Promise<CommandResult>>();

  function start(ctx: Ctx, device: string): Promise<CommandResult> {
    const untilItEnds = { ...ctx, signal: new AbortController().signal };
    const result = runCommand(untilItEnds, 'e2fsck', ['-p', device], LONGEST_MS).finally(() => {
      running.delete(device);
    });
    running.set(device, result);
    // Nobody may be waiting for it when it ends.
    result.catch(() => undefined);
    return result;
  }

  return {
    async check(ctx, device) {
      // A container that outlives its unmount still has it: a second mount is the same file system, and in order.
      if (!running.has(device) && (await isHeld(device)) && !running.has(device)) return;
      const result = await untilAborted(ctx, device, running.get(device) ?? start(ctx, device));
      if (result.code <= FSCK_REPAIRED) return;
      throw new AppError(
        'unavailable',
        `the file system on ${device} is damaged beyond automatic repair (e2fsck exit ${String(result.code)}): ` +
          `${result.stdout.trim().split('\n').at(-1) ?? ''}; repair it by hand with e2fsck`,
      );
    },
  };
}

async function untilAborted(
  { signal }: Ctx,
  device: string,
  result: Promise<CommandResult>,
): Promise<CommandResult> {
  const given = Promise.withResolvers<never>();
  const giveUp = () => {
    given.reject(
      new AppError(
        'unavailable',
        `the file system on ${device} is being checked and repaired (e2fsck), which takes longer than a mount may: ` +
          'it goes on; start the container again in a while',
      ),
    );
  };
  if (signal.aborted) giveUp();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([given.promise, result]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}
