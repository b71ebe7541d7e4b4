/**
 * Watches that never lose a change: one loop per watch, one gRPC stream for all of them.
 *
 * A loop lists the prefix at some revision R, hands that out as a snapshot, and follows from R + 1 on the shared
 * stream. Whatever goes wrong (stream broken, cancelled by etcd, compacted, a member without leader, silence where
 * the confirmation should be) has one answer: wait a little, list again, hand out a fresh snapshot. So there is
 * one way back, it is exercised at every disturbance, and it does not depend on how etcd, gRPC or etcd3 report a
 * fault; nor on revisions growing, which they do not when etcd was restored from a backup.
 *
 * Changes reach a listener grouped by revision, in order: what one transaction did arrives as one event. The
 * stream's own number for a watch is chosen by us, because etcd's confirmations come without any other mark of
 * which request they belong to.
 */
import type { IWatchResponse } from 'etcd3';
import { AppError } from '../errors.js';
import { createBackoff } from '../lib/backoff.js';
import { sleep } from '../lib/sleep.js';
import type { Log } from '../log.js';
import type { EtcdClient } from './etcd-client.js';
import { endOf, toEntry } from './etcd-codec.js';
import { EtcdWatchStream } from './etcd-watch-stream.js';
import type { Snapshot, Watch, WatchEvent, WatchListener } from './state.js';

type Change = Extract<WatchEvent, { type: 'changes' }>['changes'][number];

export interface WatchHub {
  watch(prefix: string, listener: WatchListener): Watch;
  close(): void;
}

interface HubOptions {
  readonly client: EtcdClient;
  readonly log: Log;
  /** Longest wait for etcd to confirm a watch. */
  readonly confirmTimeoutMs: number;
  readonly list: (prefix: string, signal: AbortSignal) => Promise<Snapshot>;
}

export function createWatchHub(options: HubOptions): WatchHub {
  const shared = new EtcdWatchStream(options.client);
  const open = new Set<AbortController>();
  return {
    watch(prefix, listener) {
      const controller = new AbortController();
      open.add(controller);
      const { signal } = controller;
      const emit = (event: WatchEvent) => {
        if (!signal.aborted) deliver(options.log, listener, event);
      };
      void followForEver(options, shared, { prefix, signal, emit });
      return {
        close() {
          open.delete(controller);
          controller.abort();
        },
      };
    },
    close() {
      for (const controller of open) controller.abort();
      open.clear();
      shared.end(new AppError('canceled', 'the watch was closed'));
    },
  };
}

interface Wanted {
  readonly prefix: string;
  readonly signal: AbortSignal;
  emit(event: WatchEvent): void;
}

async function followForEver(options: HubOptions, shared: EtcdWatchStream, wanted: Wanted): Promise<void> {
  const { prefix, signal } = wanted;
  const { client, log, confirmTimeoutMs } = options;
  const backoff = createBackoff({ minMs: 50, maxMs: 5_000 });
  // One warning per outage, not one per try.
  let told = false;
  while (!signal.aborted) {
    try {
      const snapshot = await options.list(prefix, signal);
      wanted.emit({ type: 'snapshot', snapshot });
      const onConfirmed = () => {
        backoff.reset();
        told = false;
      };
      const startRevision = snapshot.revision + 1;
      await followFrom(shared, { ...wanted, startRevision, confirmTimeoutMs, onConfirmed });
    } catch (reason) {
      const { error } = client.failed(reason);
      if (isAborted(signal)) return;
      const waitMs = backoff.nextMs();
      log[told ? 'debug' : 'warn']({ prefix, err: error, waitMs }, 'watch interrupted, listing again');
      told = true;
      await sleep(waitMs, signal);
    }
  }
}

interface Following extends Wanted {
  readonly startRevision: number;
  readonly confirmTimeoutMs: number;
  onConfirmed(): void;
}

/** Rejects when the watch has to be set up anew; resolves when the signal aborts. */
async function followFrom(shared: EtcdWatchStream, following: Following): Promise<void> {
  const { signal } = following;
  await new Promise<void>((resolve, reject) => {
    const finish = (reason?: unknown) => {
      clearTimeout(silence);
      signal.removeEventListener('abort', stop);
      subscription.remove();
      if (reason === undefined) resolve();
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- classified by the caller
      else reject(reason);
    };
    const stop = () => {
      finish();
    };
    const subscription = shared.add(
      {
        key: Buffer.from(following.prefix),
        range_end: endOf(following.prefix),
        start_revision: following.startRevision,
      },
      {
        onEnd: finish,
        onResponse(response) {
          if (response.created) {
            clearTimeout(silence);
            following.onConfirmed();
          }
          for (const event of toChanges(response)) following.emit(event);
        },
      },
    );
    const silence = setTimeout(() => {
      const reason = new AppError('deadline_exceeded', 'etcd did not confirm a watch in time');
      finish(reason);
      shared.end(reason);
    }, following.confirmTimeoutMs);
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
  });
}

/** One event per revision, in order. */
function* toChanges(response: IWatchResponse): Generator<WatchEvent> {
  let changes: Change[] = [];
  let revision = 0;
  for (const { type, kv } of response.events) {
    const at = Number(kv.mod_revision);
    if (at !== revision && changes.length > 0) {
      yield { type: 'changes', revision, changes };
      changes = [];
    }
    revision = at;
    changes.push(
      type.toUpperCase() === 'DELETE'
        ? { type: 'delete', key: kv.key.toString() }
        : { type: 'put', entry: toEntry(kv) },
    );
  }
  if (changes.length > 0) yield { type: 'changes', revision, changes };
}

function deliver(log: Log, listener: WatchListener, event: WatchEvent): void {
  try {
    listener(event);
  } catch (err) {
    log.error({ err }, 'a watch listener threw, which is a defect');
  }
}

/** Read anew after each await, where the compiler would remember the last answer. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
