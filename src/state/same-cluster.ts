/**
 * Shared state that must still be the one it was.
 *
 * An etcd that has lost its data, or another one under the old address, says of every volume, and says it positively, that
 * it does not exist. Docker then forgets names, labels and references, and makes volumes of its own under those names. So
 * while this host knows volumes, what is read, listed or told as deleted is believed only with the record of the cluster
 * beside it, with the identity that this host knows; and a transaction compares that record. What is known here goes on,
 * as while etcd is away. A host that knows no volume takes any.
 *
 * The record alone may have been deleted by somebody: as long as a volume is still there as it was, it is put back.
 */
import type { Ctx } from '../context.js';
import { AppError, hasCode } from '../errors.js';
import type { Log } from '../log.js';
import { keys } from './keys.js';
import type { Entry, State, Transaction, TransactResult, Watch, WatchEvent, WatchListener } from './state.js';

/** What this host knows from its replica. */
export interface KnownCluster {
  /** The cluster's record; null when it was never seen. */
  record(): Entry | null;
  volumes(): readonly Entry[];
  /** Another cluster is taken: its record replaces this one. */
  forget(): void;
}

export interface SameClusterOptions {
  readonly known: KnownCluster;
  readonly log: Log;
  /** What the state is called in errors. */
  readonly called?: string;
  /** From one look at a state that is not the same to the next. */
  readonly retryMs?: number;
}

const RETRY_MS = 2000;

export function sameCluster(state: State, options: SameClusterOptions): State {
  const judge = new Judge(state, options);
  return {
    async get(ctx, key) {
      await judge.look(ctx);
      const entry = await state.get(ctx, key);
      // With the record there before a "no" and after it, it was there all the while.
      if (entry === null) await judge.look(ctx);
      return entry;
    },
    async range(ctx, prefix) {
      await judge.look(ctx);
      const snapshot = await state.range(ctx, prefix);
      await judge.look(ctx);
      return snapshot;
    },
    transact: (ctx, transaction) => judge.transact(ctx, transaction),
    watch(prefix, listener) {
      const watch = new JudgedWatch({ state, judge, prefix, listener, ...options });
      watch.open();
      return watch;
    },
    lease: (ctx, ttlMs, id) => state.lease(ctx, ttlMs, id),
    close: () => state.close(),
  };
}

class Judge {
  readonly #state: State;
  readonly #known: KnownCluster;
  readonly #log: Log;
  readonly #called: string;
  /** As it was found last; what the replica knows of it may be older, or gone. */
  #found: Entry | null = null;
  #told = '';

  constructor(state: State, { known, log, called = 'the etcd that answers' }: SameClusterOptions) {
    this.#state = state;
    this.#known = known;
    this.#log = log;
    this.#called = called;
  }

  /** @throws `conflict` when it is another, with what to do. */
  async look(ctx: Ctx): Promise<void> {
    // Before the first listing of a host that has no cache, there is nothing to compare with.
    if (this.#expected() === null) return;
    const found = await this.#state.get(ctx, keys.cluster);
    // Read anew: another look may have taken another cluster meanwhile.
    const expected = this.#expected();
    const id = found && idOf(found);
    if (expected === null || (found !== null && (id === null || id === expected.id))) {
      this.#found = found;
      this.#told = '';
      return;
    }
    const volumes = this.#known.volumes();
    if (volumes.length === 0) {
      this.#known.forget();
      this.#found = found;
      return;
    }
    if (found === null && (await this.#putBack(ctx, expected.record, volumes))) return;
    throw this.#another(found, expected.id, volumes.length);
  }

  async transact(ctx: Ctx, transaction: Transaction): Promise<TransactResult> {
    const record = this.#found ?? this.#known.record();
    if (record === null) return this.#state.transact(ctx, transaction);
    const result = await this.#send(ctx, transaction, record);
    if (result.ok) return result;
    await this.look(ctx);
    // It is the same, written anew; or another, which this host may take.
    if (this.#found?.value === record.value) return result;
    return this.#found === null
      ? this.#state.transact(ctx, transaction)
      : this.#send(ctx, transaction, this.#found);
  }

  /** Each reason once, until all is well again. */
  tell(err: unknown): void {
    const text = AppError.from(err).message;
    if (!hasCode(err, 'conflict') || text === this.#told) return;
    this.#told = text;
    this.#log.warn({ err }, 'what shared state says is not believed');
  }

  #expected(): { readonly record: Entry; readonly id: string } | null {
    const record = this.#found ?? this.#known.record();
    const id = record && idOf(record);
    return record && id !== null ? { record, id } : null;
  }

  #send(ctx: Ctx, transaction: Transaction, { value }: Entry): Promise<TransactResult> {
    const same = { key: keys.cluster, value };
    return this.#state.transact(ctx, { ...transaction, if: [same, ...transaction.if] });
  }

  async #putBack(ctx: Ctx, { value }: Entry, volumes: readonly Entry[]): Promise<boolean> {
    const known = new Map(volumes.map((volume) => [volume.key, volume.createRevision]));
    const { entries } = await this.#state.range(ctx, keys.volumes);
    if (!entries.some(({ key, createRevision }) => known.get(key) === createRevision)) return false;
    await this.#state.transact(ctx, {
      if: [{ key: keys.cluster, absent: true }],
      then: [{ put: keys.cluster, value, common: true }],
    });
    this.#log.warn('the record of the cluster had been deleted: put back');
    this.#found = await this.#state.get(ctx, keys.cluster);
    return this.#found !== null;
  }

