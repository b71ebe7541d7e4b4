/**
 * A lease that knows when it may no longer be trusted.
 *
 * etcd counts a lease's time to live from when it handles a keepalive; we count from when we SENT the keepalive that
 * was answered, by the monotonic clock, less a margin for a late timer. So `lost` is never later than the expiry
 * at the server, whatever the network does with requests and answers, and no clock of another machine matters.
 *
 * Answers on one stream come in the order of the requests, so a queue of sending times tells which request was
 * answered. A stream whose oldest request is still unanswered when the next is due is taken for dead and replaced.
 * A lease's number is chosen by us: a grant whose answer was lost is sent again with the same number, and "already
 * exists" is then the answer that was lost.
 */
import type { Etcd3, IDuplexStream, ILeaseKeepAliveRequest, ILeaseKeepAliveResponse } from 'etcd3';
import { performance } from 'node:perf_hooks';
import type { Ctx } from '../context.js';
import { AppError, hasCode } from '../errors.js';
import { sleep } from '../lib/sleep.js';
import type { Log } from '../log.js';
import type { CallOptions, EtcdClient } from './etcd-client.js';
import { randomLeaseId } from './lease-id.js';
import type { Lease } from './state.js';

type Stream = IDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>;

const shortestTtlMs = 2_000;
const RUNNING_OUT_MS = 250;

export async function grantLease(
  client: EtcdClient,
  ctx: Ctx,
  options: { ttlMs: number; id?: string; log: Log; closed: AbortSignal },
): Promise<Lease> {
  if (!(options.ttlMs >= shortestTtlMs)) {
    throw new AppError(
      'invalid_argument',
      `a lease of ${String(options.ttlMs)} ms is too short: etcd takes at least ${String(shortestTtlMs)} ms`,
    );
  }
  const request = { ID: options.id ?? randomLeaseId(), TTL: Math.ceil(options.ttlMs / 1000) };
  const budget = client.budget(ctx);
  while (!budget.spent()) {
    const granted = await client.repeat(budget, 'granting a lease', (etcd, callOptions) =>
      grantOrTakeOver(etcd, callOptions, request),
    );
    if (granted)
      return new EtcdLease(client, { ...granted, id: request.ID, log: options.log, closed: options.closed });
    await budget.pause(RUNNING_OUT_MS);
  }
  throw budget.failure('granting a lease');
}

interface Granted {
  readonly ttlMs: number;
  /** By performance.now(). */
  readonly trustedUntil: number;
}

/** Undefined: the lease of this number is running out just now. */
async function grantOrTakeOver(
  etcd: Etcd3,
  callOptions: CallOptions,
  request: { ID: string; TTL: number },
): Promise<Granted | undefined> {
  const sentAt = performance.now();
  let refusal: Error;
  try {
    const { TTL } = await etcd.leaseClient.leaseGrant(request, callOptions);
    return { ttlMs: Number(TTL) * 1000, trustedUntil: sentAt + Number(TTL) * 1000 };
  } catch (reason) {
    // Without space it says of no number whether it has that lease.
    if (!(reason instanceof Error) || !/lease already exists|space exceeded/.test(reason.message))
      throw reason;
    refusal = reason;
  }
  // Ours by a grant whose answer was lost, or another's: when was it kept alive last?
  const askedAt = performance.now();
  const left = await etcd.leaseClient.leaseTimeToLive({ ID: request.ID }, callOptions);
  if (Number(left.TTL) <= 0 && refusal.message.includes('space exceeded')) throw refusal;
  if (Number(left.TTL) <= 0) return undefined;
  return { ttlMs: Number(left.grantedTTL) * 1000, trustedUntil: askedAt + Number(left.TTL) * 1000 };
}

class EtcdLease implements Lease {
  readonly id: string;
  readonly #client: EtcdClient;
  readonly #log: Log;
  readonly #ttlMs: number;
  readonly #over = new AbortController();
  readonly #closed: AbortSignal;
  #fence: NodeJS.Timeout | undefined;
  #trustedUntil = 0;

