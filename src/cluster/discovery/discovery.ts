/**
 * Finds hosts of a cluster for one that is to join it. Discovery only finds peers; it never decides who may join: the
 * joiner checks the certificate of whoever answers, and the host that answers checks the joiner's token. A discovery that
 * is wrong, or lies, costs time.
 */
import type { Ctx } from '../../context.js';

/** Where a host's join server may be. */
export interface Address {
  /** An IP address (of IPv6 without brackets), or a name that the system's resolver knows. */
  readonly host: string;
  readonly port: number;
}

export interface Peer extends Address {
  /** Which discovery has found it, for messages: `dns:example.org`. */
  readonly from: string;
}

export interface Discovery {
  /**
   * Peers that may be hosts of the cluster, without doubles, in the order in which to try them; at most
   * `findLimits.peers`, within `findLimits.ms`. None is an answer, and no error.
   *
   * @throws AppError, which names the discovery, the cause and the way out: `unavailable` when whoever is asked does not
   * answer, or not with what can be read; `invalid_argument` when it can never be right; `canceled` when ctx.signal aborts.
   */
  find(ctx: Ctx): Promise<readonly Peer[]>;
  /**
   * Of those alone that find nobody unless the members help: this host is found at `self`, an IP address, until the
   * announcement is closed. Interfaces of the network may come and go meanwhile. ctx.signal does not end it.
   *
   * @throws AppError `unavailable` when the network does not allow it, `invalid_argument` for an address that is none.
   */
  announce?(ctx: Ctx, self: Address): Promise<Announcement>;
}

export interface Announcement {
  /** Resolves when nobody is answered any more. Never throws; a second call does nothing. */
  close(): Promise<void>;
}

export const findLimits = { peers: 64, ms: 5_000 } as const;
