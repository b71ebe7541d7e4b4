/**
 * All objects of this engine, kept current.
 *
 * An event is a hint that an object may have changed: it is inspected, and what the engine says then counts. Hints of one
 * object that come close together are one; no two inspections of an object run at once, so what is told of it is in order.
 * Where events may be missing (docker/events.ts tells), and every few minutes, all is listed: what is new is inspected,
 * what is gone is told, the rest is looked at again. Only what has changed is passed on.
 *
 * An object that the engine cannot inspect, because a driver hangs say, is tried again by itself, ever more rarely: it holds
 * up none of the others.
 *
 * Of each object its digest is kept, not itself: a thousand inspections are tens of megabytes.
 */
import { createHash } from 'node:crypto';
import type { Ctx } from '../../context.js';
import type { EventStream, StreamItem } from '../../docker/event-stream.js';
import { type EngineObjects, type Inspected, type ObjectKind, objectKinds } from '../../docker/objects.js';
import { sleep } from '../../lib/sleep.js';
import type { Log } from '../../log.js';
import { affectedBy } from './affected.js';
import { Attempts } from './attempts.js';
import { FirstLook } from './first-look.js';
import { type Hint, Hints, keyOf } from './hints.js';
import { PassersBy } from './passers-by.js';
import { observerDefaults, type ObserverLimits, type ObserverStats } from './limits.js';
import { stablePart } from './stable.js';
import { StoppingContainers } from './stopping.js';

export interface ObservedObjectsOptions {
  readonly stream: Pick<EventStream, 'subscribe'>;
  readonly objects: EngineObjects;
  readonly log: Log;
  /** Told in order for one object; null: it is gone. What it throws is tried again. */
  readonly onChange: (kind: ObjectKind, id: string, object: Inspected | null) => Promise<void>;
  readonly limits?: Partial<ObserverLimits>;
}

export interface ObservedObjects {
  /** Something of this object may have changed of which no event tells. */
  lookAt(kind: ObjectKind, id: string): void;
  /** Whether what there is of it is not known: it, or its kind, cannot be looked at. */
  isUnknown(kind: ObjectKind, id: string): boolean;
  /** Passes on all objects again, changed or not: for a listener that reads them in another way now. */
  retell(): void;
  stats(): ObserverStats;
  /** Resolves when all that was there at the start has been passed on; what cannot be inspected is not waited for. */
  readonly complete: Promise<void>;
  close(): Promise<void>;
}

/** A driver that hangs, say, does not keep what others left behind in the registry for ever. */
const GIVE_UP_AFTER = 3;

export function createObservedObjects(options: ObservedObjectsOptions): ObservedObjects {
  const observed = new InspectedObjects(options);
  observed.start();
  return observed;
}

interface Known {
  readonly kind: ObjectKind;
  readonly id: string;
  readonly digest: string;
}

