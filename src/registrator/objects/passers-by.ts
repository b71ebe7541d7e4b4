/**
 * Objects that came and went before anybody looked at them. That they are gone is told by an event, and events are hints:
 * one that was removed and made anew at once may be told of in the other order. So one list, a moment later, tells for all
 * of them, where an inspection of each would cost the engine as much as their making.
 */
import type { Ctx } from '../../context.js';
import type { EngineObjects, ObjectKind } from '../../docker/objects.js';
import type { Log } from '../../log.js';

export interface PassersByOptions {
  readonly objects: Pick<EngineObjects, 'list'>;
  /** It is there all the same. */
  readonly found: (kind: ObjectKind, id: string) => void;
  /** They cannot be listed now. */
  readonly unsure: (kind: ObjectKind) => void;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly afterMs: number;
}

export class PassersBy {
  readonly #options: PassersByOptions;
  #seen = new Map<ObjectKind, Set<string>>();
  #timer: NodeJS.Timeout | undefined;
  #checking = 0;

  constructor(options: PassersByOptions) {
    this.#options = options;
  }

  /** Those that are still to be looked for. */
  get size(): number {
    return [...this.#seen.values()].reduce((sum, ids) => sum + ids.size, this.#checking);
  }

  add(kind: ObjectKind, id: string): void {
    const ids = this.#seen.get(kind) ?? new Set();
    this.#seen.set(kind, ids.add(id));
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#check();
    }, this.#options.afterMs).unref();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  async #check(): Promise<void> {
    const { objects, found, unsure, log, signal } = this.#options;
    const ctx: Ctx = { log, signal, requestId: 'objects' };
    const seen = this.#seen;
    this.#seen = new Map();
    for (const [kind, ids] of seen) {
      this.#checking += ids.size;
      const there = await objects.list(ctx, kind).catch(() => null);
      this.#checking -= ids.size;
      if (signal.aborted) return;
      if (there === null) unsure(kind);
      else for (const id of there) if (ids.has(id)) found(kind, id);
    }
  }
}
