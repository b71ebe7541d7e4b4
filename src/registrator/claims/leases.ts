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
import type { Lease, LeaseReference, State } from '../../state/state.js';

/** A claim, and the key if nobody else claims it; a batch that is under way may add some 120 more. */
const CLAIMS_PER_LEASE = 380;
/** Key and marker of some 100,000 keys that are shared; those without any cost nothing. */
const SHARED_LEASES = 256;

export interface OwnerLeases {
  /** One with room for another claim. `inUse` tells how many claims are below a lease. */
  withRoom(ctx: Ctx, inUse: (leaseId: string) => number): Promise<LeaseReference>;
  /** The lease of a key that is shared, kept alive from here on. */
  hold(ctx: Ctx, key: string): Promise<LeaseReference>;
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

  async function alive(ctx: Ctx, lease: Lease | undefined, id: string): Promise<Lease> {
    if (lease && !lease.lost.aborted) return lease;
    const granted = await state.lease(ctx, ttlMs, id);
    granted.lost.addEventListener('abort', onLost, { once: true });
    return granted;
  }

  return {
    async withRoom(ctx, inUse) {
      for (let index = 0; ; index += 1) {
        const id = own[index]?.id ?? leaseNumber(`owner ${owner} ${String(index)}`);
        const lease = await alive(ctx, own[index], id);
        own[index] = lease;
        if (inUse(lease.id) < CLAIMS_PER_LEASE) return lease;
      }
    },
    async hold(ctx, key) {
      const id = sharedLeaseOf(key);
      const lease = await alive(ctx, shared.get(id), id);
      shared.set(id, lease);
      return lease;
    },
    oldestMs: () => {
      const alive = [...own, ...shared.values()].filter(({ lost }) => !lost.aborted);
      return alive.length === 0 ? null : Math.max(...alive.map((lease) => lease.ageMs()));
    },
    isMine: (leaseId) => own.some(({ id, lost }) => id === leaseId && !lost.aborted),
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
