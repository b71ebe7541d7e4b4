import type { Ctx } from '../context.js';
import type { Log } from '../log.js';
import { EtcdClient, type EtcdOptions } from './etcd-client.js';
import { endOf, toEntry } from './etcd-codec.js';
import { grantLease } from './etcd-lease.js';
import { transact } from './etcd-transact.js';
import { createWatchHub } from './etcd-watch.js';
import type { Entry, Snapshot, State } from './state.js';
import { checkTransaction } from './transaction.js';

export interface EtcdStateOptions extends EtcdOptions {
  readonly log: Log;
  /** What one call may take in all, tries and read-backs included; the caller's signal can only shorten it. */
  readonly callTimeoutMs?: number;
}

/**
 * Shared state in etcd. Making it neither connects nor throws: unusable settings and an etcd that is away show at
 * the first call, as an AppError that names the endpoints.
 */
export function createEtcdState(options: EtcdStateOptions): State {
  const callTimeoutMs = options.callTimeoutMs ?? 5_000;
  const client = new EtcdClient(options, callTimeoutMs);
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
    close() {
      closed.abort();
      hub.close();
      client.close();
      return Promise.resolve();
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
