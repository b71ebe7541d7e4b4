import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import type { Log } from '../../log.js';

export interface AttemptsOptions {
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly retryMinMs: number;
  readonly retryMaxMs: number;
}

/** Operations that are tried again by themselves, each ever more rarely. Each trouble is logged once, and its end. */
export class Attempts {
  readonly #options: AttemptsOptions;
  /** How often in a row each has failed. */
  readonly #failed = new Map<string, number>();
  readonly #retries = new Map<string, NodeJS.Timeout>();
  #failures = 0;

  constructor(options: AttemptsOptions) {
    this.#options = options;
  }

  /** All in all. */
  get failures(): number {
    return this.#failures;
  }

  /** What failed when it was tried last. */
  get failing(): readonly string[] {
    return [...this.#failed.keys()];
  }

  failedInARow(what: string): number {
    return this.#failed.get(what) ?? 0;
  }

  /** Never throws. `again` is called when it is time for another try. */
  async attempt(what: string, operation: (ctx: Ctx) => Promise<void>, again: () => void): Promise<void> {
    const { log, signal } = this.#options;
    const before = this.failedInARow(what);
    try {
      await operation({ log, signal, requestId: 'objects' });
      this.#failed.delete(what);
      if (before > 0) log.info({ what }, 'looked at, at last');
    } catch (reason) {
      if (signal.aborted) return;
      this.#failures += 1;
      this.#failed.set(what, before + 1);
      if (before === 0) log.warn({ err: AppError.from(reason), what }, 'not looked at: trying again');
      this.#later(what, before, again);
    }
  }

  close(): void {
    for (const retry of this.#retries.values()) clearTimeout(retry);
  }

  #later(what: string, failuresBefore: number, again: () => void): void {
    const { retryMinMs, retryMaxMs } = this.#options;
    clearTimeout(this.#retries.get(what));
    const retry = setTimeout(
      () => {
        this.#retries.delete(what);
        again();
      },
      Math.min(retryMinMs * 2 ** Math.min(failuresBefore, 20), retryMaxMs),
    ).unref();
    this.#retries.set(what, retry);
  }
}
