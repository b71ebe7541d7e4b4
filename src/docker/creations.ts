import type Docker from 'dockerode';
import { sleep } from '../lib/sleep.js';
import { statusOf } from './engine-call.js';

export type CreateOptions = Docker.ContainerCreateOptions & { readonly name: string };

/** A call that the engine has not answered by then is cut off: it may hang for good. */
const LIMIT_MS = 120_000;
const POLL_MS = 100;

/**
 * Creations of containers that are under way. The engine finishes one whose caller has left, so such a call goes on
 * behind its caller, and who then removes the container waits for it: removed before it was there, it would stay.
 */
export class Creations {
  readonly #docker: Docker;
  /** Name -> settles, and never rejects, when the engine has answered. */
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(docker: Docker) {
    this.#docker = docker;
  }

  /** Answers false when there is a container of this name. */
  async create(options: CreateOptions, signal: AbortSignal): Promise<boolean> {
    const { name } = options;
    for (;;) {
      await this.settled(name, signal);
      if (await this.#send(options, signal)) return true;
      // The name is taken before the container is there, and while it is taken away: by a call of an earlier process.
      if (await this.#isThere(name, signal)) return false;
      await sleep(POLL_MS, signal);
    }
  }

  /** Resolves when no creation under this name is under way. @throws when the signal aborts. */
  async settled(name: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const underWay = this.#underWay.get(name);
      if (!underWay) return;
      await unlessAborted(underWay, signal);
    }
  }

  async #send(options: CreateOptions, signal: AbortSignal): Promise<boolean> {
    const { name } = options;
    const abortSignal = AbortSignal.timeout(LIMIT_MS);
    const creation = this.#docker.createContainer({ ...options, abortSignal });
    const over = () => {
      this.#underWay.delete(name);
    };
    this.#underWay.set(name, creation.then(over, over));
    try {
      await unlessAborted(creation, signal);
      return true;
    } catch (reason) {
      if (statusOf(reason) === 409) return false;
      throw reason;
    }
  }

  async #isThere(name: string, abortSignal: AbortSignal): Promise<boolean> {
    try {
      await this.#docker.getContainer(name).inspect({ abortSignal });
      return true;
    } catch (reason) {
      if (statusOf(reason) === 404) return false;
      throw reason;
    }
  }
}

/** Rejects with the signal's reason when that comes first; the promise goes on. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => {
    aborted.reject(signal.reason);
  };
  signal.addEventListener('abort', abort);
  try {
    signal.throwIfAborted();
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
