/**
 * What a policy is, whoever wrote it: functions from an object to keys, by the object's kind.
 */
import { AppError } from '../../errors.js';
import { keys } from '../../state/keys.js';
import { mergeRules } from '../../state/records.js';
import type { ObjectKind } from '../../docker/objects.js';
import { CONSUL_SCHEME, serviceIdOf } from '../backends/consul/service-key.js';
import type { MergeRule } from '../claims/merge.js';
import type { Subject } from './subject.js';

/** An instance of a policy: the policy with a configuration. */
export interface Policy {
  /** `skydns/kontena-local`: of the policy, and of the instance. */
  readonly name: string;
  readonly merge: MergeRule;
  /** Whether it takes over a key that somebody else has written. */
  readonly overwrite: boolean;
  readonly kinds: ReadonlySet<ObjectKind>;
  /** What it makes of an object, not checked yet. @throws AppError `invalid_argument` with what is wrong with it. */
  run(subject: Subject): Promise<unknown>;
}

export const isMergeRule = (value: unknown): value is MergeRule => mergeRules.some((rule) => rule === value);

const MAX_KEYS = 1000;
const MAX_KEY_CHARS = 1024;
/** etcd takes 1.5 MiB at once, and a transaction has many. */
const MAX_VALUE_CHARS = 65_536;
/** Our own records are not for policies, but for these. */
const OWN = [keys.objects, keys.services, keys.vsms];

/**
 * The keys of a policy's result: an object of values by key, or nothing. A text is the value as it is, null is no key,
 * anything else is written as JSON.
 * @throws AppError `invalid_argument` that says what is not allowed.
 */
export function keysOf(result: unknown): ReadonlyMap<string, string> {
  if (result === null || result === undefined) return new Map();
  if (typeof result !== 'object' || Array.isArray(result)) {
    const found = Array.isArray(result) ? 'a list' : `a ${typeof result}`;
    throw refused(`it returns ${found}: an object of values by key is expected, or null`);
  }
  const entries = Object.entries(result).filter(([, value]) => value !== null && value !== undefined);
  if (entries.length > MAX_KEYS)
    throw refused(`it returns ${String(entries.length)} keys for one object: at most ${String(MAX_KEYS)}`);
  return new Map(entries.map(([key, value]) => [checkKey(key), toValue(key, value)]));
}

function checkKey(key: string): string {
  const shown = JSON.stringify(key.slice(0, 100));
  if (key.startsWith(CONSUL_SCHEME)) {
    if (serviceIdOf(key) !== null) return key;
    throw refused(`the key ${shown} is not of the form consul:/ID, its id up to 256 of A-Z a-z 0-9 _ . : -`);
  }
  if (!/^\/[^/]+\/./s.test(key))
    throw refused(`the key ${shown} is not of the form /PREFIX/NAME, or consul:/ID`);
  if (key.length > MAX_KEY_CHARS || /[\p{Cc}\p{Cs}]/u.test(key))
    throw refused(
      `the key ${shown} is longer than ${String(MAX_KEY_CHARS)} characters, or has control characters, or half of one`,
    );
  if (
    key.startsWith(keys.root) &&
    !OWN.some((prefix) => key.startsWith(prefix) && key.length > prefix.length)
  )
    throw refused(
      `the key ${shown} is among the product's own records: below ${keys.root} use ${OWN.join(' or ')}`,
    );
  return key;
}

function toValue(key: string, value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  if (typeof text !== 'string')
    throw refused(`the value of ${key} is a ${typeof value}, which JSON cannot say`);
  if (/\p{Cs}/u.test(text)) throw refused(`the value of ${key} has half a character in it`);
  if (text.length > MAX_VALUE_CHARS)
    throw refused(
      `the value of ${key} has ${String(text.length)} characters: at most ${String(MAX_VALUE_CHARS)}`,
    );
  return text;
}

function refused(text: string): AppError {
  return new AppError('invalid_argument', text);
}
