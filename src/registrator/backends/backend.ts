/**
 * Where what is wanted of the registry goes. Level-triggered: it is told what is wanted, and makes it so for as long as it
 * runs, whatever becomes of the store behind it. None of these calls waits for that store, but `settled` and `close`;
 * none throws.
 */
import type { Wanted } from '../claims/step.js';

export interface RegistryBackend {
  /** From now on; null withdraws. The last word counts. */
  want(key: string, wanted: Wanted | null): void;
  /**
   * All that is wanted has been said: what this owner has left there, and nobody wants any more, is withdrawn, but for
   * what comes from a source that `keep` tells to be not known yet. May be said again, with another `keep`.
   */
  complete(keep?: (source: string) => boolean): void;
  /** Resolves when all that was wanted at this moment is so, or cannot be because a key is somebody else's. */
  settled(): Promise<void>;
  stats(): BackendStats;
  /** hand-over: what was written stays for the next process, and goes by itself where the store can do that. */
  close(how: Farewell): Promise<void>;
}

export type Farewell = 'withdraw' | 'hand-over';

export interface BackendStats {
  readonly wanted: number;
  /** Keys that are to be looked at, or are being written. */
  readonly pending: number;
  /** Transactions, or calls, that changed something. */
  readonly writes: number;
  readonly failures: number;
  /** Keys whose owners want different values. */
  readonly conflicts: readonly string[];
  /** Keys that somebody who is no owner has written. */
  readonly foreign: readonly string[];
  /** Since the last acknowledged keepalive of the lease for which that is longest ago; where there are leases. */
  readonly leaseAgeSeconds?: number;
}

/** All that are configured, each for the keys of its scheme. */
export interface Backends extends Omit<RegistryBackend, 'stats'> {
  /** By name: `etcd`, `consul`. */
  stats(): Readonly<Record<string, BackendStats>>;
}
