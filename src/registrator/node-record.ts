/**
 * What the cluster knows of this node: `nodes/<node>`, which stays, and `alive/<node>`, which goes when the node
 * does. The first is written only when something has changed that somebody would act on; the second belongs to a
 * lease, which costs no writes while it is kept alive, and is granted anew when it was lost.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { AppError } from '../errors.js';
import { createBackoff } from '../lib/backoff.js';
import type { Log } from '../log.js';
import { keys } from '../state/keys.js';
import { records, type NodeRecord } from '../state/records.js';
import type { Entry, Lease, State } from '../state/state.js';

export interface NodeRecordOptions {
  state: State;
  /** What is true now. May throw: the record then stays as it is and this is tried again. */
  describe: () => Promise<NodeDescription>;
  log: Log;
  intervalMs: number;
  leaseMs?: number;
  /** At the end: whether containers use volumes here, and go on doing so without this process. */
  isInUse?: () => boolean;
}

/** Spelled out: Omit makes nothing of a type with an index signature. */
export type NodeDescription = Pick<
  NodeRecord,
  'id' | 'hostname' | 'address' | 'engineVersion' | 'pluginVersion' | 'pools' | 'labels'
>;

export interface NodeRecordKeeper {
  /** Looks now instead of at the next interval. Never throws; failures are logged and tried again. */
  refresh(): Promise<void>;
  /** Takes the node off the list of the living: at once, or after `lingerMs` while it is in use. */
  close(): Promise<void>;
}

const callTimeoutMs = 5_000;
const closeTimeoutMs = 2_000;
/** Longer than an upgrade of the plugin below running containers: nobody takes their volumes over meanwhile. */
const lingerMs = 300_000;
const freeBytesStep = 1024 ** 3;
const freeShareStep = 0.05;

export function createNodeRecord(options: NodeRecordOptions): NodeRecordKeeper {
  const keeper = new StateNodeRecord(options);
  keeper.start();
  return keeper;
}

class StateNodeRecord implements NodeRecordKeeper {
  readonly #options: NodeRecordOptions;
  readonly #closing = new AbortController();
  readonly #since = new Date().toISOString();
  readonly #backoff;
  #lease: Lease | null = null;
  #aliveRevision = 0;
  #failing = false;
  #rivalTold = false;
  /** Known once it was described: signs of life go on while the engine does not answer. */
  #node: string | null = null;
  #loop: Promise<void> = Promise.resolve();
  #refreshing: Promise<boolean> | null = null;

  constructor(options: NodeRecordOptions) {
    this.#options = options;
    this.#backoff = createBackoff({ minMs: 500, maxMs: Math.min(options.intervalMs, 5_000) });
  }

  start(): void {
    this.#loop = this.#run();
  }

  async refresh(): Promise<void> {
    // One that is under way may have looked before what this is about.
    await this.#refreshing;
    await this.#refreshOnce();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
    const ctx: Ctx = {
      log: this.#options.log,
      signal: AbortSignal.timeout(closeTimeoutMs),
      requestId: 'node',
    };
    // Not answered: the lease runs out by itself.
    await this.#leave(ctx).catch(() => undefined);
  }

