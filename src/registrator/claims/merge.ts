import type { mergeRules } from '../../state/records.js';

export type MergeRule = (typeof mergeRules)[number];

/** What is compared of a claim to settle on a value; the same on every host. */
export interface Candidate {
  readonly owner: string;
  readonly value: string;
  readonly merge: MergeRule;
  /** Of the claim's record: who was first. */
  readonly createRevision: number;
}

/**
 * The value a key has while these claims stand. A pure function of the set, so that all hosts settle on the same and
 * nobody writes what another has just replaced. Owners whose rules differ are held to `min`.
 * @param claims at least one
 */
export function mergedValue(claims: readonly Candidate[]): string {
  const rules = new Set(claims.map(({ merge }) => merge));
  const [rule] = rules;
  if (rules.size > 1 || rule === undefined) return smallest(claims);
  if (rule === 'first') return oldest(claims);
  return rule === 'union' ? union(claims) : smallest(claims);
}

/**
 * As few of these claims as it takes: while they stand the value stays what it is, whichever of the others go. One of each
 * value for `union`, of each other rule the smallest, and who was first.
 */
export function decisive<C extends Candidate>(claims: readonly C[]): readonly C[] {
  const found = new Map<string, C>();
  for (const claim of claims) {
    const group = claim.merge === 'union' ? `union ${claim.value}` : claim.merge;
    const before = found.get(group);
    if (!before || compareText(claim.value, before.value) < 0) found.set(group, claim);
  }
  const [first] = found.has('first') ? claims.toSorted(byAge) : [];
  return [...new Set([...found.values(), ...(first ? [first] : [])])];
}

/** More than one value is wanted, and only one can be had: somebody should be told. */
export function isConflict(claims: readonly Candidate[]): boolean {
  if (claims.every(({ merge }) => merge === 'union')) return false;
  return new Set(claims.map(({ value }) => value)).size > 1;
}

function oldest(claims: readonly Candidate[]): string {
  const [first] = claims.toSorted(byAge);
  return first?.value ?? '';
}

function byAge(a: Candidate, b: Candidate): number {
  return a.createRevision - b.createRevision || compareText(a.owner, b.owner);
}

/** By bytes, as etcd sorts: not by the alphabet of a host. */
function compareText(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function smallest(claims: readonly Candidate[]): string {
  return claims.map(({ value }) => value).toSorted(compareText)[0] ?? '';
}

/** A list of all values, each once; a value that is a list gives its items. What is no JSON is a text. */
function union(claims: readonly Candidate[]): string {
  const items = claims.flatMap(({ value }) => {
    const parsed = parse(value);
    return (Array.isArray(parsed) ? parsed : [parsed]).map((item) => JSON.stringify(item));
  });
  return `[${[...new Set(items)].toSorted(compareText).join(',')}]`;
}

function parse(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
