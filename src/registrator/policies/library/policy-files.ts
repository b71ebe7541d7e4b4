/**
 * Policies and their instances in a directory of the host, looked at again and again:
 *
 *     NAME.js              a policy, an ES module
 *     NAME.json            the configuration of one instance of policy NAME, called NAME too
 *     NAME/INSTANCE.json   the configuration of an instance
 *
 * A directory that is not there has none. One that cannot be read for a while leaves all as it was.
 */
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../../../errors.js';

export interface PolicyFiles {
  /** By name of the policy. */
  readonly modules: ReadonlyMap<string, FoundText>;
  /** By `POLICY/INSTANCE`. */
  readonly instances: ReadonlyMap<string, FoundText>;
  /** Files that are let be, by path, with the reason. */
  readonly problems: ReadonlyMap<string, string>;
}

export interface FoundText {
  readonly text: string;
  /** Where it was found, for people. */
  readonly from: string;
}

export interface PolicyDirectory {
  /**
   * Null when nothing has changed since the last look.
   * @throws AppError `unavailable` when it cannot be read now.
   */
  look(): Promise<PolicyFiles | null>;
}

/** Of policies and of instances: it stands in keys and in messages. */
export const policyName = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;
export const noPolicyName = 'its name must be letters, digits, "_", "." and "-", 63 at most';
const MAX_BYTES = 256 * 1024;

/** @param shown the directory as people know it, where that is not how this process sees it. */
export function createPolicyDirectory(directory: string, shown = directory): PolicyDirectory {
  let before = '';
  return {
    async look() {
      try {
        const files = await listFiles(directory);
        const signature = JSON.stringify(files);
        if (signature === before) return null;
        const found = await readAll(files, directory, shown);
        before = signature;
        return found;
      } catch (cause) {
        const text = cause instanceof Error ? cause.message : String(cause);
        throw new AppError('unavailable', `the policies in ${shown} cannot be read: ${text}`, { cause });
      }
    },
  };
}

interface ListedFile {
  /** Relative. */
  readonly name: string;
  readonly size: number;
  /** Tells a version of the file from the next. */
  readonly version: string;
}

async function listFiles(directory: string): Promise<ListedFile[]> {
  const top = await names(directory);
  const found = await Promise.all(
    top.map(async (name) => {
      const file = await statOf(directory, name);
      if (!file?.isDirectory) return file?.isFile === true ? [file] : [];
      const below = await names(path.join(directory, name));
      const inside = await Promise.all(below.map((inner) => statOf(directory, path.join(name, inner))));
      return inside.flatMap((one) => (one?.isFile === true ? [one] : []));
    }),
  );
  return found.flat().map(({ name, size, version }) => ({ name, size, version }));
}

async function names(directory: string): Promise<string[]> {
  const all = await absent(readdir(directory), []);
  return all.filter((name) => !name.startsWith('.')).toSorted();
}

async function statOf(directory: string, name: string) {
  const found = await absent(stat(path.join(directory, name), { bigint: true }), null);
  if (!found) return null;
  const version = `${String(found.ino)} ${String(found.mtimeNs)} ${String(found.ctimeNs)}`;
  return {
    name,
    size: Number(found.size),
    version,
    isDirectory: found.isDirectory(),
    isFile: found.isFile(),
  };
}

/** Something that is not there, or has gone since it was listed. */
async function absent<T, A>(operation: Promise<T>, otherwise: A): Promise<T | A> {
  try {
    return await operation;
  } catch (reason) {
    // A link to itself is nothing either.
    if (['ENOENT', 'ENOTDIR', 'ELOOP'].includes((reason as NodeJS.ErrnoException).code ?? ''))
      return otherwise;
    throw reason;
  }
}

async function readAll(files: readonly ListedFile[], directory: string, shown: string): Promise<PolicyFiles> {
  const found = {
    modules: new Map<string, FoundText>(),
    instances: new Map<string, FoundText>(),
    problems: new Map<string, string>(),
  };
  for (const { name, size } of files) {
    const place = placeOf(name);
    if (!place) continue;
    const from = path.join(shown, name);
    const problem = problemOf(place, size);
    if (problem !== null) {
      found.problems.set(from, problem);
      continue;
    }
    const text = await absent(readFile(path.join(directory, name), 'utf8'), null);
    if (text === null) continue;
    if ('module' in place) found.modules.set(place.module, { text, from });
    else found.instances.set(`${place.policy}/${place.instance}`, { text, from });
  }
  return found;
}

type Place = { readonly module: string } | { readonly policy: string; readonly instance: string };

/** Null: no file of ours, as one of an editor. */
function placeOf(name: string): Place | null {
  const [first = '', second] = name.split('/');
  const base = second ?? first;
  const extension = path.extname(base);
  const stem = base.slice(0, base.length - extension.length);
  if (extension === '.json') return { policy: second === undefined ? stem : first, instance: stem };
  return extension === '.js' && second === undefined ? { module: stem } : null;
}

function problemOf(place: Place, size: number): string | null {
  if (Object.values(place).some((name: string) => !policyName.test(name))) return noPolicyName;
  if (size > MAX_BYTES) return `it has ${String(size)} bytes: at most ${String(MAX_BYTES)}`;
  return null;
}
