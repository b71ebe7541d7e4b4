/**
 * An engine that tells badly of what it has: events get lost, come twice or in another order; looks fail, and their answers
 * come late. Of lost events a gap tells, sooner or later, as the real stream's does.
 */
import type { DockerEvent } from '../../src/docker/docker-event.js';
import type { EventListener, EventStream, Gap } from '../../src/docker/event-stream.js';
import type { EngineObjects, Inspected, ObjectKind } from '../../src/docker/objects.js';
import { AppError } from '../../src/errors.js';

export interface Thing {
  readonly name: string;
  readonly running: boolean;
}

export const turn = () => new Promise((resolve) => setImmediate(resolve));
/** `container c1` */
export const split = (key: string) => key.split(' ') as [ObjectKind, string];

export class UntoldEngine implements EngineObjects {
  /** By kind and id. */
  readonly things = new Map<string, Thing>();
  /** How many looks of ten fail. */
  trouble = 0;
  readonly #random: () => number;
  readonly #failed = new Set<string>();
  #calls = 0;
  #listener: EventListener = () => undefined;
  #events: DockerEvent[] = [];
  #isMissing = false;

  constructor(random: () => number) {
    this.#random = random;
  }

  readonly stream: Pick<EventStream, 'subscribe'> = {
    subscribe: (listener) => {
      this.#listener = listener;
      this.#isMissing = true;
      this.#failed.clear();
      return { close: () => (this.#listener = () => undefined) };
    },
  };

  /** Somebody waits for an answer, or will ask again. */
  get isAsked(): boolean {
    return this.#calls + this.#failed.size > 0;
  }

  /** Null: it is gone. */
  change(key: string, thing: Thing | null, ...actions: string[]): void {
    if (thing) this.things.set(key, thing);
    else this.things.delete(key);
    const [type, actorId] = split(key);
    const more = { type, actorId, attributes: { signal: '15' }, scope: 'local', timeNano: '1' };
    this.#events.push(...actions.map((action) => ({ action, ...more })));
  }

  /** Some of what has happened. */
  deliver(): void {
    const told = this.#events.splice(0, Math.ceil(this.#events.length * this.#random())).flatMap((event) => {
      const luck = this.#random();
      if (luck < 0.15) this.#isMissing = true;
      return luck < 0.15 ? [] : luck < 0.3 ? [event, event] : [event];
    });
    if (this.#random() < 0.3) told.reverse();
    void this.#listener(told.map((event) => ({ kind: 'event', event })));
    if (this.#random() < 0.5) this.#tellGap();
  }

  deliverAll(): void {
    while (this.#events.length > 0) this.deliver();
    this.#tellGap();
  }

  #tellGap(): void {
    if (!this.#isMissing) return;
    this.#isMissing = false;
    const gap: Gap = { reason: 'overflow', detail: '', sinceNano: '1', untilNano: '2' };
    void this.#listener([{ kind: 'gap', gap }]);
  }

  list(_ctx: unknown, kind: ObjectKind): Promise<string[]> {
    const ids = () =>
      [...this.things.keys()].filter((key) => split(key)[0] === kind).map((key) => split(key)[1]);
    return this.#answer(`list ${kind}`, ids);
  }

  inspect(_ctx: unknown, kind: ObjectKind, id: string): Promise<Inspected | null> {
    return this.#answer(`${kind} ${id}`, () => {
      const thing = this.things.get(`${kind} ${id}`);
      return thing ? { Name: thing.name, State: { Running: thing.running } } : null;
    });
  }

  async #answer<T>(what: string, look: () => T): Promise<T> {
    this.#calls += 1;
    if (this.#random() < 0.5) await turn();
    const [answer, fails] = [look(), this.#random() * 10 < this.trouble];
    for (let late = this.#random() * 3; late > 1; late -= 1) await turn();
    this.#calls -= 1;
    this.#failed.delete(what);
    if (!fails) return answer;
    this.#failed.add(what);
    throw new AppError(this.#random() < 0.5 ? 'unavailable' : 'internal', 'not now');
  }
}
