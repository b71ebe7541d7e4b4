/** What a keeper with these wishes would change of the keys, without changing anything. */
import type { Ctx } from '../../context.js';
import { eachOf } from '../../lib/each-of.js';
import { keys } from '../../state/keys.js';
import { records } from '../../state/records.js';
import type { State } from '../../state/state.js';
import { sharedLeaseOf } from './leases.js';
import { type Owner, type Seen, stepOf, type Wanted } from './step.js';
import { readSeen } from './view.js';

export interface Difference {
  readonly key: string;
  /** Null: it is not there. */
  readonly now: string | null;
  readonly then: string | null;
  /** Somebody who is no owner has written it, so that it stays. */
  readonly isForeign: boolean;
}

const SIDE_BY_SIDE = 8;

export interface Wishes {
  readonly owner: string;
  readonly wanted: ReadonlyMap<string, Wanted>;
  /** Whether a claim of before that comes from this source stays, as `complete` of a backend is told. */
  readonly keep: (source: string) => boolean;
}

/** Of all keys that are wanted, or that this owner claims; those alone that would change or are foreign. */
export async function differences(
  ctx: Ctx,
  state: Pick<State, 'get' | 'range'>,
  { owner, wanted, keep }: Wishes,
): Promise<Difference[]> {
  const found: Difference[] = [];
  const all = new Set([...wanted.keys(), ...(await claimedBy(ctx, state, owner, keep))]);
  await eachOf([...all], SIDE_BY_SIDE, async (key) => {
    const difference = differenceOf(key, wanted.get(key) ?? null, await readSeen(ctx, state, key), owner);
    if (difference.isForeign || difference.now !== difference.then) found.push(difference);
  });
  return found.toSorted((a, b) => (a.key < b.key ? -1 : 1));
}

async function claimedBy(
  ctx: Ctx,
  state: Pick<State, 'range'>,
  owner: string,
  keep: Wishes['keep'],
): Promise<string[]> {
  const { entries } = await state.range(ctx, keys.claims);
  return entries.flatMap(({ key, value }) => {
    if (!key.endsWith(`/${owner}`)) return [];
    try {
      const claim = records.claim.decode(key, value);
      return keep(claim.source) ? [] : [claim.key];
    } catch {
      // Whoever keeps claims tells of a damaged one.
      return [];
    }
  });
}

function differenceOf(key: string, wanted: Wanted | null, seen: Seen, ownerId: string): Difference {
  const own = seen.claims.find((claim) => claim.owner === ownerId);
  // The leases of a keeper that does not exist: what is under them already stays as it is.
  const owner: Owner = {
    id: ownerId,
    lease: { id: own?.leaseId ?? 'new' },
    isMine: () => true,
    sharedLease: { id: sharedLeaseOf(key) },
  };
  const { transaction, isForeign } = stepOf(key, wanted, seen, owner);
  const now = seen.entry?.value ?? null;
  const operation = transaction?.then.find((one) => ('put' in one ? one.put : one.delete) === key);
  const then = !operation ? now : 'put' in operation ? operation.value : null;
  return { key, now, then, isForeign: isForeign && wanted !== null };
}
