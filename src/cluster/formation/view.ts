import type { RenewalView } from '../renewal/renewal.js';

/** What is told of the members, to people and programs. */
export interface FormationView {
  /** voter and learner: this host runs a member of etcd. spare: it could. lost: its member has lost its data. */
  readonly role: MemberRole;
  /** How many voters there shall be, hosts permitting. */
  readonly voters: number;
  /** As etcd tells now; empty when it cannot be asked. */
  readonly members: readonly MemberReport[];
  /** What is being done about the members, or what that waits for. Null: nothing, all is as wanted. */
  readonly doing: string | null;
  /** Node that manages the members now. */
  readonly manager: string | null;
  /** Fails and has not succeeded since: what this host cannot do about its member. */
  readonly problem: string | null;
  /** `NOSPACE`, `CORRUPT`. */
  readonly alarms: readonly string[];
  /** Of a member here that runs from the image of another version of the plugin; null: it does not. */
  readonly renewal?: RenewalView | null;
}

export type MemberRole = 'alone' | 'voter' | 'learner' | 'spare' | 'lost';

/** `unseen`: by this host, which has looked for it for less than a second look takes. */
export type Coming = 'not started' | 'unseen';

export interface MemberReport {
  readonly id: string;
  /** Null: of a host that is not known. */
  readonly node: string | null;
  readonly peerUrl: string;
  readonly role: 'voter' | 'learner';
  /** It answers, and follows the leader. */
  readonly healthy: boolean;
  readonly leader: boolean;
  /** Why it is not healthy and yet not down; null where it is one of both. Missing: from an older plugin. */
  readonly coming?: Coming | null;
  /** How long it has not answered. */
  readonly unreachableSeconds: number | null;
  /** Entries of the log that it is behind; null when it does not answer. */
  readonly lag: number | null;
  readonly dbBytes: number | null;
  readonly version: string;
}
