import type { Ctx } from '../context.js';
import type { Log } from '../log.js';
import { EtcdClient, type EtcdOptions } from './etcd-client.js';
import { endOf, toEntry } from './etcd-codec.js';
import { grantLease } from './etcd-lease.js';
import { createEtcdMembers } from './etcd-members.js';
import { transact } from './etcd-transact.js';
import { createWatchHub } from './etcd-watch.js';
import type { MemberCare, Members } from './members.js';
import type { Entry, Snapshot, State } from './state.js';
import { checkTransaction } from './transaction.js';

export interface EtcdStateOptions extends EtcdOptions {
  readonly log: Log;
  /** What one call may take in all, tries and read-backs included; the caller's signal can only shorten it. */
  readonly callTimeoutMs?: number;
}

/** The same etcd also tells of its members. */
export interface EtcdState extends State {
  readonly members: Members & MemberCare;
  /** Its members are reached there from now on. */
  moveTo(endpoints: readonly string[]): void;
  /** Connects with these certificates from now on. */
  renew(tls: NonNullable<EtcdOptions['tls']>): void;
}

const CALL_TIMEOUT_MS = 5_000;
const STATUS_TIMEOUT_MS = 2_000;
/** Of which one try takes 40 %: four minutes. */
const SLOW_TIMEOUT_MS = 600_000;
const MOST_SINGLES = 32;

/**
 * Shared state in etcd. Making it neither connects nor throws: unusable settings and an etcd that is away show at
 * the first call, as an AppError that names the endpoints.
 */
export function createEtcdState(options: EtcdStateOptions): EtcdState {
  const callTimeoutMs = options.callTimeoutMs ?? CALL_TIMEOUT_MS;
  const client = new EtcdClient(options, callTimeoutMs);
  const singles = createSingles(options);
  const closed = new AbortController();
  const hub = createWatchHub({
    client,
    log: options.log,
    confirmTimeoutMs: callTimeoutMs,
    list: (prefix, signal) => range(client, { log: options.log, signal, requestId: 'watch' }, prefix),
  });
  return {
    get: (ctx, key) => get(client, ctx, key),
    range: (ctx, prefix) => range(client, ctx, prefix),
    async transact(ctx, transaction) {
      checkTransaction(transaction);
      return transact(client, ctx, transaction);
    },
    watch: (prefix, listener) => hub.watch(prefix, listener),
    lease: (ctx, ttlMs, id) =>
      grantLease(client, ctx, { ttlMs, ...(id && { id }), log: options.log, closed: closed.signal }),
    members: createEtcdMembers({
      client,
      single: (url) => singles.of(url, STATUS_TIMEOUT_MS),
      slow: (url) => singles.of(url, SLOW_TIMEOUT_MS),
    }),
    renew(tls) {
      client.renew(tls);
      singles.renew(tls);
    },
    moveTo(endpoints) {
      client.moveTo(endpoints);
    },
    close() {
      closed.abort();
      hub.close();
      client.close();
      singles.close();
      return Promise.resolve();
    },
  };
}

/** Connections to single members, kept: each is asked every few seconds. */
function createSingles(options: EtcdOptions) {
  const clients = new Map<string, EtcdClient>();
  let { tls } = options;
  const close = () => {
    for (const client of clients.values()) client.close();
    clients.clear();
  };
  return {
    close,
    renew(renewed: NonNullable<EtcdOptions['tls']>) {
      tls = renewed;
      close();
    },
    of(url: string, timeoutMs: number): EtcdClient {
      const key = `${String(timeoutMs)} ${url}`;
      const found = clients.get(key);
      if (found) return found;
      // Members come and go: connections to those that went are not kept for ever.
      if (clients.size >= MOST_SINGLES) close();
      const made = new EtcdClient(
        { ...options, ...(tls && { tls }), endpoints: [url], leaderless: true },
        timeoutMs,
      );
      clients.set(key, made);
      return made;
    },
  };
}

async function get(client: EtcdClient, ctx: Ctx, key: string): Promise<Entry | null> {
  const request = { key: Buffer.from(key) };
  const answer = await client.repeat(client.budget(ctx), `reading ${key}`, (etcd, options) =>
    etcd.kv.range(request, options),
  );
  const [kv] = answer.kvs;
  return kv === undefined ? null : toEntry(kv);
}

async function range(client: EtcdClient, ctx: Ctx, prefix: string): Promise<Snapshot> {
  const request = { key: Buffer.from(prefix), range_end: endOf(prefix) };
  const answer = await client.repeat(client.budget(ctx), `listing ${prefix}`, (etcd, options) =>
    etcd.kv.range(request, options),
  );
  return { entries: answer.kvs.map(toEntry), revision: Number(answer.header.revision) };
}
