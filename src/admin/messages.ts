/**
 * What the admin socket answers, as JSON. The CLI takes these types, and nothing else of the plugin's code. A CLI may be
 * older or newer than the plugin: fields are added, and never change their meaning.
 */
import type { NeighbourReport } from '../cluster/neighbours.js';
import type { FormationView, MemberReport, MemberRole } from '../cluster/formation/view.js';
import type { OlderRole } from '../dataplane/older-roles.js';
import type { EventStreamStats } from '../docker/event-stream.js';
import type { ErrorCode } from '../errors.js';
import type { CacheStart } from '../state/replica-file.js';
import type { Repair } from '../volumes/repair-log.js';
import type { Stray } from '../volumes/strays.js';
import type { VolumeView } from '../volumes/volume-service.js';

/** Of every answer with a status of 400 or more. */
export interface ErrorMessage {
  readonly error: { readonly code: ErrorCode; readonly message: string };
}

/** GET /v1/health: from memory. */
export interface HealthMessage extends WellBeing {
  /** Of the plugin. */
  readonly version: string;
}

export interface WellBeing {
  readonly node: string;
  /** The identity that this host was born with; which cluster it belongs to tells ClusterMessage. */
  readonly cluster: string;
  readonly healthy: boolean;
  /** What has failed and not succeeded since -> why. */
  readonly problems: Readonly<Record<string, string>>;
  /** The rest is missing where nothing is done, as under a wrong NODE_ID. */
  readonly recordsComplete?: boolean;
  readonly cache?: CacheStart;
  readonly repairs?: readonly Repair[];
  readonly strays?: readonly Stray[];
  readonly image?: { readonly current: string; readonly older: readonly OlderRole[] };
  readonly observed?: ObservedMessage;
}

export interface ObservedMessage {
  readonly stream: EventStreamStats;
  readonly journal: { readonly lost: number; readonly failures: number; readonly queued: number };
  readonly registrator: RegistryMessage | null;
}

/** GET /v1/registry; null where the registrator is off, or the engine has not answered yet. */
export interface RegistryMessage {
  /** All that was there at the start is registered. */
  readonly ready: boolean;
  readonly backends: Readonly<Record<string, BackendMessage>>;
  readonly policies: readonly PolicyMessage[];
}

export interface BackendMessage {
  readonly wanted: number;
  readonly pending: number;
  /** Keys whose owners want different values. */
  readonly conflicts: readonly string[];
  /** Keys that somebody who is no owner has written. */
  readonly foreign: readonly string[];
}

export interface PolicyMessage {
  readonly name: string;
  readonly from: string;
  readonly running: boolean;
  readonly problem: string | null;
}

/** GET /v1/volumes: from memory. */
export interface VolumesMessage {
  readonly volumes: readonly VolumeView[];
}

/** GET /v1/cluster: shared state is asked now, for a few seconds at most. */
export interface ClusterMessage {
  /** Of the record that all hosts share; null as long as this host has never seen it. */
  readonly id: string | null;
  /** RFC 3339. */
  readonly createdAt: string | null;
  /** This one. */
  readonly node: string;
  readonly etcd: EtcdMessage;
  /** Missing where the plugin runs no etcd of its own. */
  readonly formation?: FormationMessage;
}

/** How the plugin's own etcd is spread over the hosts. */
export interface FormationMessage extends FormationView {
  /** Where others reach this host; null: it is alone, on loopback, and nobody can join. */
  readonly advertise: string | null;
  /** `host:port` that others join at; null as above. */
  readonly joinAt: string | null;
  /** Newest backup on this host. */
  readonly backup: BackupMessage | null;
  /** The last change (ChangingMessage) that this host has carried out; null: none yet. */
  readonly change?: string | null;
}

export type { MemberRole };
export type MemberMessage = MemberReport;

/** GET /v1/cluster/neighbours: looked at now, for a few seconds at most. None for a host that is alone. */
export interface NeighboursMessage {
  readonly neighbours: readonly NeighbourReport[];
}

export type NeighbourMessage = NeighbourReport;

/** POST /v1/cluster/init with InitRequest: this host becomes one that others can join. Its plugin starts anew. */
export interface InitRequest {
  /** IP address of this host that the other hosts reach. */
  readonly advertise: string;
  readonly voters?: 1 | 3 | 5;
}

/** POST /v1/cluster/tokens with TokenRequest. */
export interface TokenRequest {
  /** From 60,000 to 7 days. */
  readonly ttlMs?: number;
}

/** The secret is shown this once. */
export interface NewTokenMessage extends TokenMessage {
  readonly token: string;
}

/** GET /v1/cluster/tokens; DELETE /v1/cluster/tokens/ID revokes one. */
export interface TokensMessage {
  readonly tokens: readonly TokenMessage[];
}

export interface TokenMessage {
  readonly id: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly expiresAt: string;
  /** How many hosts have joined with it. */
  readonly joined: number;
}

/** POST /v1/cluster/join with JoinRequest, answered with ChangingMessage. */
export interface JoinRequest {
  readonly token: string;
  /** IP address of this host for the others; without it the one that reaches them. */
  readonly advertise?: string;
  /** How to find hosts of the cluster; without it the addresses in the token. */
  readonly discovery?: string;
}

