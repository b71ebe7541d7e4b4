import type { Log } from '../../log.js';
import type { Wanted } from '../claims/step.js';
import type { Backends, BackendStats, Farewell, RegistryBackend } from './backend.js';
import { CONSUL_SCHEME } from './consul/service-key.js';

export interface ConfiguredBackends {
  readonly etcd: RegistryBackend;
  readonly consul?: RegistryBackend;
}

/** One for all keys: a key's scheme tells which backend it goes to, and without a scheme it is etcd's. */
export function createBackends(backends: ConfiguredBackends, log: Log): Backends {
  return new BackendsByKey(backends, log);
}

class BackendsByKey implements Backends {
  readonly #etcd: RegistryBackend;
  readonly #consul: RegistryBackend | undefined;
  readonly #log: Log;
  #hasToldOfConsul = false;

  constructor({ etcd, consul }: ConfiguredBackends, log: Log) {
    this.#etcd = etcd;
    this.#consul = consul;
    this.#log = log;
  }

  want(key: string, wanted: Wanted | null): void {
    if (!key.startsWith(CONSUL_SCHEME)) this.#etcd.want(key, wanted);
    else if (this.#consul) this.#consul.want(key, wanted);
    else if (wanted && !this.#hasToldOfConsul) {
      this.#hasToldOfConsul = true;
      const { source } = wanted;
      this.#log.warn({ key, source }, 'a policy wants services in Consul, and no Consul agent is configured');
    }
  }

  complete(): void {
    for (const backend of this.#all()) backend.complete();
  }

  async settled(): Promise<void> {
    await Promise.all(this.#all().map((backend) => backend.settled()));
  }

  stats(): Readonly<Record<string, BackendStats>> {
    const etcd = this.#etcd.stats();
    return this.#consul ? { etcd, consul: this.#consul.stats() } : { etcd };
  }

  async close(how: Farewell): Promise<void> {
    await Promise.all(this.#all().map((backend) => backend.close(how)));
  }

  #all(): RegistryBackend[] {
    return this.#consul ? [this.#etcd, this.#consul] : [this.#etcd];
  }
}
