/**
 * Shared state that must still be the one it was.
 *
 * An etcd that has lost its data, or another one under the old address, says of every volume, and says it positively, that
 * it does not exist. Docker then forgets names, labels and references, and makes volumes of its own under those names. So
 * while this host knows volumes, nothing is believed and nothing is written before the record of the cluster is found,
 * with the identity that this host knows. What is known here goes on, as while etcd is away.
 */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import type { Log } from '../log.js';
import { keys } from './keys.js';
import { records } from './records.js';
import type { Entry, State, Watch, WatchListener } from './state.js';

export interface KnownCluster {
  /** The cluster's record as it was seen last; null when none ever was. */
  readonly record: Entry | null;
  readonly countVolumes: () => number;
}

export interface SameClusterOptions {
  readonly known: () => KnownCluster;
  readonly log: Log;
  /** From one look at a state that is not the same to the next. */
  readonly retryMs?: number;
}

const RETRY_MS = 2000;

export function sameCluster(state: State, options: SameClusterOptions): State {
  return {
    async get(ctx, key) {
      const entry = await state.get(ctx, key);
      if (entry === null) await requireSame(ctx, state, options.known());
      return entry;
    },
    async range(ctx, prefix) {
      const snapshot = await state.range(ctx, prefix);
      await requireSame(ctx, state, options.known());
      return snapshot;
    },
    async transact(ctx, transaction) {
      const { record } = options.known();
      if (record === null) return state.transact(ctx, transaction);
      const same = { key: keys.cluster, createRevision: record.createRevision };
      const result = await state.transact(ctx, { ...transaction, if: [same, ...transaction.if] });
      if (result.ok || (await requireSame(ctx, state, options.known()))) return result;
      return state.transact(ctx, transaction);
    },
    watch: (prefix, listener) => watchSame(state, prefix, listener, options),
    lease: (ctx, ttlMs) => state.lease(ctx, ttlMs),
    close: () => state.close(),
  };
}

/** False when it is another, but nothing would be lost by that. @throws `conflict` with what to do otherwise. */
async function requireSame(
  ctx: Ctx,
  state: Pick<State, 'get'>,
  { record, countVolumes }: KnownCluster,
): Promise<boolean> {
  if (record === null) return true;
  const found = await state.get(ctx, keys.cluster);
  const expected = identityOf(record);
  if (found !== null && identityOf(found) === expected) return true;
  const volumes = countVolumes();
  if (volumes === 0) return false;
  const what = found === null ? 'has no record of the cluster' : `is that of cluster ${identityOf(found)}`;
  throw new AppError(
    'conflict',
    `the etcd that answers ${what}, while this host knows ${String(volumes)} volume(s) of cluster ${expected}: it has ` +
      'lost its data, or is another one. Restore it, or correct the settings; nothing is forgotten or made meanwhile. To ' +
      'begin anew without these volumes, remove /var/lib/openebs/cache while the plugin is disabled',
  );
}

function identityOf({ key, value }: Entry): string {
  return records.cluster.decode(key, value).id;
}

/** As State's, but a snapshot of a state that is not the same is thrown away, and taken anew until it is. */
function watchSame(
  state: State,
  prefix: string,
  listener: WatchListener,
  options: SameClusterOptions,
): Watch {
  const watch = new SameClusterWatch(state, prefix, listener, options);
  watch.open();
  return watch;
}

class SameClusterWatch implements Watch {
  readonly #state: State;
  readonly #prefix: string;
  readonly #listener: WatchListener;
  readonly #options: SameClusterOptions;
  readonly #closed = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #watch: Watch | undefined;
  /** Grows with each try: what an earlier one still tells does not count. */
  #tries = 0;

  constructor(state: State, prefix: string, listener: WatchListener, options: SameClusterOptions) {
    this.#state = state;
    this.#prefix = prefix;
    this.#listener = listener;
    this.#options = options;
  }

  open(): void {
    const mine = (this.#tries += 1);
    // Events are told in their order, each when what was before it has been judged.
    let told = Promise.resolve();
    this.#watch = this.#state.watch(this.#prefix, (event) => {
      told = told.then(async () => {
        if (event.type === 'snapshot' && this.#tries === mine) await this.#judge();
        if (this.#tries === mine) this.#listener(event);
      });
      // A listener that throws harms itself only.
      told = told.catch(() => undefined);
    });
  }

  close(): void {
    this.#tries += 1;
    this.#closed.abort();
    clearTimeout(this.#timer);
    this.#watch?.close();
  }

  async #judge(): Promise<void> {
    const { log, known, retryMs = RETRY_MS } = this.#options;
    try {
      await requireSame({ log, signal: this.#closed.signal, requestId: 'watch' }, this.#state, known());
    } catch (err) {
      if (this.#closed.signal.aborted) return;
      log.warn({ err, prefix: this.#prefix }, 'what shared state says is not believed');
      this.#tries += 1;
      this.#watch?.close();
      this.#timer = setTimeout(() => {
        this.open();
      }, retryMs).unref();
    }
  }
}
