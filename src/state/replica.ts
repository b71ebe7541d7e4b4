/**
 * What this host knows of shared state: kept in memory by watches, and on disk for a start without etcd.
 *
 * Docker asks Get before nearly everything and takes any failure for "does not exist", so answers come from
 * here and never wait for etcd.
 *
 * INVARIANTS
 * - A write of our own is visible here before its caller returns, and stays so when older watch events arrive:
 *   per key the highest revision wins, and a deletion leaves a tombstone until the watch has passed it.
 * - The file is replaced as a whole and carries a checksum. A damaged one is set aside, reported, and rebuilt
 *   from etcd; until then the replica is not `complete` and nobody may conclude that a key does not exist.
 * - What comes from the file yields to whatever shared state says, lower revisions too: an etcd that was restored
 *   from a backup, or replaced by another, counts anew. So does all that is known, once a listing has a lower revision
 *   than the same watch had told before.
 */
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Ctx } from '../context.js';
import { writeFileAtomic } from '../lib/atomic-file.js';
import type { Log } from '../log.js';
import { type CacheStart, type LoadedCache, loadCache, renderCache } from './replica-file.js';
import type { Entry, State, Watch, WatchEvent } from './state.js';

export interface Replica {
  get(key: string): Entry | null;
  list(prefix: string): Entry[];
  /** True once all prefixes were known as a whole, now or at the time the file was written. */
  readonly complete: boolean;
  /** True once this process has read all prefixes from shared state itself. */
  readonly current: boolean;
  /** How the start from the file went. */
  readonly cache: CacheStart;
  /** Resolves with the first snapshot of every prefix from shared state itself. */
  readonly synced: Promise<void>;
  /** Linearizable read of one key from shared state, remembered here. */
  refresh(ctx: Ctx, key: string): Promise<Entry | null>;
  /** Remembers what a transaction of ours did; resolves when it is on disk. */
  record(revision: number, changes: readonly RecordedChange[]): Promise<void>;
  /** What is known of this key counts no more, until shared state tells of it again. */
  forget(key: string): void;
  /** Called with the keys that changed. */
  onChange(listener: (keys: readonly string[]) => void): void;
  close(): Promise<void>;
}

export type RecordedChange = { readonly put: string; readonly value: string } | { readonly delete: string };

const SAVE_DELAY_MS = 200;
const SAVE_AGAIN_MS = 5000;

export interface ReplicaOptions {
  readonly state: State;
  readonly prefixes: readonly string[];
  readonly file: string;
  readonly log: Log;
}

export async function openReplica(options: ReplicaOptions): Promise<Replica> {
  await mkdir(path.dirname(options.file), { recursive: true, mode: 0o700 });
  const loaded = await loadCache(options.file, options.log);
  return new WatchedReplica(options, loaded);
}

