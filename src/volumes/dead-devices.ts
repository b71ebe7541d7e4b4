/**
 * Devices that died (their initiator did) while containers had them mounted. The volume is mounted anew on another
 * device for those who come now; those who had the dead one keep it, and its errors, until they end.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { isHeld } from '../dataplane/held-device.js';
import { AppError } from '../errors.js';
import type { VolumeRecord } from '../state/records.js';

interface DeadDevice {
  readonly device: string;
  /** The kernel's number of this use of the device: the name is given to another volume one day. */
  readonly sequence: string;
  readonly what: string;
}

export class DeadDevices {
  /** By volume id. */
  readonly #devices = new Map<string, DeadDevice>();

  async note(volumeId: string, device: string, what = 'died'): Promise<void> {
    this.#devices.set(volumeId, { device, sequence: await sequenceOf(device), what });
  }

  has(volumeId: string): boolean {
    return this.#devices.has(volumeId);
  }

  /**
   * xfs, and btrfs before Linux 6.7, is not mounted beside an older mount of itself, dead or not: mount(8) says nothing
   * of that.
   */
  async explain(volume: VolumeRecord, reason: unknown): Promise<never> {
    const problem = await this.problemOf(volume);
    if (problem === null) throw reason;
    throw new AppError('in_use', `${problem} (${AppError.from(reason).message})`, { cause: reason });
  }

  /** What to tell while a container still has the dead device. */
  async problemOf({ id, name }: VolumeRecord): Promise<string | null> {
    const dead = this.#devices.get(id);
    if (!dead) return null;
    if (dead.sequence === (await sequenceOf(dead.device)) && (await isHeld(dead.device))) {
      return (
        `the device of volume ${name} ${dead.what} under running containers, which get errors: stop all containers that ` +
        'use it; the next start has a new device, whose file system was checked'
      );
    }
    this.#devices.delete(id);
    return null;
  }
}

async function sequenceOf(device: string): Promise<string> {
  return readFile(path.join('/sys/block', path.basename(device), 'diskseq'), 'utf8').catch(() => '');
}
