/**
 * The line in which calls on a machine wait: those that wait together are decided together and kept by one write. Reads are
 * answered between two writes, so they see nothing that is not kept.
 */
import type { StateMachine, Step } from './state-machine.js';

export interface Keeper {
  /** Resolves when `machine` holds all that was kept. @throws AppError while it cannot; it is asked again */
  ready(): Promise<void>;
  readonly machine: StateMachine;
  /** Makes steps durable that the machine has taken: all, or none. @throws AppError */
  keep(steps: readonly Step[]): Promise<void>;
  close(): Promise<void>;
}

interface Request {
  /** Null: it changes nothing. What it throws, its caller gets. */
  readonly decide: () => Step | null;
  readonly resolve: (step: Step | null) => void;
  readonly reject: (reason: unknown) => void;
}

/** Each has at most 128 operations; what waits longer is written next. */
const MOST_AT_ONCE = 1000;

export class WriteLine {
  readonly #keeper: Pick<Keeper, 'machine' | 'keep'>;
  readonly #onKept: (steps: readonly Step[]) => void;
  readonly #waiting: Request[] = [];
  readonly #readers: (() => void)[] = [];
  #isWriting = false;
  #drained: Promise<void> = Promise.resolve();

  constructor(keeper: Pick<Keeper, 'machine' | 'keep'>, onKept: (steps: readonly Step[]) => void) {
    this.#keeper = keeper;
    this.#onKept = onKept;
  }

  /** When all that the machine has taken is kept. */
  read<T>(look: () => T): Promise<T> {
    if (!this.#isWriting) return Promise.resolve(look());
    return new Promise((resolve) => {
      this.#readers.push(() => {
        resolve(look());
      });
    });
  }

  /** Answers the step when it is kept. @throws what `decide` throws, and what the keeper does */
  write(decide: () => Step | null): Promise<Step | null> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ decide, resolve, reject });
      if (!this.#isWriting) this.#drained = this.#drain();
    });
  }

  /** Resolves when nobody waits. */
  drained(): Promise<void> {
    return this.#drained;
  }

  async #drain(): Promise<void> {
    this.#isWriting = true;
    // Who calls in the same turn comes along.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      await this.#writeTogether(this.#waiting.splice(0, MOST_AT_ONCE));
      for (const read of this.#readers.splice(0)) read();
    }
    this.#isWriting = false;
  }

  async #writeTogether(requests: readonly Request[]): Promise<void> {
    const undo: (() => void)[] = [];
    const decided = requests.flatMap((request) => this.#decide(request, undo));
    const steps = decided.flatMap(({ step }) => (step && isSomething(step) ? [step] : []));
    try {
      if (steps.length > 0) await this.#keeper.keep(steps);
    } catch (reason) {
      for (const takeBack of undo.reverse()) takeBack();
      // Those without a step too: what they found may be what was taken back.
      for (const { request } of decided) request.reject(reason);
      return;
    }
    this.#onKept(steps);
    for (const { request, step } of decided) request.resolve(step);
  }

  #decide(request: Request, undo: (() => void)[]) {
    try {
      const step = request.decide();
      if (step && isSomething(step)) undo.push(this.#keeper.machine.take(step));
      return [{ request, step }];
    } catch (reason) {
      request.reject(reason);
      return [];
    }
  }
}

function isSomething({ changes, grant, end }: Step): boolean {
  return changes.length > 0 || grant !== undefined || end !== undefined;
}
