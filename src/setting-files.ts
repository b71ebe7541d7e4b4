import { readFile } from 'node:fs/promises';
import type { HostPaths } from './dataplane/host-paths.js';
import { AppError } from './errors.js';

/** A file of the host that a setting names. @throws AppError `invalid_argument` when it cannot be read. */
export async function readSettingFile(paths: HostPaths, hostPath: string): Promise<Buffer>;
export async function readSettingFile(
  paths: HostPaths,
  hostPath: string | undefined,
): Promise<Buffer | undefined>;
export async function readSettingFile(
  paths: HostPaths,
  hostPath: string | undefined,
): Promise<Buffer | undefined> {
  if (hostPath === undefined) return undefined;
  return readFile(paths.view(hostPath)).catch((cause: unknown) => {
    throw new AppError('invalid_argument', `cannot read ${hostPath}, which a setting names`, { cause });
  });
}
