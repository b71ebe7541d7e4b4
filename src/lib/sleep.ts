import { setTimeout as delay } from 'node:timers/promises';

/** Waits ms, or until the signal aborts; never throws. Does not keep the process alive. */
export async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  await delay(ms, undefined, { ref: false, ...(signal ? { signal } : {}) }).catch(() => undefined);
}
