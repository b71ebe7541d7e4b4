/**
 * What one owner has to do about one key, decided from what is seen of it.
 *
 * A key of the registry may be wanted by many owners. Each writes a claim, under a lease of its own, and in the same
 * transaction what the key is while these claims stand (merge.ts). So at any revision the key is what the claims say,
 * but for what the end of a lease has taken away; whoever still claims it puts that right.
 *
 * The key of a single owner is under that owner's lease: both go at one revision. A key with more owners is under a
 * lease that all of them keep alive (leases.ts), so that no one's end takes it from the others; a marker under that
 * lease says so, and when the last claim has gone, whoever sees it removes key and marker.
 *
 * A key that was put under none of these leases is somebody else's: it is neither changed nor removed, unless a claim
 * says `overwrite`; the claims stand meanwhile, and get it when it is free.
 */
import { keys } from '../../state/keys.js';
import { records, type ClaimRecord } from '../../state/records.js';
import type { Comparison, Entry, LeaseReference, Operation, Transaction } from '../../state/state.js';
import { decisive, mergedValue, type Candidate, type MergeRule } from './merge.js';

export interface Wanted {
  readonly value: string;
  readonly merge: MergeRule;
  readonly overwrite: boolean;
  /** What it comes from: policy and object. */
  readonly source: string;
}

/** A claim that stands. */
export interface Held extends Candidate, Wanted {
  readonly stateKey: string;
  readonly leaseId: string;
  readonly modRevision: number;
}

export interface Seen {
  readonly claims: readonly Held[];
  readonly entry: Entry | null;
  readonly marker: Entry | null;
  /** Of the claims: no claim was put between what is seen here and this revision. */
  readonly revision: number;
}

export interface Owner {
  readonly id: string;
  /** Of this owner alone, and alive: where its claim is, or else is to be. */
  readonly lease: LeaseReference;
  /** All numbers of such leases. */
  readonly isMine: (leaseId: string) => boolean;
  /** The one that all owners of this key keep alive. */
  readonly sharedLease: LeaseReference;
}

export interface Step {
  /** Null: all is as it should be, as far as this owner is concerned. */
  readonly transaction: Transaction | null;
  /** The key has a value that none of the owners has put; it stays. */
  readonly isForeign: boolean;
}

export function stepOf(key: string, wanted: Wanted | null, seen: Seen, owner: Owner): Step {
  const own = seen.claims.find((claim) => claim.owner === owner.id);
  const others = seen.claims.filter((claim) => claim.owner !== owner.id);
  if (wanted) {
    const stands = own !== undefined && isSame(own, wanted) && owner.isMine(own.leaseId);
    const mine: Standing = {
      ...wanted,
      owner: owner.id,
      createRevision: own?.createRevision ?? Number.MAX_SAFE_INTEGER,
      leaseId: stands ? own.leaseId : owner.lease.id,
    };
    return settle(key, stands ? [] : [claim(key, mine, owner)], { seen, owner, after: [...others, mine] });
  }
  if (own) return settle(key, [{ delete: own.stateKey }], { seen, owner, after: others });
  return others.length > 0 ? settled : sweep(key, { seen, owner, after: [] });
}

const settled: Step = { transaction: null, isForeign: false };

/** A claim as it will be. */
type Standing = Candidate & Wanted & Pick<Held, 'leaseId'>;

interface Situation {
  readonly seen: Seen;
  readonly owner: Owner;
  /** The claims that stand when the step is done. */
  readonly after: readonly Standing[];
}

function claim(key: string, { value, merge, overwrite, source }: Standing, owner: Owner): Operation {
  const record: ClaimRecord = { schema: 1, key, owner: owner.id, value, merge, overwrite, source };
  return { put: keys.claim(key, owner.id), value: records.claim.encode(record), lease: owner.lease };
}

/** Makes the key what the claims say, in the transaction that changes them. */
function settle(key: string, own: readonly Operation[], situation: Situation): Step {
  const { seen, owner, after } = situation;
  const isForeign = isForeignKey(seen, owner) && !after.some(({ overwrite }) => overwrite);
  const operations = [...own];
  if (!isForeign) operations.push(...keyOperations(key, situation));
  operations.push(...markerOperations(key, situation));
  return { transaction: guarded(key, situation, operations), isForeign };
}

function keyOperations(key: string, situation: Situation): Operation[] {
  const { entry } = situation.seen;
  if (situation.after.length === 0) return entry === null ? [] : [{ delete: key }];
  const value = mergedValue(situation.after);
  const lease = leaseOf(situation);
  if (entry?.value === value && entry.leaseId === lease.id) return [];
  return [{ put: key, value, lease, common: true }];
}

/** Once shared a key stays so, for as long as anybody claims it: to take it back would cost a write. */
function isShared({ seen, after }: Situation): boolean {
  return after.length > 1 || (after.length === 1 && seen.marker !== null);
}

function leaseOf(situation: Situation): LeaseReference {
  const [only] = situation.after;
  return isShared(situation) || !only ? situation.owner.sharedLease : { id: only.leaseId };
}

function markerOperations(key: string, situation: Situation): Operation[] {
  const name = keys.sharedKey(key);
  const isMarked = situation.seen.marker !== null;
  if (isShared(situation) === isMarked) return [];
  if (isMarked) return [{ delete: name }];
  const value = records.sharedKey.encode({ schema: 1, key });
  return [{ put: name, value, lease: situation.owner.sharedLease }];
}

/** Of a key that nobody claims any more: whoever did has come to a sudden end. */
function sweep(key: string, situation: Situation): Step {
  return situation.seen.marker === null ? settled : settle(key, [], situation);
}

function isForeignKey({ entry, claims }: Seen, owner: Owner): boolean {
  if (entry === null) return false;
  return entry.leaseId !== owner.sharedLease.id && !claims.some(({ leaseId }) => leaseId === entry.leaseId);
}

/**
 * Nothing of what the decision was made from has changed. Of others' claims those are compared that it was made from, as etcd
 * takes few comparisons, and a key may have as many owners as there are hosts: one more that goes changes nothing.
 */
function guarded(key: string, { seen, owner }: Situation, then: readonly Operation[]): Transaction | null {
  if (then.length === 0) return null;
  const others = seen.claims.filter((claim) => claim.owner !== owner.id);
  const compared = new Set([
    ...seen.claims.filter((claim) => claim.owner === owner.id),
    ...decisive(others),
    ...others.filter(({ overwrite }) => overwrite).slice(0, 1),
  ]);
  const same = (name: string, entry: { readonly modRevision: number } | null): Comparison =>
    entry === null ? { key: name, absent: true } : { key: name, modRevision: entry.modRevision };
  return {
    if: [
      same(key, seen.entry),
      same(keys.sharedKey(key), seen.marker),
      { prefix: keys.claimsOf(key), noPutAfter: seen.revision },
      ...[...compared].map((claim) => same(claim.stateKey, claim)),
    ],
    then,
  };
}

function isSame(held: Held, wanted: Wanted): boolean {
  return (
    held.value === wanted.value &&
    held.merge === wanted.merge &&
    held.overwrite === wanted.overwrite &&
    held.source === wanted.source
  );
}
