/**
 * Discovery without any configuration: a question to everybody on the networks of this host, which members of the cluster
 * answer. Answers are hints that nobody has signed. No datagram passes a router (time to live 1).
 */
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import { sleep } from '../../lib/sleep.js';
import { formatAddress } from './address.js';
import { announce } from './announcement.js';
import { bounded } from './bounded.js';
import { clusterDigest, decodeReply, encodeQuery, NONCE_BYTES } from './datagram.js';
import { type Address, type Discovery, findLimits } from './discovery.js';
import { ownNetworks } from './networks.js';
import type { MulticastGroup } from './spec.js';

export interface MulticastOptions extends MulticastGroup {
  /** Of the cluster: members of others stay silent. */
  readonly fingerprint: string;
  readonly limitMs?: number | undefined;
  /** How often an announcement looks for networks that have come; default 30 s. */
  readonly lookEveryMs?: number | undefined;
}

/** A datagram may be lost, so each search asks again; the last pause is for those that answer. */
const PAUSES_MS = [200, 400, 900];
const WAY_OUT = 'name the hosts with static:HOST,...';

export function createMulticastDiscovery(options: MulticastOptions): Discovery {
  const { group, port, limitMs } = options;
  const name = `multicast:${group}:${String(port)}`;
  const searching = bounded({
    name,
    wayOut: WAY_OUT,
    find: (ctx) => search(ctx, options),
    limitMs,
  });
  return { ...searching, announce: (ctx, self) => announce(ctx, self, { ...options, name }) };
}

async function search(ctx: Ctx, { group, port, fingerprint }: MulticastOptions): Promise<Address[]> {
  const found = new Map<string, Address>();
  const nonce = randomBytes(NONCE_BYTES);
  const query = encodeQuery({ nonce, cluster: clusterDigest(fingerprint) });
  const hear = (datagram: Buffer) => {
    const reply = decodeReply(datagram);
    // A liar has all the time of the search: what is kept has a bound.
    if (reply?.nonce.equals(nonce) && found.size < findLimits.peers)
      found.set(formatAddress(reply.peer), reply.peer);
  };
  const askers = ownNetworks().map(({ address }) => new Asker(address, hear));
  let failures: (Error | null)[] = [];
  try {
    for (const pauseMs of PAUSES_MS) {
      failures = await Promise.all(askers.map((asker) => asker.ask(query, { group, port })));
      if (!failures.includes(null)) throw nowhere(failures);
      await sleep(pauseMs, ctx.signal);
    }
    // That there is nobody is known when all could be asked: on loopback that nearly always succeeds.
    if (found.size === 0 && failures.some((failure) => failure !== null)) throw nowhere(failures);
    return [...found.values()];
  } finally {
    for (const asker of askers) asker.close();
  }
}

function nowhere(failures: readonly (Error | null)[]): AppError {
  const cause = failures.find((failure) => failure !== null);
  const why = cause === undefined ? 'it has no interface with an IPv4 address' : cause.message;
  return new AppError('unavailable', `this host cannot send to that group (${why}): ${WAY_OUT}`, { cause });
}

/** Asks on one network: what is sent without one goes where the default route leads, and nowhere without one. */
class Asker {
  readonly #socket: Socket = createSocket('udp4');
  readonly #ready: Promise<Error | null>;
  #failure: Error | null = null;

  constructor(address: string, hear: (datagram: Buffer) => void) {
    this.#socket.on('message', hear).on('error', (reason) => {
      this.#failure = reason;
    });
    this.#ready = this.#open(address).then(
      () => null,
      (reason: unknown) => AppError.from(reason, 'unavailable'),
    );
  }

  async #open(address: string): Promise<void> {
    const listening = once(this.#socket, 'listening');
    this.#socket.bind(0, address);
    await listening;
    this.#socket.setMulticastInterface(address);
    this.#socket.setMulticastTTL(1);
    // Members may be on this host: two engines, or the namespaces of a test.
    this.#socket.setMulticastLoopback(true);
  }

  /** Answers why it could not. */
  async ask(query: Buffer, { group, port }: MulticastGroup): Promise<Error | null> {
    const failure = (await this.#ready) ?? this.#failure;
    if (failure !== null) return failure;
    return new Promise((resolve) => {
      this.#socket.send(query, port, group, resolve);
    });
  }

  close(): void {
    this.#socket.close();
  }
}
