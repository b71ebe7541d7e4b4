/**
 * For how long other nodes have been away. A node is alive while `alive/<node>` is there, which etcd takes away with
 * its lease; how long ago that was is measured by this process' own monotonic clock, from what it saw itself.
 * Nobody's wall clock takes part.
 */
import { keys } from '../state/keys.js';
import type { State, Watch, WatchEvent } from '../state/state.js';

export class Liveness {
  readonly #watch: Watch;
  readonly #alive = new Set<string>();
  /** Node -> when its sign of life went. */
  readonly #goneSince = new Map<string, number>();
  #knownSince: number | null = null;

  constructor(state: Pick<State, 'watch'>) {
    this.#watch = state.watch(keys.allAlive, (event) => {
      this.#follow(event);
    });
  }

  /** 0 while it is alive, and while nobody can tell. */
  awayMs(node: string): number {
    if (this.#knownSince === null || this.#alive.has(node)) return 0;
    return Math.max(1, performance.now() - (this.#goneSince.get(node) ?? this.#knownSince));
  }

  close(): void {
    this.#watch.close();
  }

  /** After a gap everybody's time begins anew: while etcd was away no node could say that it is alive. */
  #follow(event: WatchEvent): void {
    const now = performance.now();
    if (event.type === 'snapshot') {
      this.#alive.clear();
      this.#goneSince.clear();
      this.#knownSince = now;
      for (const { key } of event.snapshot.entries) this.#alive.add(nodeOf(key));
      return;
    }
    for (const change of event.changes) {
      if (change.type === 'put') this.#alive.add(nodeOf(change.entry.key));
      else if (this.#alive.delete(nodeOf(change.key))) this.#goneSince.set(nodeOf(change.key), now);
    }
  }
}

function nodeOf(key: string): string {
  return key.slice(keys.allAlive.length);
}
