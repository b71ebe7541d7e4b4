/** How an observer of objects goes about it, and what it tells of itself. */
import type { ObjectKind } from '../../docker/objects.js';

export interface ObserverLimits {
  /** From the first hint of an object to its inspection: what follows at once is one with it. */
  readonly debounceMs: number;
  readonly sideBySide: number;
  /** From the end of an object that nobody has looked at to the list that confirms it. */
  readonly passersByMs: number;
  readonly reconcileEveryMs: number;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

export const observerDefaults: ObserverLimits = {
  debounceMs: 50,
  sideBySide: 8,
  passersByMs: 1000,
  reconcileEveryMs: 300_000,
  retryMinMs: 250,
  retryMaxMs: 60_000,
};

export interface ObserverStats {
  readonly known: Readonly<Partial<Record<ObjectKind, number>>>;
  readonly pending: number;
  readonly inspections: number;
  readonly changes: number;
  readonly reconciles: number;
  readonly failures: number;
}
