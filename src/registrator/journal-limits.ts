export interface JournalLimits {
  /** Records per node; for a moment up to one batch more. */
  maxRecords: number;
  maxAgeMs: number;
  /** Write exec, health probe, top, attach and resize events as well. */
  includeNoise: boolean;
  batchRecords: number;
  batchBytes: number;
  flushMs: number;
  queueRecords: number;
  queueBytes: number;
  trimEveryMs: number;
  callTimeoutMs: number;
  retryMinMs: number;
  retryMaxMs: number;
  /** How long close() may take to write what is queued. */
  closeTimeoutMs: number;
}

export const journalDefaults: JournalLimits = {
  maxRecords: 10_000,
  maxAgeMs: 7 * 24 * 3_600_000,
  includeNoise: false,
  batchRecords: 100,
  batchBytes: 512 * 1024, // etcd refuses requests above 1.5 MiB
  flushMs: 250,
  queueRecords: 10_000,
  queueBytes: 8 * 1024 * 1024,
  trimEveryMs: 600_000,
  callTimeoutMs: 5_000,
  retryMinMs: 250,
  retryMaxMs: 5_000,
  closeTimeoutMs: 2_000,
};
