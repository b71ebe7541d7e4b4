/**
 * e2fsck before a mount: replays the journal and repairs what is safe to repair. A clean file system costs a few
 * milliseconds; a large damaged one may take hours, which no mount has.
 */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { isHeld } from './held-device.js';
import { createLongCommands } from './long-command.js';

export interface Checks {
  /** @throws `unavailable` for what e2fsck cannot repair by itself, and while it takes longer than the caller has. */
  check(ctx: Ctx, device: string): Promise<void>;
}

/** e2fsck: 0 clean, 1 repaired. */
const FSCK_REPAIRED = 1;

export function createChecks(): Checks {
  const checks = createLongCommands('is being checked and repaired (e2fsck)');
  return {
    async check(ctx, device) {
      // A container that outlives its unmount still has it: a second mount is the same file system, and in order.
      if (!checks.isRunning(device) && (await isHeld(device)) && !checks.isRunning(device)) return;
      const result = await checks.run(ctx, device, 'e2fsck', ['-p', device]);
      if (result.code <= FSCK_REPAIRED) return;
      throw new AppError(
        'unavailable',
        `the file system on ${device} is damaged beyond automatic repair (e2fsck exit ${String(result.code)}): ` +
          `${result.stdout.trim().split('\n').at(-1) ?? ''}; repair it by hand with e2fsck`,
      );
    },
  };
}
