import { sleep } from '../lib/sleep.js';
import { orAbsent, statusOf } from './engine-call.js';

/** What is needed of a dockerode container. */
interface Removable {
  remove(options: { force: boolean; abortSignal: AbortSignal }): Promise<unknown>;
  inspect(options: { abortSignal: AbortSignal }): Promise<unknown>;
}

const POLL_MS = 100;

/**
 * Removes a container and resolves when it is gone, or was. A removal goes on in the engine when who asked for it has
 * left; the engine then refuses a second one (409) for as long as the first takes.
 */
export async function removeFully(container: Removable, abortSignal: AbortSignal): Promise<void> {
  await orAbsent(async () => {
    try {
      await container.remove({ force: true, abortSignal });
    } catch (reason) {
      if (statusOf(reason) !== 409 || !String(reason).includes('in progress')) throw reason;
      // Until the engine knows it no more, which orAbsent takes for the end.
      for (;;) {
        await container.inspect({ abortSignal });
        await sleep(POLL_MS, abortSignal);
      }
    }
  }, undefined);
}
