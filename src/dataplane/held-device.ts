import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { AppError } from '../errors.js';

/** No device is there to be held. */
const GONE = new Set(['ENOENT', 'ENXIO', 'ENODEV', 'ENOMEDIUM']);

/**
 * Whether a file system on this block device is mounted in any mount namespace of the host, or a program has it
 * for itself: the kernel refuses an exclusive open then.
 * @throws `unavailable` when that cannot be told; to take the device away then would be a guess.
 */
export async function isHeld(device: string): Promise<boolean> {
  try {
    const handle = await open(device, constants.O_RDONLY | constants.O_EXCL);
    await handle.close();
    return false;
  } catch (reason) {
    const { code = '' } = reason as NodeJS.ErrnoException;
    if (code === 'EBUSY') return true;
    if (GONE.has(code)) return false;
    throw AppError.from(reason, 'unavailable', `cannot tell whether ${device} is in use`);
  }
}
