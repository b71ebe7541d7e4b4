/**
 * Keeps the claims of one owner: what it wants of each key, whatever others want, do, or take away.
 *
 * Level-triggered: a key is looked at when its wish or anything seen of it has changed, and what has to be done is decided
 * anew each time (step.ts). Many keys go in one transaction; where one of them was not as it seemed, they are read and
 * written one by one. Nothing is remembered of what failed but that the key has to be looked at again.
 */
import { type Ctx, withDeadline } from '../../context.js';
import { AppError, hasCode } from '../../errors.js';
import { createBackoff } from '../../lib/backoff.js';
import { eachOf } from '../../lib/each-of.js';
import { sleep } from '../../lib/sleep.js';
import type { Log } from '../../log.js';
import type { State, Transaction } from '../../state/state.js';
import type { BackendStats, Farewell, RegistryBackend } from '../backends/backend.js';
import { createOwnerLeases, type OwnerLeases } from './leases.js';
import { type Seen, stepOf, type Wanted } from './step.js';
import { firstOf, isRefusal, join, type Prepared, SetAside, Shortage, writeTogether } from './together.js';
import { Troubles } from './troubles.js';
import { Wishes } from './wishes.js';
import { createRegistryView, readSeen, type RegistryView } from './view.js';

export interface ClaimKeeperOptions {
  readonly state: State;
  /** Unique in the cluster, and the same after a restart. */
  readonly owner: string;
  readonly log: Log;
  /** How long claims outlive a process that was killed. */
  readonly leaseMs?: number;
  readonly retryMinMs?: number;
}

const LEASE_MS = 30_000;
const CALL_MS = 5_000;
/** An engine gives the whole plugin ten seconds. */
const SETTLE_MS = 2_500;
const REVOKE_MS = 1_500;
/** Keys that are looked at together. */
const AT_ONCE = 120;
const SIDE_BY_SIDE = 8;
const TRIES = 5;
const MAX_RETRY_MS = 5_000;

export function createClaimKeeper(options: ClaimKeeperOptions): RegistryBackend {
  const keeper = new StateClaimKeeper(options);
  keeper.start();
  return keeper;
}

