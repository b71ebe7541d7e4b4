/**
 * What is in shared state of the registry, followed: claims, markers, and the keys themselves.
 *
 * Claims and markers come by one watch, keys by one for each prefix they are below, so the two are not of one revision.
 * That is no harm: a transaction compares all that it was decided from, and fails if it was not true at once. What this
 * process has just written it knows before the watches do; an event that is older than what is known is passed over.
 */
import type { Ctx } from '../../context.js';
import type { Log } from '../../log.js';
import { keys } from '../../state/keys.js';
import { records } from '../../state/records.js';
import type { Entry, Operation, Snapshot, State, Transaction, Watch, WatchEvent } from '../../state/state.js';
import type { Held, Seen } from './step.js';

export interface RegistryView {
  /** Whether this owner has a claim of the key, or nobody has one any more and somebody has to clear up. */
  concerns(key: string, owner: string): boolean;
  /** Whether all claims are known, as the first snapshot has them. */
  isKnown(): boolean;
  /** Null while the first snapshots are not there. */
  seen(key: string): Seen | null;
  /** Keys of all claims of this owner. */
  claimedBy(owner: string): string[];
  /** A transaction of ours that was carried out at this revision; `concerns` are the keys it was about. */
  applied(transaction: Transaction, revision: number, concerns: readonly string[]): void;
  /** How many claims are below a lease. */
  claimsUnder(leaseId: string): number;
  /** Follows no more what none of these keys is below; what is asked for again is followed again. */
  followOnly(keys: Iterable<string>): void;
  /** Called with keys of which something has changed, and when something can be seen for the first time. */
  onChange(listener: (changed: readonly string[]) => void): void;
  close(): void;
}

/** What is known of one key in state; a null is a deletion that a watch may still contradict with older news. */
interface Known {
  readonly entry: Entry | null;
  readonly revision: number;
}

interface Followed {
  readonly known: Map<string, Known>;
  /** Null before the first snapshot. */
  revision: number | null;
  readonly watch: Watch;
}

export function createRegistryView(state: Pick<State, 'watch'>, log: Log): RegistryView {
  return new WatchedView(state, log);
}

/** All keys below the first segment: policies write many below few. Our own root has other things than theirs. */
export function prefixOf(key: string): string {
  const segments = key.split('/');
  return `${segments.slice(0, key.startsWith(keys.root) ? 3 : 2).join('/')}/`;
}

/** What is seen of a key when it is read instead of watched. */
export async function readSeen(ctx: Ctx, state: Pick<State, 'get' | 'range'>, key: string): Promise<Seen> {
  const { entries, revision } = await state.range(ctx, keys.claimsOf(key));
  const [entry, marker] = await Promise.all([state.get(ctx, key), state.get(ctx, keys.sharedKey(key))]);
  return { claims: parseClaims(entries, ctx.log), entry, marker, revision };
}

/** The claims of one key, and where each is; damaged ones do not count. */
function parseClaims(entries: Iterable<Entry>, log: Log): Held[] {
  const held: Held[] = [];
  for (const { key: stateKey, value, leaseId, modRevision, createRevision } of entries) {
    // A claim that nobody keeps alive would never end.
    if (leaseId === undefined) continue;
    try {
      const { owner, value: wanted, merge, overwrite, source } = records.claim.decode(stateKey, value);
      held.push({
        stateKey,
        leaseId,
        modRevision,
        createRevision,
        owner,
        value: wanted,
        merge,
        overwrite,
        source,
      });
    } catch (err) {
      log.warn({ err }, 'a claim is passed over');
    }
  }
  return held;
}

class WatchedView implements RegistryView {
  readonly #state: Pick<State, 'watch'>;
  readonly #log: Log;
  readonly #registry: Followed;
  readonly #followed = new Map<string, Followed>();
  /** Names of a key's claims in state. */
  readonly #claims = new Map<string, Set<string>>();
  readonly #claimsUnder = new Map<string, number>();
  /** Up to which revision all puts of claims of a key are known, where a transaction of ours has proved it. */
  readonly #proved = new Map<string, number>();
  #listener: (changed: readonly string[]) => void = () => undefined;

  constructor(state: Pick<State, 'watch'>, log: Log) {
    this.#state = state;
    this.#log = log;
    this.#registry = this.#follow(keys.registry);
  }

  onChange(listener: (changed: readonly string[]) => void): void {
    this.#listener = listener;
  }

