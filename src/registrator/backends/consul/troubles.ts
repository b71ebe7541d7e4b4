import type { Log } from '../../../log.js';
import type { Step } from './registration.js';
import { consulKey } from './service-key.js';

/** What people should know of services: told once in the log, each time it begins. */
export class ServiceTroubles {
  readonly #log: Log;
  readonly #foreign = new Set<string>();
  /** By key: why. */
  readonly #refused = new Map<string, string>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Keys whose service somebody else has registered. */
  get foreign(): string[] {
    return [...this.#foreign];
  }

  look(id: string, step: Step): void {
    const key = consulKey(id);
    if (step.kind === 'none') this.isDone(id);
    if (step.kind !== 'foreign') this.#foreign.delete(key);
    else if (!this.#foreign.has(key)) {
      this.#foreign.add(key);
      this.#log.warn({ key }, 'a service that is wanted was registered by somebody else: it stays as it is');
    }
  }

  isRefused(key: string, problem: string): void {
    if (this.#refused.get(key) === problem) return;
    this.#refused.set(key, problem);
    this.#log.warn({ key, problem }, 'a service cannot be registered in Consul, or not be taken out of it');
  }

  isDone(id: string): void {
    this.#refused.delete(consulKey(id));
  }
}