  #another(found: Entry | null, expected: string, volumes: number): AppError {
    const what =
      found === null ? 'has no record of the cluster' : `is that of cluster ${idOf(found) ?? 'unknown'}`;
    return new AppError(
      'conflict',
      `${this.#called} ${what}, while this host knows ${String(volumes)} volume(s) of cluster ${expected}: it ` +
        'has lost its data, or is another one. Restore it, or correct the settings; nothing is forgotten or made ' +
        'meanwhile. To begin anew without these volumes, remove /var/lib/openebs/cache while the plugin is disabled',
    );
  }
}

/** Whatever version wrote it; null for one that cannot be read, which tells nothing. */
function idOf({ value }: Entry): string | null {
  try {
    const { id } = JSON.parse(value) as { id?: unknown };
    return typeof id === 'string' ? id : null;
  } catch {
    return null;
  }
}

interface JudgedWatchOptions extends SameClusterOptions {
  readonly state: State;
  readonly judge: Judge;
  readonly prefix: string;
  readonly listener: WatchListener;
}

/** As State's, but what a state tells that is not the same is thrown away, and a snapshot taken anew until it is. */
class JudgedWatch implements Watch {
  readonly #options: JudgedWatchOptions;
  readonly #closed = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #watch: Watch | undefined;
  /** Grows with each try: what an earlier one still tells does not count. */
  #tries = 0;

  constructor(options: JudgedWatchOptions) {
    this.#options = options;
  }

  open(): void {
    const mine = (this.#tries += 1);
    // Before and after a snapshot: what is missing in it was not missing for a moment only.
    void this.#isSame().then((isSame) => {
      if (this.#tries === mine && isSame) this.#follow(mine);
    });
  }

  close(): void {
    this.#tries += 1;
    this.#closed.abort();
    clearTimeout(this.#timer);
    this.#watch?.close();
  }

  #follow(mine: number): void {
    const { state, prefix, listener, log } = this.#options;
    // Events are told in their order, each when what was before it has been judged.
    let told = Promise.resolve();
    this.#watch = state.watch(prefix, (event) => {
      told = told
        .then(async () => {
          if (this.#tries !== mine || (isDoubtful(event) && !(await this.#isSame()))) return;
          listener(event);
        })
        .catch((err: unknown) => {
          log.error({ err, prefix }, 'a watch listener failed');
        });
    });
  }

  /** If it is not, all is begun again after a while. */
  async #isSame(): Promise<boolean> {
    const { judge, log, retryMs = RETRY_MS } = this.#options;
    const mine = this.#tries;
    try {
      await judge.look({ log, signal: this.#closed.signal, requestId: 'watch' });
      return this.#tries === mine;
    } catch (err) {
      if (this.#tries !== mine) return false;
      judge.tell(err);
      this.#tries += 1;
      this.#watch?.close();
      this.#timer = setTimeout(() => {
        this.open();
      }, retryMs).unref();
      return false;
    }
  }
}

/** What takes something away from what is known. */
function isDoubtful(event: WatchEvent): boolean {
  return event.type === 'snapshot' || event.changes.some(({ type }) => type === 'delete');
}
