import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { AppError } from '../errors.js';
import type { VolumeService, VolumeView } from './volume-service.js';

/** Below the engine's shortest limit for a call, so that it reads our words and not its own. */
const PATIENCE_MS = 20_000;

/**
 * Stands in from the first moment, because the engine gives up a plugin whose socket is late: each call waits
 * for the real service, and says what that waits for when it takes too long.
 */
export class StartingService implements VolumeService {
  readonly #real = Promise.withResolvers<VolumeService>();
  #service: VolumeService | null = null;
  #waitingFor = 'the plugin to start';

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

  async create(ctx: Ctx, name: string, options: Readonly<Record<string, string>>): Promise<void> {
    await (await this.#get(ctx)).create(ctx, name, options);
  }

  async remove(ctx: Ctx, name: string): Promise<void> {
    await (await this.#get(ctx)).remove(ctx, name);
  }

  async mount(ctx: Ctx, name: string, mountId: string): Promise<string> {
    return (await this.#get(ctx)).mount(ctx, name, mountId);
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
