import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { KeyedMutex } from '../lib/keyed-mutex.js';

/** One operation at a time per volume; who waits in vain is told so in words that a user understands. */
export class VolumeLocks {
  readonly #volumes = new KeyedMutex();
  readonly #ports = new KeyedMutex();

  /** @throws `deadline_exceeded` or `canceled` when ctx.signal aborts before its turn. */
  async run<T>(ctx: Ctx, name: string, operation: () => Promise<T>): Promise<T> {
    return within(this.#volumes, ctx, name, operation);
  }

  /** From the choice of a port to its record: two volumes made at once would choose the same one. */
  async choosePort<T>(ctx: Ctx, operation: () => Promise<T>): Promise<T> {
    return within(this.#ports, ctx, '', operation);
  }
}

async function within<T>(
  mutex: KeyedMutex,
  { signal }: Ctx,
  name: string,
  operation: () => Promise<T>,
): Promise<T> {
  const turn = { came: false };
  try {
    return await mutex.run(name, signal, () => {
      turn.came = true;
      return operation();
    });
  } catch (reason) {
    if (turn.came || !signal.aborted) throw reason;
    const timedOut = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
    const what = name === '' ? 'the choice of a port' : `volume ${name}`;
    throw new AppError(
      timedOut ? 'deadline_exceeded' : 'canceled',
      `another operation on ${what} is still under way: try again`,
      { cause: reason },
    );
  }
}
