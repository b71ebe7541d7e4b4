/** Whether anybody reads or writes a device, mounted where we cannot look. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * Changes with each request that the device has ended: the kernel's count of reads and writes
 * (Documentation/admin-guide/abi-stable: /sys/block/DISK/stat, fields 1 and 5). Null: there is no such device.
 */
export async function activityOf(device: string): Promise<string | null> {
  const file = path.join('/sys/class/block', path.basename(device), 'stat');
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  const fields = text.trim().split(/\s+/);
  return `${fields[0] ?? ''} ${fields[4] ?? ''}`;
}
