/**
 * The only door to the npm package etcd3. It is used for its protocol definitions and its channels; what it adds
 * on top has been measured to be wrong for us and is switched off or replaced here:
 *
 * - It retries writes and opens a circuit breaker that also blocks reads: the one policy is replaced by one that does
 *   nothing, the other by one that knows members that do not serve (etcd-hosts.ts). Retrying is ours, and knows the
 *   difference between a read and a write.
 * - It has no deadlines: each call gets one from gRPC, and a second by our own timer, because a call can also
 *   get stuck before gRPC sees it.
 * - Its password login leaks a channel per login, can hang for ever, and loops without a pause on an expired
 *   token: we fetch the token ourselves, add it to each call, and hide etcd's words for "expired" from it.
 * - It does not ask for a leader, so a member cut off from the majority would keep a watch open that never says
 *   anything: `hasleader` makes such a member end streams and refuse calls.
 *
 * A client is made at the first call, never before, so making a State neither waits nor throws. Sub-channels are
 * its own, so that throwing away a dead connection does not depend on who else holds it.
 */
import { Etcd3, type IOptions, type KVClient } from 'etcd3';
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { createBackoff } from '../lib/backoff.js';
import { createBudget, type Budget } from './budget.js';
import { classify, expiredToken, nameOf, type Target } from './etcd-errors.js';
import { EtcdHosts } from './etcd-hosts.js';

export interface EtcdOptions {
  /** http://host:port or https://host:port, one per member. */
  readonly endpoints: readonly string[];
  /** Also ask a member that follows no leader: what it tells of itself needs none. */
  readonly leaderless?: boolean;
  readonly tls?: {
    readonly ca: Buffer;
    readonly certificate?: Buffer;
    readonly key?: Buffer;
    /** Name the server's certificate must have, if not that of the endpoint. */
    readonly serverName?: string;
  };
  readonly auth?: { readonly username: string; readonly password: string };
}

export type CallOptions = NonNullable<Parameters<KVClient['range']>[1]>;
type Interceptor = NonNullable<CallOptions['interceptors']>[number];
type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

/** The rest of a budget is kept for a second try, perhaps at another member. */
const shareOfOneTry = 0.4;
const shortestTryMs = 500;
/** gRPC's own deadline comes first: it tells which member was silent. */
const LATE_MS = 100;
const LEAVE_MS = 2000;

export class EtcdClient {
  target: Target;
  #options: EtcdOptions;
  readonly #timeoutMs: number;
  #etcd: Etcd3 | undefined;
  #token: string | undefined;
  #login: Promise<string> | undefined;
  #closed = false;
  readonly #leaving = new Set<Etcd3>();

  constructor(options: EtcdOptions, timeoutMs: number) {
    this.#options = options;
    this.#timeoutMs = timeoutMs;
    this.target = {
      endpoints: options.endpoints,
      ...(options.auth ? { username: options.auth.username } : {}),
    };
  }

  get closed(): boolean {
    return this.#closed;
  }

