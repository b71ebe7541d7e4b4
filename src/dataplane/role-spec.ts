/**
 * The directory that a data-plane container gets as /spec: its settings, line by line, and the files that hold its
 * secrets. A last line has the checksum of them all: what was cut or changed by hand is written anew.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../errors.js';
import { writeFileAtomic } from '../lib/atomic-file.js';
import { quote } from '../lib/quote.js';

export interface RoleSpec {
  readonly lines: readonly (readonly [key: string, value: string])[];
  /** File name -> content; never shown. */
  readonly secrets: Readonly<Record<string, string>>;
}

/** What the role itself keeps there. */
const OWN = new Set(['spec', 'ctl', 'device']);

export function generationOf(spec: RoleSpec): string {
  return createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 16);
}

/** A value with a line break in it would be a line of its own to the role, which is root. */
export function specText(spec: RoleSpec, generation: string): string {
  const lines = [['generation', generation] as const, ...spec.lines];
  const wrong = lines.find(([key, value]) => !/^[a-z]+$/.test(key) || /\p{Cc}/u.test(value));
  if (wrong) throw new AppError('internal', `the value of ${quote(wrong[0])} cannot stand in a role's spec`);
  return lines.map(([key, value]) => `${key} ${value}\n`).join('');
}

/**
 * Writes it unless it is there as it should be. `existed`: there was one before; `rewritten`: a role that runs has to
 * read it again.
 */
export async function writeSpec(
  directory: string,
  spec: RoleSpec,
  generation: string,
): Promise<{ existed: boolean; rewritten: boolean }> {
  const before = await readSpec(directory);
  if (before?.get('generation') === generation) return { existed: true, rewritten: false };
  const text = specText(spec, generation);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const [file, content] of Object.entries(spec.secrets)) {
    await writeFileAtomic(path.join(directory, file), content);
  }
  const files = new Map(Object.entries(spec.secrets));
  await writeFileAtomic(path.join(directory, 'spec'), `${text}sum ${sumOf(text, files)}\n`);
  await removeOthers(directory, new Set([...OWN, ...files.keys()]));
  return { existed: before !== null, rewritten: before !== null };
}

/** Its settings; without a generation when it is not what was written. Null when there is none. */
export async function readSpec(directory: string): Promise<Map<string, string> | null> {
  const text = await readText(path.join(directory, 'spec'));
  if (text === null) return null;
  const lines = text.split('\n').filter((line) => line.includes(' '));
  const settings = new Map(
    lines.map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]),
  );
  const body = text.slice(0, text.lastIndexOf('sum '));
  if (settings.get('sum') !== sumOf(body, await readSecrets(directory))) settings.delete('generation');
  settings.delete('sum');
  return settings;
}

async function readSecrets(directory: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const name of await readdir(directory)) {
    const file = path.join(directory, name);
    if (!OWN.has(name) && (await stat(file).catch(() => null))?.isFile() === true)
      files.set(name, (await readText(file)) ?? '');
  }
  return files;
}

function sumOf(text: string, files: ReadonlyMap<string, string>): string {
  const all = [text, ...[...files].sort(([one], [other]) => (one < other ? -1 : 1))];
  return createHash('sha256').update(JSON.stringify(all)).digest('hex').slice(0, 16);
}

async function readText(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (reason) {
    if ((reason as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw AppError.from(reason, 'internal', `cannot read ${file}`);
  }
}

/** Secrets of former epochs do not stay on disk. */
async function removeOthers(directory: string, keep: ReadonlySet<string>): Promise<void> {
  for (const file of await readdir(directory)) {
    if (!keep.has(file)) await rm(path.join(directory, file), { recursive: true, force: true });
  }
}
