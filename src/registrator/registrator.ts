/**
 * The registrator: what runs on this host, by policies, in the registry.
 *
 * events -> objects/ (inspected, what has changed) -> evaluation.ts (through each policy) -> registry.ts (what this host
 * wants, by key) -> backends/ (made so, for ever). policies/library/ tells which policies these are.
 */
import type { EventStream } from '../docker/event-stream.js';
import type { EngineObjects, ObjectKind } from '../docker/objects.js';
import type { Log } from '../log.js';
import type { State } from '../state/state.js';
import type { Backends, Farewell } from './backends/backend.js';
import { type Evaluated, Evaluation } from './evaluation.js';
import type { ObserverLimits } from './objects/limits.js';
import { createObservedObjects, type ObservedObjects } from './objects/observed-objects.js';
import type { BuiltInName } from '../config-values.js';
import { createPolicyLibrary, type PolicyLibrary } from './policies/library/library.js';
import { createPolicyDirectory } from './policies/library/policy-files.js';
import { createSandbox, type Sandbox } from './policies/sandbox.js';
import type { NodeOfSubject } from './policies/subject.js';
import type { PolicyStatus, RegistratorStats } from './registrator-stats.js';
import { createRegistry, parseSource } from './registry.js';

export interface RegistratorOptions {
  /** Where instances of policies are followed; null: nowhere. */
  readonly state: Pick<State, 'watch'> | null;
  readonly stream: Pick<EventStream, 'subscribe'>;
  readonly objects: EngineObjects;
  readonly node: NodeOfSubject;
  readonly backends: Backends;
  readonly policies: PolicySources;
  readonly log: Log;
  readonly evaluated?: (evaluation: Evaluated) => void;
  readonly limits?: Partial<ObserverLimits>;
}

export interface PolicySources {
  /** Built-in ones that run with their defaults. */
  readonly defaults: readonly BuiltInName[];
  /** Where this process sees the files, and what people call it; null: none. */
  readonly directory: { readonly path: string; readonly shown: string } | null;
}

export interface Registrator {
  /** Resolves when all that was there at the start is registered. */
  readonly ready: Promise<void>;
  stats(): RegistratorStats;
  /** Something of this object may have changed of which no event tells. */
  lookAt(kind: ObjectKind, id: string): void;
  /** Never throws. */
  close(farewell: Farewell): Promise<void>;
}

export function createRegistrator(options: RegistratorOptions): Registrator {
  const registrator = new PolicyRegistrator(options);
  registrator.start();
  return registrator;
}

class PolicyRegistrator implements Registrator {
  readonly #options: RegistratorOptions;
  readonly #sandbox: Sandbox;
  readonly #evaluation: Evaluation;
  readonly #library: PolicyLibrary;
  readonly #ready = Promise.withResolvers<undefined>();
  #observed: ObservedObjects | null = null;
  #timer: NodeJS.Timeout | undefined;
  #isReady = false;
  readonly #closing = new AbortController();

  constructor(options: RegistratorOptions) {
    const { backends, log, node, evaluated, policies } = options;
    this.#options = options;
    this.#sandbox = createSandbox();
    this.#evaluation = new Evaluation({
      registry: createRegistry(backends, log),
      node,
      log,
      ...(evaluated ? { evaluated } : {}),
    });
    this.#library = createPolicyLibrary({
      state: options.state,
      directory:
        policies.directory && createPolicyDirectory(policies.directory.path, policies.directory.shown),
      defaults: policies.defaults,
      sandbox: this.#sandbox,
      listener: {
        add: (policy) => {
          this.#evaluation.add(policy);
        },
        remove: (name) => {
          this.#evaluation.remove(name);
        },
        changed: () => {
          this.#observed?.retell();
        },
      },
      log,
    });
  }

  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  start(): void {
    void this.#begin().catch((err: unknown) => {
      this.#options.log.error({ err }, 'the registrator has ended');
    });
  }

  /** Objects are looked at when the policies are known: what they gave before is not withdrawn and put back. */
  async #begin(): Promise<void> {
    await this.#library.loaded;
    if (this.#isClosing()) return;
    const { stream, objects, log, limits, backends } = this.#options;
    this.#observed = createObservedObjects({
      stream,
      objects,
      log,
      onChange: (kind, id, object) => this.#evaluation.onChange(kind, id, object),
      ...(limits ? { limits } : {}),
    });
    await this.#observed.complete;
    await this.#library.whole;
    if (this.#isClosing()) return;
    this.#complete();
    await backends.settled();
    this.#isReady = true;
    this.#ready.resolve(undefined);
    log.info({ registered: this.stats().backends }, 'what runs here is registered');
  }

  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  /** Now, and again and again: what could not be known at first may be known later. */
  #complete(): void {
    this.#options.backends.complete((source) => this.#isUnknown(source));
    this.#timer ??= setInterval(() => {
      this.#complete();
    }, COMPLETE_EVERY_MS).unref();
  }

  /** What a claim of before comes from is not known now: a policy with a mistake, an object that cannot be looked at. */
  #isUnknown(source: string): boolean {
    const { policy, kind, id } = parseSource(source);
    return this.#library.isInTrouble(policy) || this.#observed?.isUnknown(kind, id) === true;
  }

  stats(): RegistratorStats {
    return {
      ready: this.#isReady,
      objects: this.#observed?.stats() ?? NOTHING_OBSERVED,
      backends: this.#options.backends.stats(),
      policies: this.#policies(),
    };
  }

  lookAt(kind: ObjectKind, id: string): void {
    this.#observed?.lookAt(kind, id);
  }

  async close(farewell: Farewell): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#timer);
    // All at once: what waits for a policy ends with the sandbox.
    await Promise.all([this.#library.close(), this.#observed?.close(), this.#sandbox.close()]);
    await this.#options.backends.close(farewell);
  }

  #policies(): PolicyStatus[] {
    const met = new Map(this.#evaluation.problems.map((problem) => [problem.policy, problem]));
    return this.#library.status().map((status) => {
      const failed = met.get(status.name);
      if (!failed || status.problem !== null) return status;
      return { ...status, problem: `${failed.problem} (${failed.object})` };
    });
  }
}

const COMPLETE_EVERY_MS = 60_000;
const NOTHING_OBSERVED = { known: {}, pending: 0, inspections: 0, changes: 0, reconciles: 0, failures: 0 };
