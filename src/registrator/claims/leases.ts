/**
 * The leases of one owner, and those it keeps alive together with other owners.
 *
 * Few leases for many keys: to keep a lease alive costs a message each third of its life, however many keys it has; but
 * etcd removes the keys of a lease in one go, and with users looks at each of them at each put, so no more than a
 * thousand. Numbers follow from the owner's name: after a restart the same leases are taken over with the claims below
 * them, and nothing has to be written again.
 */
import { createHash } from 'node:crypto';
import type { Ctx } from '../../context.js';
import { hasCode } from '../../errors.js';
import type { Lease, LeaseReference, State } from '../../state/state.js';

/** A claim, and the key if nobody else claims it; a batch that is under way may add some 120 more. */
const CLAIMS_PER_LEASE = 380;
/** A store without space says so to each claim of a batch: it is asked once for all of them. */
const REFUSED_MS = 100;
/** Key and marker of some 100,000 keys that are shared; those without any cost nothing. */
const SHARED_LEASES = 256;

export interface ClaimPlace {
  /** Number of the lease that it is below now. */
  readonly standing: string | undefined;
  readonly isWanted: boolean;
  /** How many claims are below a lease. */
  readonly inUse: (leaseId: string) => number;
}

export interface OwnerLeases {
  /** Where a claim is to be: where it stands, if that is alive or the claim is given up; or where there is room. */
  forClaim(ctx: Ctx, claim: ClaimPlace): Promise<LeaseReference>;
  /**
   * The lease of a key that is shared, kept alive from here on. Who is `leaving` can do with what the others keep alive,
   * when the store has no space for another lease.
   */
  hold(ctx: Ctx, key: string, leaving: boolean): Promise<LeaseReference>;
  isMine(leaseId: string): boolean;
  /** Milliseconds since the last acknowledged keepalive, of the lease for which that is longest ago; null: there is none. */
  oldestMs(): number | null;
  /** Ends those of this owner alone, with their keys. */
  revoke(ctx: Ctx): Promise<void>;
}

export function sharedLeaseOf(key: string): string {
  const bucket = createHash('sha256').update(key).digest().readUInt32BE() % SHARED_LEASES;
  return leaseNumber(`shared ${String(bucket)}`);
}

export interface LeaseOptions {
  readonly owner: string;
  readonly ttlMs: number;
  /** One of them may have run out: who has keys below it has to look at them. */
  readonly onLost: () => void;
}

export function createOwnerLeases(state: Pick<State, 'lease'>, options: LeaseOptions): OwnerLeases {
  const { owner, ttlMs, onLost } = options;
  const own: Lease[] = [];
  const shared = new Map<string, Lease>();
  const refused = new Map<string, { readonly atMs: number; readonly reason: unknown }>();

  async function alive(ctx: Ctx, lease: Lease | undefined, id: string): Promise<Lease> {
    if (lease && !lease.lost.aborted) return lease;
    const before = refused.get(id);
    if (before && performance.now() - before.atMs < REFUSED_MS) throw before.reason;
    refused.delete(id);
    const granted = await state.lease(ctx, ttlMs, id).catch((reason: unknown) => {
      if (hasCode(reason, 'no_space')) refused.set(id, { atMs: performance.now(), reason });
      throw reason;
    });
    granted.lost.addEventListener('abort', onLost, { once: true });
    return granted;
  }

  const isMine = (leaseId: string): boolean => own.some(({ id, lost }) => id === leaseId && !lost.aborted);

  return {
    async forClaim(ctx, { standing, isWanted, inUse }) {
      if (!isWanted) return { id: standing ?? '' };
      for (let index = 0; standing === undefined || !isMine(standing); index += 1) {
        const id = own[index]?.id ?? leaseNumber(`owner ${owner} ${String(index)}`);
        const lease = await alive(ctx, own[index], id);
        own[index] = lease;
        if (inUse(lease.id) < CLAIMS_PER_LEASE) return lease;
      }
      return { id: standing };
    },
    async hold(ctx, key, leaving) {
      const id = sharedLeaseOf(key);
      try {
        const lease = await alive(ctx, shared.get(id), id);
        shared.set(id, lease);
        return lease;
      } catch (reason) {
        if (leaving && hasCode(reason, 'no_space')) return { id };
        throw reason;
      }
    },
    oldestMs: () => {
      const alive = [...own, ...shared.values()].filter(({ lost }) => !lost.aborted);
      return alive.length === 0 ? null : Math.max(...alive.map((lease) => lease.ageMs()));
    },
    isMine,
    async revoke(ctx) {
      await Promise.all(own.map((lease) => lease.revoke(ctx)));
    },
  };
}

/** 63 bits, never zero. */
function leaseNumber(of: string): string {
  const digest = createHash('sha256').update(`openebs registry ${of}`).digest();
  return String((digest.readBigUInt64BE() >> 1n) | 1n);
}