class StateClaimKeeper implements RegistryBackend {
  readonly #options: ClaimKeeperOptions;
  readonly #view: RegistryView;
  readonly #leases: OwnerLeases;
  readonly #wishes = new Wishes();
  readonly #dirty = new Set<string>();
  readonly #working = new Set<string>();
  /** What has been asked of etcd, and is not known yet. */
  readonly #unseen = new Set<string>();
  readonly #aside = new SetAside((again) => {
    this.#look(again);
  });
  readonly #troubles: Troubles;
  readonly #aborted = new AbortController();
  readonly #backoff;
  readonly #waiting: (() => void)[] = [];
  #closing = false;
  /** What the last batch failed with. */
  #failing: AppError | null = null;
  #writes = 0;
  #failures = 0;
  #wake: () => void = () => undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: ClaimKeeperOptions) {
    const { state, owner, log, leaseMs = LEASE_MS, retryMinMs = 200 } = options;
    this.#options = options;
    this.#view = createRegistryView(state, log);
    this.#troubles = new Troubles(log, owner);
    const onLost = () => {
      this.#look(this.#wishes.keys());
    };
    this.#leases = createOwnerLeases(state, { owner, ttlMs: leaseMs, onLost });
    this.#backoff = createBackoff({ minMs: retryMinMs, maxMs: MAX_RETRY_MS });
  }

  start(): void {
    this.#view.onChange((changed) => {
      this.#look([...changed, ...this.#unseen]);
      this.#unseen.clear();
      this.#settle();
    });
    this.#running = this.#run();
  }

  want(key: string, wanted: Wanted | null): void {
    if (this.#closing) return;
    this.#wishes.set(key, wanted);
    this.#look([key]);
  }

  complete(keep: (source: string) => boolean = () => false): void {
    const later = this.#wishes.complete(keep);
    this.#look([...this.#view.claimedBy(this.#options.owner), ...later]);
    // A policy may have had keys below names of objects that came and went.
    this.#view.followOnly([...this.#wishes.keys(), ...this.#dirty, ...this.#working, ...this.#unseen]);
  }

  #look(again: readonly string[]): void {
    for (const key of again) this.#dirty.add(key);
    this.#wake();
  }

  async settled(): Promise<void> {
    if (this.#pending === 0) return;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  get #pending(): number {
    // Before the first snapshot nobody knows what there is to withdraw.
    const unknown = this.#wishes.areAll && !this.#view.isKnown() ? 1 : 0;
    return this.#dirty.size + this.#working.size + this.#unseen.size + unknown;
  }

  stats(): BackendStats {
    const oldestMs = this.#leases.oldestMs();
    return {
      wanted: this.#wishes.size,
      pending: this.#pending,
      writes: this.#writes,
      failures: this.#failures,
      conflicts: this.#troubles.conflicts,
      foreign: this.#troubles.foreign,
      ...(oldestMs === null ? {} : { leaseAgeSeconds: oldestMs / 1000 }),
    };
  }

  async close(how: Farewell): Promise<void> {
    if (this.#closing) return;
    if (how === 'withdraw') {
      for (const key of this.#wishes.keys()) this.want(key, null);
      this.complete();
      await Promise.race([this.settled(), sleep(SETTLE_MS)]);
    }
    this.#closing = true;
    this.#wake();
    this.#aborted.abort();
    this.#aside.close();
    await this.#running;
    this.#view.close();
    if (how === 'withdraw')
      await this.#leases
        .revoke({ ...this.#ctx(), signal: AbortSignal.timeout(REVOKE_MS) })
        .catch(() => undefined);
  }

  #ctx(): Ctx {
    return { log: this.#options.log, signal: this.#aborted.signal, requestId: 'claims' };
  }

  async #run(): Promise<void> {
    while (await this.#somethingToDo()) {
      // A store without space takes away still: what has gone does not wait behind what comes.
      const isFull = hasCode(this.#failing, 'no_space');
      const batch = firstOf(this.#dirty, AT_ONCE, (key) => isFull && this.#wishes.of(key) !== null);
      for (const key of batch) {
        this.#dirty.delete(key);
        this.#working.add(key);
      }
      try {
        await this.#work(batch);
        if (this.#failing) this.#options.log.info('the claims of this node are kept again');
        this.#failing = null;
        this.#backoff.reset();
      } catch (reason) {
        this.#failed(reason);
        for (const key of batch) this.#dirty.add(key);
        await sleep(this.#backoff.nextMs(), this.#aborted.signal);
      }
      this.#working.clear();
      this.#settle();
    }
  }

  #settle(): void {
    if (this.#pending === 0) for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #failed(reason: unknown): void {
    this.#failures += 1;
    const err = AppError.from(reason);
    const isNew = this.#failing === null;
    this.#failing = err;
    if (!this.#closing && isNew)
      this.#options.log.warn({ err }, 'the claims of this node cannot be kept; trying again');
  }

  /** False at the end. */
  async #somethingToDo(): Promise<boolean> {
    if (this.#dirty.size === 0 && !this.#closing) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return !this.#closing;
  }

  async #work(batch: readonly string[]): Promise<void> {
    const ctx = withDeadline(this.#ctx(), CALL_MS);
    const prepared: Prepared[] = [];
    const shortage = new Shortage();
    for (const key of batch) {
      if (!this.#concerns(key)) continue;
      const seen = this.#view.seen(key);
      if (!seen) this.#unseen.add(key);
      const transaction = seen && (await shortage.spare(this.#prepare(ctx, key, seen)));
      if (transaction) prepared.push({ key, transaction });
    }
    await writeTogether(prepared, (together) => this.#write(ctx, together));
    shortage.end();
  }

  /** Own claims from before are let be until all that is wanted is known. */
  #concerns(key: string): boolean {
    if (this.#wishes.has(key)) return true;
    if (!this.#view.concerns(key, this.#options.owner)) return false;
    if (!this.#wishes.areAll) this.#wishes.later(key);
    return this.#wishes.areAll;
  }

  async #prepare(ctx: Ctx, key: string, seen: Seen): Promise<Transaction | null> {
    const wanted = this.#wishes.of(key);
    const own = seen.claims.find(({ owner }) => owner === this.#options.owner);
    if (!wanted && own && this.#wishes.keeps(key, own.source)) return null;
    const owner = await this.#leases.ownerOf(ctx, key, seen, {
      isWanted: wanted !== null,
      inUse: (leaseId) => this.#view.claimsUnder(leaseId),
    });
    const { transaction, isForeign } = stepOf(key, wanted, seen, owner);
    this.#troubles.look(key, seen, { wanted, isForeign });
    if (!wanted && !transaction) this.#wishes.carriedOut(key);
    return transaction;
  }

  async #write(ctx: Ctx, together: readonly Prepared[]): Promise<void> {
    const transaction = join(together);
    const result = await this.#options.state.transact(ctx, transaction).catch((reason: unknown) => {
      if (!isRefusal(reason)) throw reason;
      return { ok: false as const };
    });
    if (result.ok) {
      this.#writes += 1;
      this.#view.applied(
        transaction,
        result.revision,
        together.map(({ key }) => key),
      );
    } else {
      const shortage = new Shortage();
      await eachOf(together, SIDE_BY_SIDE, async ({ key }) => {
        await shortage.spare(this.#writeAlone(ctx, key)).catch((reason: unknown) => {
          if (!isRefusal(reason)) throw reason;
          // What etcd does not take holds up none of the others.
          this.#failures += 1;
          this.#troubles.refused(key, AppError.from(reason));
          this.#aside.add(key);
        });
      });
      shortage.end();
    }
  }

  async #writeAlone(ctx: Ctx, key: string): Promise<void> {
    const { state } = this.#options;
    for (let tries = 0; tries < TRIES; tries += 1) {
      if (tries > 0) await sleep(Math.random() * 20 * 2 ** tries, ctx.signal);
      const transaction = await this.#prepare(ctx, key, await readSeen(ctx, state, key));
      if (!transaction) return;
      const result = await state.transact(ctx, transaction);
      if (!result.ok) continue;
      this.#writes += 1;
      this.#view.applied(transaction, result.revision, [key]);
      return;
    }
    throw new AppError('conflict', `the claims of ${key} change all the time`);
  }
}
