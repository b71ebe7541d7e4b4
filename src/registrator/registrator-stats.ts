import type { BackendStats } from './backends/backend.js';
import type { ObserverStats } from './objects/limits.js';

/** How the registrator is doing; JSON. */
export interface RegistratorStats {
  /** All that was there at the start, and all that policies make of it, has been written. */
  readonly ready: boolean;
  readonly objects: ObserverStats;
  /** By backend: `etcd`, `consul`. */
  readonly backends: Readonly<Record<string, BackendStats>>;
  readonly policies: readonly PolicyStatus[];
}

export interface PolicyStatus {
  /** Of the instance: `skydns/kontena-local`; of a file that is no policy: its path. */
  readonly name: string;
  /** default, a file of the host, or a key of shared state. */
  readonly from: string;
  readonly running: boolean;
  /** What is wrong with it, or with the object it met last; null: nothing. */
  readonly problem: string | null;
}
