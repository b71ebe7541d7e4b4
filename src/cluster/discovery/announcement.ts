/**
 * The members' side of the multicast discovery. Whoever asks is nobody's friend yet, and the sender of a datagram can be
 * forged: so it answers neighbours alone, no more than it was sent, and not often; and what it does not know it ignores.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import type { Log } from '../../log.js';
import { isPort, readIp } from './address.js';
import { clusterDigest, decodeQuery, encodeReply } from './datagram.js';
import type { Address, Announcement } from './discovery.js';
import { neighboursOn, ownNetworks } from './networks.js';
import { ReplyBudget } from './reply-budget.js';
import type { MulticastGroup } from './spec.js';

export interface AnnounceOptions extends MulticastGroup {
  /** Of the discovery, for messages. */
  readonly name: string;
  readonly fingerprint: string;
  readonly lookEveryMs?: number | undefined;
}

/** Networks come and go. */
const LOOK_EVERY_MS = 30_000;
export async function announce(ctx: Ctx, self: Address, options: AnnounceOptions): Promise<Announcement> {
  const { name, group, port, fingerprint, lookEveryMs = LOOK_EVERY_MS } = options;
  const host = readIp(self.host);
  if (host === null || !isPort(self.port)) {
    const text = `discovery ${name}: a host is announced with an IP address and a port of its own`;
    throw new AppError('invalid_argument', text);
  }
  const socket = createSocket({ type: 'udp4', reuseAddr: true });
  try {
    const listening = once(socket, 'listening', { signal: ctx.signal });
    // Bound to the group, so nothing that is sent to an address of this host arrives.
    socket.bind(port, group);
    await listening;
  } catch (reason) {
    socket.close();
    throw AppError.from(reason, 'unavailable', `discovery ${name}: cannot listen for those that search`);
  }
  const answerer = new Answerer(socket, {
    group,
    cluster: clusterDigest(fingerprint),
    host,
    port: self.port,
    log: ctx.log,
  });
  return answerer.start(lookEveryMs);
}

interface AnswererOptions extends Address {
  readonly group: string;
  readonly cluster: Buffer;
  readonly log: Log;
}

class Answerer {
  readonly #socket: Socket;
  readonly #options: AnswererOptions;
  readonly #budget = new ReplyBudget();
  readonly #told = new Set<string>();
  #isNeighbour: (address: string) => boolean = () => false;
  #closed: Promise<unknown> | null = null;

  constructor(socket: Socket, options: AnswererOptions) {
    this.#socket = socket;
    this.#options = options;
  }

  start(lookEveryMs: number): Announcement {
    this.#look();
    const timer = setInterval(() => {
      this.#look();
    }, lookEveryMs).unref();
    this.#socket
      .on('message', (datagram, sender) => {
        this.#hear(datagram, sender);
      })
      .on('error', (err) => {
        this.#options.log.warn({ err }, 'those that search this host by multicast may not find it');
      });
    return {
      close: async () => {
        clearInterval(timer);
        if (this.#closed === null) {
          this.#closed = once(this.#socket, 'close');
          this.#socket.close();
        }
        await this.#closed;
      },
    };
  }

  /** Joins the group on each network. An interface that was gone meanwhile is joined anew. */
  #look(): void {
    const networks = ownNetworks();
    this.#isNeighbour = neighboursOn(networks);
    for (const { address } of networks) {
      try {
        this.#socket.addMembership(this.#options.group, address);
        this.#told.delete(address);
      } catch (err) {
        // It is a member already.
        if ((err as NodeJS.ErrnoException).code === 'EADDRINUSE') continue;
        if (this.#told.has(address)) continue;
        this.#told.add(address);
        this.#options.log.warn({ err, address }, 'this host is not found by multicast on that network');
      }
    }
  }

  #hear(datagram: Buffer, { address, port }: RemoteInfo): void {
    const query = decodeQuery(datagram);
    const { cluster, host, port: own } = this.#options;
    if (!query?.cluster.equals(cluster) || !isPort(port) || !this.#isNeighbour(address)) return;
    if (!this.#budget.take(address)) return;
    // One that cannot be answered is none that needs an answer.
    this.#socket.send(encodeReply({ ...query, peer: { host, port: own } }), port, address, () => undefined);
  }
}
