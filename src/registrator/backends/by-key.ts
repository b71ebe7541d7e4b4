import type { Log } from '../../log.js';
import type { Wanted } from '../claims/step.js';
import type { Backends, BackendStats, Farewell, RegistryBackend } from './backend.js';
import { CONSUL_SCHEME } from './consul/service-key.js';

/** Those that are configured, at least one. */
export type ConfiguredBackends = Readonly<Partial<Record<BackendName, RegistryBackend>>>;
type BackendName = 'etcd' | 'consul';

/** One for all keys: a key's scheme tells which backend it goes to, and without a scheme it is etcd's. */
export function createBackends(backends: ConfiguredBackends, log: Log): Backends {
  return new BackendsByKey(backends, log);
}

class BackendsByKey implements Backends {
  readonly #backends: ConfiguredBackends;
  readonly #log: Log;
  /** Told of already. */
  readonly #missing = new Set<BackendName>();

  constructor(backends: ConfiguredBackends, log: Log) {
    this.#backends = backends;
    this.#log = log;
  }

  want(key: string, wanted: Wanted | null): void {
    const name = key.startsWith(CONSUL_SCHEME) ? 'consul' : 'etcd';
    const backend = this.#backends[name];
    if (backend) backend.want(key, wanted);
    else if (wanted && !this.#missing.has(name)) {
      this.#missing.add(name);
      const { source } = wanted;
      this.#log.warn({ key, source }, `a policy wants keys in ${name}, which is not configured`);
    }
  }

  complete(keep?: (source: string) => boolean): void {
    for (const backend of this.#all()) backend.complete(keep);
  }

  async settled(): Promise<void> {
    await Promise.all(this.#all().map((backend) => backend.settled()));
  }

  stats(): Readonly<Record<string, BackendStats>> {
    return Object.fromEntries(
      Object.entries(this.#backends).map(([name, backend]) => [name, backend.stats()]),
    );
  }

  async close(how: Farewell): Promise<void> {
    await Promise.all(this.#all().map((backend) => backend.close(how)));
  }

  #all(): RegistryBackend[] {
    return Object.values(this.#backends);
  }
}
