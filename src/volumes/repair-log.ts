import type { Log } from '../log.js';

export interface Repair {
  /** RFC 3339. */
  readonly time: string;
  /** The data-plane container, e.g. `openebs-target-v1`. */
  readonly container: string;
  /** Empty for what belongs to no volume. */
  readonly volume: string;
  readonly what: string;
}

/** What was brought back since the plugin's start, so that who broke it, or wonders, can see it. */
export interface RepairLog {
  note(container: string, volume: string, what: string): void;
  /** The last one of this volume, as Status shows it; empty when there was none. */
  of(volume: string): string;
  /** The newest last. */
  all(): readonly Repair[];
}

const KEPT = 100;

export function createRepairLog(log: Log): RepairLog {
  const repairs: Repair[] = [];
  return {
    note(container, volume, what) {
      log.warn({ container, volume, what }, 'repaired');
      repairs.push({ time: new Date().toISOString(), container, volume, what });
      if (repairs.length > KEPT) repairs.shift();
    },
    of(volume) {
      const last = repairs.findLast((repair) => repair.volume === volume);
      return last ? `${last.time} ${last.container}: ${last.what}` : '';
    },
    all: () => repairs,
  };
}
