/**
 * What this host wants of the registry: the results of all policies for all its objects, by key.
 *
 * Each key knows what it comes from, so that it stays while anything gives it, and goes with the last. Where objects of
 * this host give different values, the policies' rule for merging settles it here as it does among hosts.
 */
import type { ObjectKind } from '../docker/objects.js';
import { AppError } from '../errors.js';
import type { Log } from '../log.js';
import type { RegistryBackend } from './backends/backend.js';
import { type Candidate, isConflict, mergedValue } from './claims/merge.js';
import type { Wanted } from './claims/step.js';
import type { Policy } from './policies/policy.js';

export interface Registry {
  /**
   * Replaces what this policy gave for this object before.
   * @throws AppError `no_space` when all together would be more than this process should keep; nothing is changed then.
   */
  set(policy: Policy, object: ObjectName, keys: ReadonlyMap<string, string>): void;
  /** What came from a policy that is there no more. */
  dropPolicy(name: string): void;
  /** What came from an object that is there no more. */
  dropObject(object: ObjectName): void;
}

export interface ObjectName {
  readonly kind: ObjectKind;
  readonly id: string;
}

interface Given extends Candidate {
  readonly overwrite: boolean;
}

/** Of all keys and values together: they are in memory some four times, and the process has some 500 MB. */
const MAX_CHARS = 32 * 1024 * 1024;

export function createRegistry(
  backend: Pick<RegistryBackend, 'want'>,
  log: Log,
  maxChars = MAX_CHARS,
): Registry {
  return new ClaimingRegistry(backend, log, maxChars);
}

class ClaimingRegistry implements Registry {
  readonly #backend: Pick<RegistryBackend, 'want'>;
  readonly #log: Log;
  /** Key -> source -> what it gives. */
  readonly #byKey = new Map<string, Map<string, Given>>();
  /** Policy -> object -> its keys. */
  readonly #byPolicy = new Map<string, Map<string, readonly string[]>>();
  readonly #conflicts = new Set<string>();
  readonly #maxChars: number;
  #chars = 0;
  #sequence = 0;

  constructor(backend: Pick<RegistryBackend, 'want'>, log: Log, maxChars: number) {
    this.#backend = backend;
    this.#log = log;
    this.#maxChars = maxChars;
  }

  set(policy: Policy, object: ObjectName, keys: ReadonlyMap<string, string>): void {
    const objectName = nameOf(object);
    const source = sourceOf(policy.name, objectName);
    const objects = this.#byPolicy.get(policy.name) ?? new Map<string, readonly string[]>();
    const before = objects.get(objectName) ?? [];
    this.#checkRoom(before, source, keys);
    if (keys.size > 0) objects.set(objectName, [...keys.keys()]);
    else objects.delete(objectName);
    if (objects.size > 0) this.#byPolicy.set(policy.name, objects);
    else this.#byPolicy.delete(policy.name);
    for (const key of before) if (!keys.has(key)) this.#take(key, source);
    for (const [key, value] of keys) this.#give(key, source, policy, value);
  }

  #checkRoom(before: readonly string[], source: string, keys: ReadonlyMap<string, string>): void {
    let more = 0;
    for (const [key, value] of keys) more += key.length + value.length;
    for (const key of before) more -= this.#charsOf(key, this.#byKey.get(key)?.get(source));
    if (more <= 0 || this.#chars + more <= this.#maxChars) return;
    throw new AppError(
      'no_space',
      `all that policies register of this host would have more than ${String(this.#maxChars)} characters`,
    );
  }

  #charsOf(key: string, given: Given | undefined): number {
    return given ? key.length + given.value.length : 0;
  }

  dropPolicy(name: string): void {
    for (const [objectName, keys] of this.#byPolicy.get(name) ?? [])
      for (const key of keys) this.#take(key, sourceOf(name, objectName));
    this.#byPolicy.delete(name);
  }

  dropObject(object: ObjectName): void {
    const objectName = nameOf(object);
    for (const [policy, objects] of this.#byPolicy) {
      for (const key of objects.get(objectName) ?? []) this.#take(key, sourceOf(policy, objectName));
      objects.delete(objectName);
    }
  }

  #give(key: string, source: string, policy: Policy, value: string): void {
    const given = this.#byKey.get(key) ?? new Map<string, Given>();
    const before = given.get(source);
    const { merge, overwrite } = policy;
    if (before?.value === value && before.merge === merge && before.overwrite === overwrite) return;
    const createRevision = before?.createRevision ?? (this.#sequence += 1);
    this.#chars += key.length + value.length - this.#charsOf(key, before);
    given.set(source, { owner: source, value, merge, overwrite, createRevision });
    this.#byKey.set(key, given);
    this.#settle(key, given);
  }

  #take(key: string, source: string): void {
    const given = this.#byKey.get(key);
    this.#chars -= this.#charsOf(key, given?.get(source));
    if (!given?.delete(source)) return;
    if (given.size === 0) this.#byKey.delete(key);
    this.#settle(key, given);
  }

  #settle(key: string, given: ReadonlyMap<string, Given>): void {
    this.#backend.want(key, given.size === 0 ? null : wantedOf(given));
    if (!isConflict([...given.values()])) this.#conflicts.delete(key);
    else if (!this.#conflicts.has(key)) {
      this.#conflicts.add(key);
      this.#log.warn({ key, sources: [...given.keys()] }, 'objects want different values for a key');
    }
  }
}

function wantedOf(given: ReadonlyMap<string, Given>): Wanted {
  const all = [...given.values()];
  const value = mergedValue(all);
  const giving = all.filter((one) => one.value === value);
  const [first] = (giving.length > 0 ? giving : all).map(({ owner }) => owner).toSorted();
  const [rule] = all.map(({ merge }) => merge);
  return {
    value,
    merge: all.every(({ merge }) => merge === rule) ? (rule ?? 'min') : 'min',
    overwrite: all.some(({ overwrite }) => overwrite),
    source: first ?? '',
  };
}

/** What a claim says that it comes from. */
function sourceOf(policy: string, objectName: string): string {
  return `${policy} ${objectName}`;
}

export function parseSource(source: string): ObjectName & { readonly policy: string } {
  const [policy = '', kind = '', ...id] = source.split(' ');
  return { policy, kind: kind as ObjectKind, id: id.join(' ') };
}

function nameOf({ kind, id }: ObjectName): string {
  return `${kind} ${id}`;
}
