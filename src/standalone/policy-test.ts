/** `policy test`: what a policy registers for objects, without an engine and without a registry. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Inspected, type ObjectKind, objectKinds } from '../docker/objects.js';
import { AppError } from '../errors.js';
import { quote } from '../lib/quote.js';
import { builtIn } from '../registrator/policies/built-in/all.js';
import { loadUserPolicy, type PolicyKind } from '../registrator/policies/library/user-policy.js';
import { keysOf, type Policy } from '../registrator/policies/policy.js';
import { createSandbox, type Sandbox } from '../registrator/policies/sandbox.js';
import { type NodeOfSubject, subjectOf } from '../registrator/policies/subject.js';

export interface PolicyTest {
  /** A file with a policy, or the name of a built-in one. */
  readonly policy: string;
  /** File with what `docker inspect` prints; `-`: standard input. */
  readonly input: string;
  /** File with a configuration; none: the defaults. */
  readonly config: string | undefined;
  /** Undefined: as the object tells. */
  readonly kind: string | undefined;
  readonly node: NodeOfSubject;
}

/** Keys and values, of all objects of the input together. @throws AppError `invalid_argument` */
export async function testPolicy(test: PolicyTest): Promise<ReadonlyMap<string, string>> {
  const objects = await readObjects(test.input);
  const config = test.config === undefined ? {} : await readJson(test.config);
  const sandbox = createSandbox();
  try {
    const policy = (await findPolicy(sandbox, test.policy)).instance('test', config);
    const found = new Map<string, string>();
    for (const object of objects) {
      const kind = kindOf(object, test.kind, policy);
      const id = text(object['Id']) || text(object['ID']) || text(object['Name']);
      const keys = keysOf(await policy.run(subjectOf(kind, id, object, test.node)));
      for (const [key, value] of keys) found.set(key, value);
    }
    return found;
  } finally {
    await sandbox.close();
  }
}

async function findPolicy(sandbox: Sandbox, given: string): Promise<PolicyKind> {
  const known = builtIn(given);
  if (known) return known;
  const source = await read(given);
  return loadUserPolicy(sandbox, path.basename(given, '.js'), source);
}

async function readObjects(file: string): Promise<Inspected[]> {
  const found = await readJson(file);
  const objects: unknown[] = Array.isArray(found) ? found : [found];
  for (const object of objects) {
    if (typeof object !== 'object' || object === null)
      throw new AppError(
        'invalid_argument',
        `${quote(file)} has something else than what docker inspect prints`,
      );
  }
  return objects as Inspected[];
}

/** What only objects of a kind have. */
const tells: readonly (readonly [ObjectKind, (object: Inspected) => boolean])[] = [
  ['container', (object) => 'HostConfig' in object && 'State' in object],
  ['image', (object) => 'RepoTags' in object],
  ['volume', (object) => 'Mountpoint' in object],
  ['network', (object) => 'IPAM' in object],
  ['plugin', (object) => 'PluginReference' in object],
  ['daemon', (object) => 'ServerVersion' in object],
];

function kindOf(object: Inspected, given: string | undefined, { kinds }: Policy): ObjectKind {
  if (given !== undefined) {
    const known = objectKinds.find((kind) => kind === given);
    if (known) return known;
    throw new AppError(
      'invalid_argument',
      `there is no kind ${quote(given)}: give one of ${objectKinds.join(', ')}`,
    );
  }
  const told = tells.find(([, isOne]) => isOne(object))?.[0];
  const [only] = kinds;
  if (told !== undefined) return told;
  if (only !== undefined && kinds.size === 1) return only;
  throw new AppError(
    'invalid_argument',
    `the object does not tell its kind: give --kind, one of ${[...kinds].join(', ')}`,
  );
}

async function readJson(file: string): Promise<unknown> {
  const content = await read(file);
  try {
    return JSON.parse(content) as unknown;
  } catch (cause) {
    throw new AppError('invalid_argument', `${quote(file)} is not JSON: ${AppError.from(cause).message}`, {
      cause,
    });
  }
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file === '-' ? '/dev/stdin' : file, 'utf8');
  } catch (cause) {
    throw new AppError('invalid_argument', `cannot read ${quote(file)}: ${AppError.from(cause).message}`, {
      cause,
    });
  }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
