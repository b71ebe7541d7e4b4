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
import type { Owner, Seen } from './step.js';

/** A claim, and the key if nobody else claims it; a batch that is under way may add some 120 more. */
const CLAIMS_PER_LEASE = 380;
/** A store without space says so to each claim of a batch: it is asked once for all of them. */
const REFUSED_MS = 100;
/** Key and marker of some 100,000 keys that are shared; those without any cost nothing. */
const SHARED_LEASES = 256;

export interface KeyUse {
  readonly isWanted: boolean;
  /** How many claims are below a lease. */
  readonly inUse: (leaseId: string) => number;
}

export interface OwnerLeases {
  /**
   * This owner, with the leases that its step of a key needs, kept alive from here on. Its claim stays where it is, if that
   * is alive or the claim is given up; or else gets where there is room. Who gives it up can do with the shared lease that
   * others keep alive, when the store has no space for it.
   */
  ownerOf(ctx: Ctx, key: string, seen: Seen, use: KeyUse): Promise<Owner>;
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
  const { owner } = options;
  const own: Lease[] = [];
  const shared = new Map<string, Lease>();
  const alive = createGrants(state, options);
  const isMine = (leaseId: string): boolean => own.some(({ id, lost }) => id === leaseId && !lost.aborted);

  async function forClaim(ctx: Ctx, standing: string | undefined, use: KeyUse): Promise<LeaseReference> {
    if (!use.isWanted) return { id: standing ?? '' };
    for (let index = 0; standing === undefined || !isMine(standing); index += 1) {
      const id = own[index]?.id ?? leaseNumber(`owner ${owner} ${String(index)}`);
      const lease = await alive(ctx, own[index], id);
      own[index] = lease;
      if (use.inUse(lease.id) < CLAIMS_PER_LEASE) return lease;
    }
    return { id: standing };
  }

  async function hold(ctx: Ctx, id: string, isWanted: boolean): Promise<LeaseReference> {
    try {
      const lease = await alive(ctx, shared.get(id), id);
      shared.set(id, lease);
      return lease;
    } catch (reason) {
      if (!isWanted && hasCode(reason, 'no_space')) return { id };
      throw reason;
    }
  }

  return {
    async ownerOf(ctx, key, { claims, marker }, use) {
      const standing = claims.find((claim) => claim.owner === owner)?.leaseId;
      const othersWant = marker !== null || claims.some((claim) => claim.owner !== owner);
      const isShared = othersWant && (use.isWanted || standing !== undefined);
      const id = sharedLeaseOf(key);
      return {
        id: owner,
        lease: await forClaim(ctx, standing, use),
        isMine,
        sharedLease: isShared ? await hold(ctx, id, use.isWanted) : { id },
      };
    },
    oldestMs: () => {
      const alive = [...own, ...shared.values()].filter(({ lost }) => !lost.aborted);
      return alive.length === 0 ? null : Math.max(...alive.map((lease) => lease.ageMs()));
    },
    async revoke(ctx) {
      await Promise.all(own.map((lease) => lease.revoke(ctx)));
    },
  };
}

type Grant = (ctx: Ctx, lease: Lease | undefined, id: string) => Promise<Lease>;

/** The lease as it is while it lives, or a new one of its number. */
function createGrants(state: Pick<State, 'lease'>, { ttlMs, onLost }: LeaseOptions): Grant {
  const refused = new Map<string, { readonly atMs: number; readonly reason: unknown }>();

  return async (ctx, lease, id) => {
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
  };
}

/** 63 bits, never zero. */
function leaseNumber(of: string): string {
  const digest = createHash('sha256').update(`openebs registry ${of}`).digest();
  return String((digest.readBigUInt64BE() >> 1n) | 1n);
}