  constructor(
    client: EtcdClient,
    options: { id: string; ttlMs: number; trustedUntil: number; log: Log; closed: AbortSignal },
  ) {
    this.id = options.id;
    this.#client = client;
    this.#log = options.log;
    this.#ttlMs = options.ttlMs;
    this.#closed = options.closed;
    this.#trust(options.trustedUntil);
    this.#closed.addEventListener('abort', this.#onClosed);
    if (this.#closed.aborted) this.#onClosed();
    void this.#keepAlive();
  }

  /** Before the server's own end of it. */
  get #marginMs(): number {
    return Math.min(500, this.#ttlMs / 10);
  }

  get lost(): AbortSignal {
    return this.#over.signal;
  }

  ageMs(): number {
    return Math.max(0, performance.now() - (this.#trustedUntil + this.#marginMs - this.#ttlMs));
  }

  async revoke(ctx: Ctx): Promise<void> {
    this.#lose(new AppError('conflict', `the lease ${this.id} was revoked`));
    try {
      await this.#client.repeat(this.#client.budget(ctx), 'revoking a lease', (etcd, options) =>
        etcd.leaseClient.leaseRevoke({ ID: this.id }, options),
      );
    } catch (reason) {
      // Already gone, by time or by the first copy of this call.
      if (!hasCode(reason, 'conflict')) throw reason;
    }
  }

  readonly #onClosed = () => {
    this.#lose(
      new AppError('canceled', `the lease ${this.id} is no longer kept alive: the state was closed`),
    );
  };

  /** The server does not let it run out before then, as a grant or a keepalive has acknowledged. */
  #trust(until: number): void {
    if (this.lost.aborted) return;
    this.#trustedUntil = Math.max(this.#trustedUntil, until - this.#marginMs);
    clearTimeout(this.#fence);
    const remainingMs = this.#trustedUntil - performance.now();
    const expire = () => {
      this.#lose(
        new AppError('unavailable', `the lease ${this.id} may have run out: no keepalive was answered`),
      );
    };
    if (remainingMs <= 0) expire();
    else this.#fence = setTimeout(expire, remainingMs).unref();
  }

  #lose(reason: AppError): void {
    clearTimeout(this.#fence);
    this.#closed.removeEventListener('abort', this.#onClosed);
    if (this.lost.aborted) return;
    if (reason.code === 'unavailable') this.#log.warn({ lease: this.id, err: reason }, 'lease lost');
    this.#over.abort(reason);
  }

  /** Stream after stream until the lease is lost. */
  async #keepAlive(): Promise<void> {
    while (!this.lost.aborted) {
      try {
        const stream = await this.#client.stream((etcd) => etcd.leaseClient.leaseKeepAlive());
        await this.#serve(stream);
      } catch (reason) {
        const { error } = this.#client.failed(reason);
        this.#log.debug({ lease: this.id, err: error }, 'keepalive interrupted');
      }
      await sleep(this.#ttlMs / 20, this.lost);
    }
  }

  /** Sends a keepalive each third of the TTL; ends with the stream, with the lease, or when answers stay away. */
  async #serve(stream: Stream): Promise<void> {
    const unanswered: number[] = [];
    const done = new AbortController();
    const { signal } = done;
    let failure: unknown;
    const finish = (reason?: unknown) => {
      failure ??= reason;
      done.abort();
    };
    stream.on('error', finish);
    stream.on('end', () => {
      finish();
    });
    stream.on('data', (answer) => {
      const sentAt = unanswered.shift();
      if (Number(answer.TTL) <= 0) {
        this.#lose(new AppError('unavailable', `etcd says that the lease ${this.id} has run out`));
      } else if (sentAt !== undefined) this.#trust(sentAt + this.#ttlMs);
    });
    const stop = () => {
      finish();
    };
    this.lost.addEventListener('abort', stop);
    while (!this.lost.aborted && !isAborted(signal) && unanswered.length === 0) {
      unanswered.push(performance.now());
      stream.write({ ID: this.id });
      await sleep(this.#ttlMs / 3, signal);
    }
    this.lost.removeEventListener('abort', stop);
    // A cancelled stream makes etcd3 throw away its connections: right for a dead one only.
    if (this.lost.aborted && !this.#closed.aborted) stream.end();
    else stream.cancel();
    if (failure !== undefined) throw AppError.from(failure, 'unavailable');
  }
}

/** Read anew after each await, where the compiler would remember the last answer. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
