import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { AppError } from '../errors.js';
import { sleep } from '../lib/sleep.js';
import type { VolumeService, VolumeView } from './volume-service.js';

/** Below the engine's shortest limit for a call, so that it reads our words and not its own. */
const PATIENCE_MS = 20_000;
const POLL_MS = 20;

/**
 * Stands in from the first moment, because the engine gives up a plugin whose socket is late: each call waits
 * for the real service, and says what that waits for when it takes too long.
 */
export class StartingService implements VolumeService {
  readonly #real = Promise.withResolvers<VolumeService>();
  #service: VolumeService | null = null;
  #waitingFor = 'the plugin to start';
  #paused: string | null = null;
  /** Names of the volumes that are being made or mounted. */
  readonly #underWay = new Map<symbol, string>();

  get waitingFor(): string | null {
    return this.#service ? null : this.#waitingFor;
  }

  waitsFor(what: string): void {
    this.#waitingFor = what;
  }

  ready(service: VolumeService): void {
    this.#service = service;
    this.#real.resolve(service);
  }

  /**
   * Nothing is made and nothing mounted from now on, until the answer is called. Resolves when what was under way has
   * ended: what is recorded then stays so.
   * @throws AppError `conflict` while it is paused already, `in_use` with what is still under way when the time is over
   */
  async pause(ctx: Ctx, why: string): Promise<() => void> {
    if (this.#paused !== null) throw new AppError('conflict', this.#paused);
    this.#paused = why;
    while (this.#underWay.size > 0) {
      if (ctx.signal.aborted) {
        this.#paused = null;
        const names = [...new Set(this.#underWay.values())].join(', ');
        throw new AppError('in_use', `volumes are being made or mounted here: ${names}; try again`);
      }
      await sleep(POLL_MS, ctx.signal);
    }
    return () => {
      this.#paused = null;
    };
  }

  async create(ctx: Ctx, name: string, options: Readonly<Record<string, string>>): Promise<void> {
    const service = await this.#get(ctx);
    await this.#unlessPaused(name, () => service.create(ctx, name, options));
  }

  async remove(ctx: Ctx, name: string): Promise<void> {
    await (await this.#get(ctx)).remove(ctx, name);
  }

  async mount(ctx: Ctx, name: string, mountId: string): Promise<string> {
    const service = await this.#get(ctx);
    return this.#unlessPaused(name, () => service.mount(ctx, name, mountId));
  }

  async unmount(ctx: Ctx, name: string, mountId: string): Promise<void> {
    await (await this.#get(ctx)).unmount(ctx, name, mountId);
  }

  async get(ctx: Ctx, name: string): Promise<VolumeView> {
    return (await this.#get(ctx)).get(ctx, name);
  }

  list(): readonly VolumeView[] {
    if (this.#service) return this.#service.list();
    throw this.#notYet();
  }

  async #unlessPaused<T>(name: string, operation: () => Promise<T>): Promise<T> {
    if (this.#paused !== null)
      throw new AppError(
        'unavailable',
        `volume ${name} cannot be had: ${this.#paused}; try again in a moment`,
      );
    const key = Symbol(name);
    this.#underWay.set(key, name);
    try {
      return await operation();
    } finally {
      this.#underWay.delete(key);
    }
  }

  async #get(ctx: Ctx): Promise<VolumeService> {
    if (this.#service) return this.#service;
    const { signal } = withDeadline(ctx, PATIENCE_MS);
    const late = Promise.withResolvers<never>();
    const give = () => {
      late.reject(this.#notYet());
    };
    if (signal.aborted) give();
    signal.addEventListener('abort', give, { once: true });
    try {
      return await Promise.race([late.promise, this.#real.promise]);
    } finally {
      signal.removeEventListener('abort', give);
    }
  }

  #notYet(): AppError {
    return new AppError('unavailable', `the driver is still starting: it waits for ${this.#waitingFor}`);
  }
}