class InspectedObjects implements ObservedObjects {
  readonly #options: ObservedObjectsOptions;
  readonly #limits: ObserverLimits;
  readonly #known = new Map<string, Known>();
  readonly #hints = new Hints();
  readonly #passersBy: PassersBy;
  readonly #toList = new Set<ObjectKind>();
  readonly #unlisted = new Set<ObjectKind>(objectKinds);
  readonly #closing = new AbortController();
  readonly #first = new FirstLook();
  readonly #attempts: Attempts;
  readonly #stopping = new StoppingContainers((id) => {
    this.#hint('container', id);
  });
  #retells = 0;
  #subscription: { close(): void } | null = null;
  #timer: NodeJS.Timeout | undefined;
  #workers: Promise<unknown> = Promise.resolve();
  #wakes: (() => void)[] = [];
  #counts = { inspections: 0, changes: 0, reconciles: 0 };

  constructor(options: ObservedObjectsOptions) {
    this.#options = options;
    this.#limits = { ...observerDefaults, ...options.limits };
    const { objects, log } = options;
    const { signal } = this.#closing;
    this.#attempts = new Attempts({ ...this.#limits, log, signal });
    this.#passersBy = new PassersBy({
      objects,
      found: (kind, id) => {
        this.#hint(kind, id);
      },
      unsure: (kind) => {
        this.#list([kind]);
      },
      log,
      signal,
      afterMs: this.#limits.passersByMs,
    });
  }

  get complete(): Promise<void> {
    return this.#first.over;
  }

  start(): void {
    this.#subscription = this.#options.stream.subscribe((items) => {
      for (const item of items) this.#hear(item);
    });
    this.#timer = setInterval(() => {
      this.#list(objectKinds);
    }, this.#limits.reconcileEveryMs).unref();
    const workers = Array.from({ length: this.#limits.sideBySide }, () => this.#work());
    this.#workers = Promise.all([this.#listAll(), ...workers]);
  }

  lookAt(kind: ObjectKind, id: string): void {
    this.#hint(kind, id);
  }

  isUnknown(kind: ObjectKind, id: string): boolean {
    return this.#unlisted.has(kind) || this.#attempts.failedInARow(keyOf(kind, id)) > 0;
  }

  retell(): void {
    this.#retells += 1;
    for (const [key, known] of this.#known) this.#known.set(key, { ...known, digest: '' });
    this.#list(objectKinds);
  }

  stats(): ObserverStats {
    const known: Partial<Record<ObjectKind, number>> = {};
    for (const { kind } of this.#known.values()) known[kind] = (known[kind] ?? 0) + 1;
    return {
      known,
      pending: this.#hints.size + this.#passersBy.size,
      ...this.#counts,
      failures: this.#attempts.failures,
    };
  }

  async close(): Promise<void> {
    this.#subscription?.close();
    clearInterval(this.#timer);
    this.#stopping.close();
    this.#attempts.close();
    this.#passersBy.close();
    this.#closing.abort();
    this.#wake();
    await this.#workers;
  }

  #hear(item: StreamItem): void {
    if (item.kind === 'gap') {
      this.#list(objectKinds);
      return;
    }
    this.#stopping.hear(item.event);
    for (const { kind, id, gone } of affectedBy(item.event)) {
      if (id === null) this.#list([kind]);
      else if (!gone || !this.#hasPassedBy(kind, id)) this.#hint(kind, id);
    }
  }

  /** Whether it is said to be gone before anything was told of it. */
  #hasPassedBy(kind: ObjectKind, id: string): boolean {
    const key = keyOf(kind, id);
    // What could not be inspected is unknown until an inspection succeeds, be it with nothing.
    if (this.#known.has(key) || this.#attempts.failedInARow(key) > 0 || !this.#hints.drop(key)) return false;
    this.#first.done(key);
    this.#passersBy.add(kind, id);
    return true;
  }

  #list(kinds: readonly ObjectKind[]): void {
    for (const kind of kinds) this.#toList.add(kind);
    this.#wake();
  }

  #hint(kind: ObjectKind, id: string): void {
    if (this.#hints.add(kind, id)) this.#wake();
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake();
  }

  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  async #waitForMore(): Promise<void> {
    if (this.#isClosing()) return;
    await new Promise<void>((resolve) => this.#wakes.push(resolve));
  }

  async #listAll(): Promise<void> {
    while (!this.#isClosing()) {
      const [kind] = this.#toList;
      if (kind === undefined) {
        await this.#waitForMore();
        continue;
      }
      this.#toList.delete(kind);
      await this.#attempts.attempt(
        listOf(kind),
        (ctx) => this.#listOne(ctx, kind),
        () => {
          this.#list([kind]);
        },
      );
      this.#whenListed();
    }
  }

  async #listOne(ctx: Ctx, kind: ObjectKind): Promise<void> {
    const there = new Set(await this.#options.objects.list(ctx, kind));
    for (const id of there) this.#hint(kind, id);
    for (const known of this.#known.values()) if (known.kind === kind) this.#hint(kind, known.id);
    this.#unlisted.delete(kind);
    if (this.#toList.size === 0) this.#counts.reconciles += 1;
  }

  /** Kinds that the engine cannot list, as one of their drivers hangs, are not waited for either. */
  #whenListed(): void {
    const left = [...this.#unlisted].filter(
      (kind) => this.#attempts.failedInARow(listOf(kind)) < GIVE_UP_AFTER,
    );
    if (left.length > 0 || this.#isClosing()) return;
    this.#first.listed([...this.#hints.keys, ...this.#failing()]);
  }

  /** Objects that wait for another try. */
  #failing(): string[] {
    const lists = new Set(objectKinds.map(listOf));
    return this.#attempts.failing.filter((what) => !lists.has(what));
  }

  /** Takes the oldest hint of an object that nobody works on. */
  async #work(): Promise<void> {
    while (!this.#isClosing()) {
      const hint = this.#hints.take();
      if (!hint) {
        await this.#waitForMore();
        continue;
      }
      const waitMs = hint.since + this.#limits.debounceMs - performance.now();
      if (waitMs > 0) await sleep(waitMs, this.#closing.signal);
      await this.#handle(hint);
    }
  }

  async #handle(hint: Hint): Promise<void> {
    const { key } = hint;
    if (this.#hints.begin(hint))
      await this.#attempts.attempt(
        key,
        (ctx) => this.#look(ctx, hint),
        () => {
          this.#hint(hint.kind, hint.id);
        },
      );
    const another = this.#hints.end(hint);
    if (this.#isClosing()) return;
    const failures = this.#attempts.failedInARow(key);
    if (failures === 0 || failures >= GIVE_UP_AFTER) this.#first.done(key);
    if (another) this.#wake();
  }

  async #look(ctx: Ctx, { key, kind, id }: Hint): Promise<void> {
    this.#counts.inspections += 1;
    const inspected = await this.#options.objects.inspect(ctx, kind, id);
    if (inspected === null) {
      if (!this.#known.has(key)) return;
      await this.#options.onChange(kind, id, null);
      this.#known.delete(key);
    } else {
      const marked = kind === 'container' ? this.#stopping.mark(id, inspected) : inspected;
      const object = stablePart(kind, marked);
      const digest = createHash('sha1').update(JSON.stringify(object)).digest('base64');
      if (this.#known.get(key)?.digest === digest) return;
      const retells = this.#retells;
      // Also if the listener fails: it may have taken a part of it.
      this.#known.set(key, { kind, id, digest: '' });
      await this.#options.onChange(kind, id, object);
      // The listener may have begun to read in another way while it had this one.
      this.#known.set(key, { kind, id, digest: retells === this.#retells ? digest : '' });
    }
    this.#counts.changes += 1;
  }
}

function listOf(kind: ObjectKind): string {
  return `list every ${kind}`;
}