  budget(ctx: Ctx): Budget {
    return createBudget(ctx, this.#timeoutMs);
  }

  /** One try, with whatever error it ends in: see `classify`. */
  async attempt<T>(budget: Budget, call: (etcd: Etcd3, options: CallOptions) => Promise<T>): Promise<T> {
    const ms = Math.max(shortestTryMs, budget.remainingMs() * shareOfOneTry);
    const sent = async () => {
      const etcd = await this.#ready();
      return call(etcd, { deadline: Date.now() + Math.min(ms, budget.remainingMs()) });
    };
    return budget.race(sent(), ms + LATE_MS);
  }

  /** For what may be carried out twice without harm: tries until it succeeds, is final, or the budget is spent. */
  async repeat<T>(
    budget: Budget,
    doing: string,
    call: (etcd: Etcd3, options: CallOptions) => Promise<T>,
  ): Promise<T> {
    const backoff = createBackoff({ minMs: 20, maxMs: 500 });
    let last: AppError | undefined;
    while (!budget.spent()) {
      try {
        return await this.attempt(budget, call);
      } catch (reason) {
        const { verdict, error } = this.failed(reason);
        if (verdict === 'final' || verdict === 'no_space') throw error;
        last = moreTelling(last, error);
        await budget.pause(backoff.nextMs());
      }
    }
    throw budget.failure(doing, last);
  }

  /** Opens a stream; it carries the login token of that moment. */
  async stream<S>(open: (etcd: Etcd3) => Promise<S>): Promise<S> {
    return open(await this.#ready());
  }

  /** Translates an error, and drops the login token if that is what it was about. */
  failed(reason: unknown): ReturnType<typeof classify> {
    const failure = classify(reason, this.target);
    if (failure.verdict === 'token') this.#token = undefined;
    return failure;
  }

  /** The members are others now. What is under way at the former ones has a while to end; then streams break, and come back. */
  moveTo(endpoints: readonly string[]): void {
    const now = [...endpoints].sort().join();
    if (this.#closed || now === [...this.#options.endpoints].sort().join()) return;
    this.#options = { ...this.#options, endpoints };
    this.target = { ...this.target, endpoints };
    this.#reconnect();
  }

  /** From now on with these certificates. */
  renew(tls: NonNullable<EtcdOptions['tls']>): void {
    this.#options = { ...this.#options, tls };
    this.#reconnect();
  }

  #reconnect(): void {
    const former = this.#etcd;
    this.#etcd = undefined;
    if (former === undefined) return;
    this.#leaving.add(former);
    setTimeout(() => {
      this.#leaving.delete(former);
      former.close();
    }, LEAVE_MS).unref();
  }

  close(): void {
    this.#closed = true;
    for (const etcd of [this.#etcd, ...this.#leaving]) etcd?.close();
  }

  async #ready(): Promise<Etcd3> {
    if (this.#closed) {
      throw new AppError('unavailable', `the connection to ${nameOf(this.target)} has been closed by us`);
    }
    this.#etcd ??= this.#connect();
    const { auth } = this.#options;
    if (auth && this.#token === undefined) {
      this.#login ??= this.#authenticate(this.#etcd, auth).finally(() => {
        this.#login = undefined;
      });
      await this.#login;
    }
    return this.#etcd;
  }

  async #authenticate(etcd: Etcd3, auth: { username: string; password: string }): Promise<string> {
    const deadline = Date.now() + Math.max(shortestTryMs, this.#timeoutMs * shareOfOneTry);
    const { token } = await etcd.auth.authenticate(
      { name: auth.username, password: auth.password },
      { deadline },
    );
    this.#token = token;
    return token;
  }

  #connect(): Etcd3 {
    const { endpoints, tls } = this.#options;
    const interceptors = [this.#interceptor()];
    const hosts = new EtcdHosts();
    try {
      return new Etcd3({
        hosts: endpoints.map((endpoint) => endpoint.replace(/\/+$/, '')),
        ...(tls ? { credentials: credentialsOf(tls) } : {}),
        grpcOptions: {
          ...channelOptions,
          ...(tls?.serverName === undefined ? {} : { 'grpc.ssl_target_name_override': tls.serverName }),
        },
        defaultCallOptions: { interceptors },
        faultHandling: { host: () => hosts.policy(), global: doNothing as Policy },
      });
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new AppError(
        'invalid_argument',
        `the settings for ${nameOf(this.target)} cannot be used (${why}): check the endpoints, and that CA, ` +
          'certificate and key are PEM files that belong together',
        { cause },
      );
    }
  }

  #interceptor(): Interceptor {
    return (options, nextCall) => {
      const call = nextCall(options);
      const start = call.start.bind(call);
      call.start = (metadata, listener) => {
        if (this.#options.leaderless !== true) metadata.set('hasleader', 'true');
        if (this.#token !== undefined) metadata.set('token', this.#token);
        start(metadata, {
          onReceiveMetadata: (received) => listener?.onReceiveMetadata?.(received),
          onReceiveMessage: (message) => listener?.onReceiveMessage?.(message),
          onReceiveStatus: (status) => listener?.onReceiveStatus?.(hideExpiry(status)),
        });
      };
      // gRPC calls it by its interface only; the class itself is not exported by etcd3.
      // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment
      return call as ReturnType<Interceptor>;
    };
  }
}

/** The last try is often cut short by the budget itself: what an earlier one learned says more. */
export function moreTelling(before: AppError | undefined, now: AppError): AppError {
  return before !== undefined && now.code === 'deadline_exceeded' ? before : now;
}

const channelOptions: NonNullable<IOptions['grpcOptions']> = {
  // Finds a connection that died without a word. etcd hangs up on pings more often than every 5 s.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
};

const neverAborted = new AbortController().signal;

/** Runs the call and nothing else. */
const doNothing: Omit<Policy, '_altReturn'> = {
  onSuccess: () => ({ dispose: () => undefined }),
  onFailure: () => ({ dispose: () => undefined }),
  execute: async <T>(call: (context: { signal: AbortSignal }) => PromiseLike<T> | T) =>
    call({ signal: neverAborted }),
};

function credentialsOf(tls: NonNullable<EtcdOptions['tls']>): NonNullable<IOptions['credentials']> {
  return {
    rootCertificate: tls.ca,
    ...(tls.key ? { privateKey: tls.key } : {}),
    ...(tls.certificate ? { certChain: tls.certificate } : {}),
  };
}

function hideExpiry<S extends { details: string }>(status: S): S {
  if (!status.details.includes('invalid auth token')) return status;
  return { ...status, details: expiredToken };
}