/** The change is decided and on disk; the plugin starts anew to carry it out, and `/v1/cluster` tells how far it is. */
export interface ChangingMessage {
  /** The cluster that this host will belong to; null: one of its own, which it has yet to make. */
  readonly cluster: string | null;
  readonly advertise: string | null;
  /**
   * Tells this change from others. Without it who waits takes what `/v1/cluster` shows for the new state as soon as it looks
   * like it, which what was there before a recovery does too.
   */
  readonly change?: string;
}

/** POST /v1/cluster/leave: this host leaves for a cluster of its own. Answered with ChangingMessage. */
export interface LeaveRequest {
  /** Though the cluster cannot be asked, or volumes of it are lost with this host. */
  readonly force?: boolean;
}

/** POST /v1/cluster/voters: how many there shall be. */
export interface VotersRequest {
  readonly voters: 1 | 3 | 5;
}

/** POST /v1/nodes/NODE/settings: what is not named stays. Answered with NodeSettingsMessage. DELETE /v1/nodes/NODE[?force=1] */
export interface NodeSettingsRequest {
  readonly labels?: Readonly<Record<string, string | null>>;
  /** A drained node runs no etcd member and makes no new volumes. */
  readonly drained?: boolean;
}

export interface NodeSettingsMessage {
  readonly labels: Readonly<Record<string, string>>;
  readonly drained: boolean;
}

/** POST /v1/cluster/backups makes one, GET does not; both list those on this host, the newest first. */
export interface BackupsMessage {
  readonly backups: readonly BackupMessage[];
}

export interface BackupMessage {
  /** Path on this host. */
  readonly file: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly cluster: string;
  readonly keys: number;
  readonly bytes: number;
  readonly revision: number;
}

/**
 * POST /v1/cluster/recover: a new etcd of one member on this host, with what its member had, or with a backup. For the
 * loss of the majority, and to go back. Answered with ChangingMessage.
 */
export interface RecoverRequest {
  /** Path of a backup on this host; without it what this host's member has. */
  readonly backup?: string;
  /** The cluster's id, typed by a person. */
  readonly confirm: string;
}

/**
 * POST /v1/cluster/down: all hosts stop what serves volumes, then etcd, and disable the plugin. The same once more tells
 * how far it is. Answered with EndingMessage.
 */
export interface EndingRequest {
  /** The data of the volumes and all that is recorded goes as well; needs `confirm`. */
  readonly purge?: boolean;
  /** The cluster's id, typed by a person. */
  readonly confirm?: string;
  /** Though hosts are away: what they have stays. */
  readonly force?: boolean;
}

export interface EndingMessage {
  readonly cluster: string;
  readonly purge: boolean;
  /** Hosts, by ID, that still have volumes to stop serving. */
  readonly waitingFor: readonly string[];
}

export interface EtcdMessage extends WhichEtcd {
  /** False when it does not answer, and when it answers but is not believed: another cluster's, or one without its data. */
  readonly usable: boolean;
  /** Why it is not. */
  readonly problem: string | null;
  /** How long its answer took. */
  readonly answerMs: number | null;
}

export interface WhichEtcd {
  /** There is none: this host is alone, and keeps its state itself. */
  readonly none?: boolean;
  /** Whether the plugin runs it. */
  readonly own: boolean;
  readonly endpoints: readonly string[];
}

/** GET /v1/nodes: shared state is asked now; what this host remembers while that does not answer. */
export interface NodesMessage {
  readonly nodes: readonly NodeMessage[];
  /** Why shared state could not be asked: the nodes are as they were, and nobody can tell who is alive. */
  readonly problem: string | null;
}

export interface NodeMessage {
  readonly id: string;
  /** This host. */
  readonly self: boolean;
  /** A node is away when its sign of life has run out: 15 s after its plugin was killed. */
  readonly state: 'alive' | 'away' | 'unknown';
  /** RFC 3339; when the plugin that gives the sign of life started. */
  readonly since: string | null;
  /** At least so long. */
  readonly awaySeconds: number | null;
  /** Empty, like all below, when its record is missing or cannot be read. */
  readonly hostname: string;
  readonly address: string;
  readonly engineVersion: string;
  readonly pluginVersion: string;
  readonly pools: Readonly<Record<string, { readonly sizeBytes: number; readonly freeBytes: number }>>;
  readonly labels: Readonly<Record<string, string>>;
  /** By `docker openebs node drain`. */
  readonly drained?: boolean;
  /** What is wrong with its record; empty: nothing. */
  readonly error: string;
}

/** GET /v1/events */
export interface EventsMessage {
  /** In order of time, the newest last. */
  readonly events: readonly EventMessage[];
  /** More matched: these are the newest of them. */
  readonly truncated: boolean;
  /** Records that could not be read. */
  readonly damaged: number;
}

export interface EventMessage {
  readonly node: string;
  readonly type: string;
  readonly action: string;
  readonly actor: string;
  readonly attributes: Readonly<Record<string, string>>;
  /** Nanoseconds since 1970: too long for a number. */
  readonly timeNano: string;
}