  async #leave(ctx: Ctx): Promise<void> {
    const former = this.#lease;
    if (this.#options.isInUse?.() === true && this.#node !== null) {
      const entry = await this.#options.state.get(ctx, keys.alive(this.#node));
      if (entry?.modRevision === this.#aliveRevision) {
        this.#lease = null;
        await this.#announce(ctx, this.#node, entry, lingerMs);
      }
    }
    await former?.revoke(ctx);
  }

  async #run(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      const done = await this.#refreshOnce();
      const waitMs = done ? this.#options.intervalMs : this.#backoff.nextMs();
      const lost = this.#lease === null || this.#lease.lost.aborted ? [] : [this.#lease.lost];
      const signal = AbortSignal.any([this.#closing.signal, ...lost]);
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** One at a time: two that write the same key would only defeat each other. */
  #refreshOnce(): Promise<boolean> {
    this.#refreshing ??= this.#look().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #look(): Promise<boolean> {
    const { log } = this.#options;
    const ctx: Ctx = { log, signal: this.#closing.signal, requestId: 'node' };
    try {
      const described = await this.#describe(ctx);
      await this.#write(withDeadline(ctx, callTimeoutMs), described);
      await this.#live(ctx, described.id);
      if (this.#failing) log.info('the record of this node is kept again');
      this.#failing = false;
      this.#backoff.reset();
      return true;
    } catch (reason) {
      const err = AppError.from(reason);
      if (!this.#failing && !this.#closing.signal.aborted)
        log.warn({ err }, 'the record of this node cannot be kept; trying again');
      this.#failing = true;
      return false;
    }
  }

  async #describe(ctx: Ctx): Promise<NodeDescription> {
    try {
      const described = await this.#options.describe();
      this.#node = described.id;
      return described;
    } catch (reason) {
      if (this.#node !== null) await this.#live(ctx, this.#node);
      throw reason;
    }
  }

  async #write(ctx: Ctx, described: NodeDescription): Promise<void> {
    const key = keys.node(described.id);
    const entry = await this.#options.state.get(ctx, key);
    const known = entry === null ? null : records.node.decode(key, entry.value);
    if (known !== null && !changedMaterially(known, described)) return;
    const value = records.node.encode({ ...known, ...described, schema: 1 });
    const unchanged =
      entry === null ? { key, absent: true as const } : { key, modRevision: entry.modRevision };
    const result = await this.#options.state.transact(ctx, { if: [unchanged], then: [{ put: key, value }] });
    if (!result.ok)
      throw new AppError('conflict', `the record of node ${described.id} was changed meanwhile`);
  }

  async #live(ctx: Ctx, node: string): Promise<void> {
    const key = keys.alive(node);
    const limited = withDeadline(ctx, callTimeoutMs);
    const entry = await this.#options.state.get(limited, key);
    if (this.#lease !== null && !this.#lease.lost.aborted) {
      if (entry?.modRevision === this.#aliveRevision) return;
      if (entry !== null) {
        this.#tellOfRival(node);
        return;
      }
    }
    await this.#announce(limited, node, entry);
  }

  /** The key may still be there from before, under a lease that nobody keeps alive any more: it becomes ours. */
  async #announce(
    ctx: Ctx,
    node: string,
    entry: Entry | null,
    leaseMs = this.#options.leaseMs ?? 15_000,
  ): Promise<void> {
    const { state } = this.#options;
    if (this.#lease === null || this.#lease.lost.aborted) this.#lease = await state.lease(ctx, leaseMs);
    const key = keys.alive(node);
    const value = records.alive.encode({ schema: 1, node, since: this.#since });
    const result = await state.transact(ctx, {
      if: [entry === null ? { key, absent: true } : { key, modRevision: entry.modRevision }],
      then: [{ put: key, value, lease: this.#lease }],
    });
    if (!result.ok) throw new AppError('conflict', `the sign of life of node ${node} was changed meanwhile`);
    this.#aliveRevision = result.revision;
  }

  /** Two that overwrote each other would do so for ever. */
  #tellOfRival(node: string): void {
    if (this.#rivalTold) return;
    this.#rivalTold = true;
    this.#options.log.warn(
      { node },
      'another plugin says it is this node: give each host an own NODE_ID, or an engine ID of its own',
    );
  }
}

/** Free space moves all the time: only a move of 5 % or 1 GiB is worth a write to all who watch. */
export function changedMaterially(known: NodeDescription, now: NodeDescription): boolean {
  const facts = ({ id, hostname, address, engineVersion, pluginVersion, labels }: NodeDescription) => [
    ...[id, hostname, address, engineVersion, pluginVersion],
    { ...labels },
  ];
  if (!isDeepStrictEqual(facts(known), facts(now))) return true;
  const names = new Set([...Object.keys(known.pools), ...Object.keys(now.pools)]);
  return [...names].some((name) => {
    const before = known.pools[name];
    const after = now.pools[name];
    if (before?.sizeBytes !== after?.sizeBytes || before === undefined || after === undefined) return true;
    const moved = Math.abs(after.freeBytes - before.freeBytes);
    return moved >= freeBytesStep || moved > before.freeBytes * freeShareStep;
  });
}
