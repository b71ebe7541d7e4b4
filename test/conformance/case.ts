import type { Trial } from './trial.js';

export interface Case {
  /** What holds. */
  readonly name: string;
  /** Where that comes from: what Docker does, or what goes wrong without it. */
  readonly why: string;
  readonly needs?: 'mount';
  /** Throws a Complaint, or answers what is worth telling besides the last exchange. */
  readonly run: (trial: Trial) => Promise<string | undefined>;
}

export interface Group {
  readonly name: string;
  /** Its cases need the driver's backend to be away: the hooks take it away before the first and bring it back. */
  readonly needs?: 'outage';
  /** Before the first case, and in a group with an outage before that begins. */
  readonly before?: (trial: Trial) => Promise<void>;
  readonly cases: readonly Case[];
  /** Run when the backend is back. */
  readonly after?: readonly Case[];
  /** The volumes of its cases stay until the end of the run. */
  readonly keeps?: boolean;
}

export type Verdict = 'passed' | 'failed' | 'skipped';

export interface Outcome {
  readonly group: string;
  readonly case: string;
  readonly why: string;
  readonly verdict: Verdict;
  readonly detail: string;
  readonly tookMs: number;
}

/** A case that cannot be judged here. */
export class Skip extends Error {}