class WatchedReplica implements Replica {
  readonly synced: Promise<void>;
  complete: boolean;
  current = false;
  readonly #loaded: LoadedCache;
  readonly #options: ReplicaOptions;
  readonly #entries: Map<string, Entry>;
  /** What is known from the file only, or from a history that shared state has given up. */
  readonly #fromFile: WeakSet<Entry>;
  /** Key -> revision of its deletion. */
  readonly #tombstones = new Map<string, number>();
  /** Prefix -> revision that its watch has told last. */
  readonly #told = new Map<string, number>();
  readonly #listeners: ((keys: readonly string[]) => void)[] = [];
  readonly #watches: Watch[];
  #saving: Promise<void> = Promise.resolve();
  /** A save that has not begun: it will write what is there when it does. */
  #nextSave: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ReplicaOptions, loaded: LoadedCache) {
    const { stored } = loaded;
    this.#options = options;
    this.#loaded = loaded;
    this.#fromFile = new WeakSet(stored?.entries);
    this.#entries = new Map(stored?.entries.map((entry) => [entry.key, entry]));
    this.complete = stored?.complete ?? false;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const missing = new Set(options.prefixes);
    this.synced = promise;
    this.#watches = options.prefixes.map((prefix) =>
      options.state.watch(prefix, (event) => {
        this.#follow(prefix, event);
        missing.delete(prefix);
        if (missing.size > 0) return;
        if (!this.complete) this.#saveSoon();
        this.complete = true;
        this.current = true;
        resolve(undefined);
      }),
    );
  }

  get cache(): CacheStart {
    const { state, reason } = this.#loaded;
    return { state: state === 'damaged' && this.complete ? 'rebuilt' : state, reason };
  }

  get(key: string): Entry | null {
    return this.#entries.get(key) ?? null;
  }

  list(prefix: string): Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.key.startsWith(prefix));
  }

  async refresh(ctx: Ctx, key: string): Promise<Entry | null> {
    const before = this.#entries.get(key);
    const entry = await this.#options.state.get(ctx, key);
    if (entry) this.#put(entry);
    // Unless it was written while the answer was under way: then the answer is the older news.
    else if (this.#entries.get(key) === before) this.#entries.delete(key);
    this.#saveSoon();
    return entry;
  }

  async record(revision: number, changes: readonly RecordedChange[]): Promise<void> {
    for (const change of changes) {
      const key = 'delete' in change ? change.delete : change.put;
      // Of a transaction, what nobody here follows is not kept either.
      if (!this.#options.prefixes.some((prefix) => key.startsWith(prefix))) continue;
      if ('delete' in change) this.#delete(change.delete, revision);
      else this.#putValue(change.put, change.value, revision);
    }
    await this.#save();
  }

  forget(key: string): void {
    this.#entries.delete(key);
    this.#tombstones.delete(key);
    this.#saveSoon();
  }

  onChange(listener: (keys: readonly string[]) => void): void {
    this.#listeners.push(listener);
  }

  async close(): Promise<void> {
    for (const watch of this.#watches) watch.close();
    if (this.#timer) await this.#save();
  }

  #follow(prefix: string, event: WatchEvent): void {
    const revision = event.type === 'snapshot' ? event.snapshot.revision : event.revision;
    if (event.type === 'snapshot' && revision < (this.#told.get(prefix) ?? 0)) this.#distrust(prefix);
    this.#told.set(prefix, revision);
    const changed =
      event.type === 'snapshot' ? this.#replace(prefix, event.snapshot) : this.#apply(prefix, event);
    if (changed.length === 0) return;
    this.#saveSoon();
    for (const listener of this.#listeners) listener(changed);
  }

  /** Listings never go back but in an etcd that was restored: what is known counts for no more than the file. */
  #distrust(prefix: string): void {
    this.#options.log.warn({ prefix }, 'shared state has gone back: reading it anew');
    for (const entry of this.list(prefix)) this.#fromFile.add(entry);
    this.#forgetTombstones(prefix, Infinity);
  }

  #replace(prefix: string, { entries, revision }: { entries: readonly Entry[]; revision: number }): string[] {
    const present = new Set(entries.map((entry) => entry.key));
    const changed = entries.filter((entry) => this.#put(entry)).map((entry) => entry.key);
    for (const { key } of this.list(prefix)) {
      if (present.has(key) || this.#revisionOf(key) > revision) continue;
      this.#entries.delete(key);
      changed.push(key);
    }
    this.#forgetTombstones(prefix, revision);
    return changed;
  }

  #apply(prefix: string, { revision, changes }: Extract<WatchEvent, { type: 'changes' }>): string[] {
    const changed = changes
      .filter((change) =>
        change.type === 'put' ? this.#put(change.entry) : this.#delete(change.key, revision),
      )
      .map((change) => (change.type === 'put' ? change.entry.key : change.key));
    this.#forgetTombstones(prefix, revision);
    return changed;
  }

  #put(entry: Entry): boolean {
    if (this.#revisionOf(entry.key) >= entry.modRevision) return false;
    const before = this.#entries.get(entry.key);
    this.#entries.set(entry.key, entry);
    return before?.modRevision !== entry.modRevision || before.value !== entry.value;
  }

  #putValue(key: string, value: string, modRevision: number): void {
    const createRevision = this.#entries.get(key)?.createRevision ?? modRevision;
    this.#put({ key, value, createRevision, modRevision });
  }

  #delete(key: string, revision: number): boolean {
    if (this.#revisionOf(key) > revision) return false;
    this.#tombstones.set(key, revision);
    return this.#entries.delete(key);
  }

  #revisionOf(key: string): number {
    const entry = this.#entries.get(key);
    const revision = entry && !this.#fromFile.has(entry) ? entry.modRevision : 0;
    return Math.max(revision, this.#tombstones.get(key) ?? 0);
  }

  #forgetTombstones(prefix: string, revision: number): void {
    for (const [key, deleted] of this.#tombstones) {
      if (key.startsWith(prefix) && deleted <= revision) this.#tombstones.delete(key);
    }
  }

  #saveSoon(delayMs = SAVE_DELAY_MS): void {
    this.#timer ??= setTimeout(() => void this.#save().catch(() => undefined), delayMs).unref();
  }

  #save(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#nextSave ??= this.#saving = this.#saving
      .then(async () => {
        this.#nextSave = null;
        await mkdir(path.dirname(this.#options.file), { recursive: true, mode: 0o700 });
        const stored = { complete: this.complete, entries: [...this.#entries.values()] };
        await writeFileAtomic(this.#options.file, renderCache(stored));
      })
      .catch((err: unknown) => {
        this.#options.log.warn({ err, file: this.#options.file }, 'the cache of records was not saved');
        // The older one is wrong by now: a start without etcd would believe it.
        this.#saveSoon(SAVE_AGAIN_MS);
      });
    return this.#nextSave;
  }
}