  concerns(key: string, owner: string): boolean {
    const claims = this.#claims.get(key);
    if (claims) return claims.has(keys.claim(key, owner));
    return Boolean(this.#registry.known.get(keys.sharedKey(key))?.entry);
  }

  isKnown(): boolean {
    return this.#registry.revision !== null;
  }

  seen(key: string): Seen | null {
    const prefix = prefixOf(key);
    let followed = this.#followed.get(prefix);
    if (!followed) this.#followed.set(prefix, (followed = this.#follow(prefix)));
    if (this.#registry.revision === null || followed.revision === null) return null;
    const entries = [...(this.#claims.get(key) ?? [])].flatMap(
      (name) => this.#registry.known.get(name)?.entry ?? [],
    );
    return {
      claims: parseClaims(entries, this.#log),
      entry: followed.known.get(key)?.entry ?? null,
      marker: this.#registry.known.get(keys.sharedKey(key))?.entry ?? null,
      revision: Math.max(this.#registry.revision, this.#proved.get(key) ?? 0),
    };
  }

  claimsUnder(leaseId: string): number {
    return this.#claimsUnder.get(leaseId) ?? 0;
  }

  claimedBy(owner: string): string[] {
    return [...this.#claims].filter(([key, names]) => names.has(keys.claim(key, owner))).map(([key]) => key);
  }

  applied({ then }: Transaction, revision: number, concerns: readonly string[]): void {
    for (const operation of then) {
      const name = 'put' in operation ? operation.put : operation.delete;
      const followed = name.startsWith(keys.registry) ? this.#registry : this.#followed.get(prefixOf(name));
      if (!followed || isTold(followed, revision)) continue;
      const entry = entryAfter(operation, followed.known.get(name)?.entry, revision);
      this.#learn(followed, name, { entry, revision });
    }
    if (isTold(this.#registry, revision)) return;
    for (const key of concerns) this.#proved.set(key, revision);
  }

  followOnly(wanted: Iterable<string>): void {
    const prefixes = new Set<string>();
    for (const key of wanted) prefixes.add(prefixOf(key));
    for (const [prefix, { watch }] of this.#followed) {
      if (prefixes.has(prefix)) continue;
      watch.close();
      this.#followed.delete(prefix);
    }
  }

  close(): void {
    for (const { watch } of [this.#registry, ...this.#followed.values()]) watch.close();
  }

  #follow(prefix: string): Followed {
    const followed: Followed = {
      known: new Map(),
      revision: null,
      watch: this.#state.watch(prefix, (event) => {
        const changed =
          event.type === 'snapshot' ? this.#replace(followed, event.snapshot) : this.#change(followed, event);
        followed.revision = event.type === 'snapshot' ? event.snapshot.revision : event.revision;
        if (followed === this.#registry) this.#forgetProved(followed.revision);
        this.#listener([...changed]);
      }),
    };
    return followed;
  }

  #replace(followed: Followed, { entries, revision }: Snapshot): Set<string> {
    const changed = new Set<string>();
    // Snapshots never go back but in an etcd that has lost its data, or has that of a backup.
    if (followed.revision !== null && revision < followed.revision) this.#forget(followed, changed);
    const there = new Set(entries.map(({ key }) => key));
    for (const name of [...followed.known.keys()]) {
      if (!there.has(name)) this.#hear(followed, name, { entry: null, revision }, changed);
    }
    for (const entry of entries) this.#hear(followed, entry.key, { entry, revision }, changed);
    return changed;
  }

  #forget(followed: Followed, changed: Set<string>): void {
    this.#log.warn({ revision: followed.revision }, 'shared state has gone back: all is looked at anew');
    this.#proved.clear();
    for (const name of [...followed.known.keys()])
      this.#hear(followed, name, { entry: null, revision: Infinity }, changed);
  }

  #change(followed: Followed, { changes, revision }: Extract<WatchEvent, { type: 'changes' }>): Set<string> {
    const changed = new Set<string>();
    for (const change of changes) {
      if (change.type === 'put')
        this.#hear(followed, change.entry.key, { entry: change.entry, revision }, changed);
      else this.#hear(followed, change.key, { entry: null, revision }, changed);
    }
    return changed;
  }

  /** News of a watch: passed over if it is older than what is known; a deletion it tells of need not be remembered. */
  #hear(followed: Followed, name: string, news: Known, changed: Set<string>): void {
    const before = followed.known.get(name);
    if (before && before.revision > news.revision) return;
    const key = followed === this.#registry ? keyOfRegistry(name) : name;
    if (key !== null && before?.entry?.modRevision !== news.entry?.modRevision) changed.add(key);
    this.#learn(followed, name, news);
    if (news.entry === null) followed.known.delete(name);
  }

  #learn(followed: Followed, name: string, known: Known): void {
    const before = followed.known.get(name)?.entry;
    followed.known.set(name, known);
    if (followed !== this.#registry || !name.startsWith(keys.claims)) return;
    this.#count(before?.leaseId, -1);
    this.#count(known.entry?.leaseId, 1);
    const key = keyOfRegistry(name);
    if (key === null) return;
    const names = this.#claims.get(key) ?? new Set();
    if (known.entry === null) names.delete(name);
    else names.add(name);
    if (names.size > 0) this.#claims.set(key, names);
    else this.#claims.delete(key);
  }

  #count(leaseId: string | undefined, change: number): void {
    if (leaseId === undefined) return;
    const count = this.claimsUnder(leaseId) + change;
    if (count > 0) this.#claimsUnder.set(leaseId, count);
    else this.#claimsUnder.delete(leaseId);
  }

  #forgetProved(revision: number): void {
    for (const [key, proved] of this.#proved) if (proved <= revision) this.#proved.delete(key);
  }
}

/** Whether the watch has told all that happened up to this revision: an answer that comes later tells nothing new. */
function isTold({ revision }: Followed, upTo: number): boolean {
  return revision !== null && revision >= upTo;
}

function entryAfter(operation: Operation, before: Entry | null | undefined, revision: number): Entry | null {
  if ('delete' in operation) return null;
  const { put: key, value, lease } = operation;
  const leased = lease ? { leaseId: lease.id } : {};
  return { key, value, createRevision: before?.createRevision ?? revision, modRevision: revision, ...leased };
}

/** The key that a claim or a marker is about. */
function keyOfRegistry(name: string): string | null {
  const prefix = [keys.claims, keys.sharedKeys].find((start) => name.startsWith(start));
  const [encoded] = name.slice(prefix?.length ?? 0).split('/');
  if (prefix === undefined || !encoded) return null;
  try {
    return decodeURIComponent(encoded);
  } catch {
    return null;
  }
}
