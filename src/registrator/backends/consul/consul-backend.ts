/**
 * Keeps the services of one owner at the Consul agent of this host.
 *
 * Level-triggered: before anything is written the agent's services are listed, and what has to be done about each is
 * decided from that (registration.ts). All of them are looked at when it starts, after each failure and every half a
 * minute: an agent that was started anew may have forgotten them, and a service of somebody else may have gone.
 */
import type { Ctx } from '../../../context.js';
import { withDeadline } from '../../../context.js';
import { AppError, hasCode } from '../../../errors.js';
import { createBackoff } from '../../../lib/backoff.js';
import { eachOf } from '../../../lib/each-of.js';
import { sleep } from '../../../lib/sleep.js';
import type { Log } from '../../../log.js';
import type { Wanted } from '../../claims/step.js';
import type { BackendStats, Farewell, RegistryBackend } from '../backend.js';
import { type AgentOptions, type ConsulAgent, createConsulAgent, type Outcome } from './agent.js';
import { type AgentService, marks, stepOf } from './registration.js';
import { consulKey, serviceIdOf } from './service-key.js';
import { ServiceTroubles } from './troubles.js';

export interface ConsulBackendOptions extends Omit<AgentOptions, 'atOnce'> {
  /** Unique among those who use the agent, and the same after a restart. */
  readonly owner: string;
  readonly log: Log;
  readonly retryMinMs?: number;
  /** How often all services are looked at. */
  readonly resyncMs?: number;
}

const RESYNC_MS = 30_000;
/** An engine gives the whole plugin ten seconds. */
const CLOSE_MS = 3_000;
/** Of one look at many services; what is not done by then is done by the next. */
const PASS_MS = 30_000;
const MAX_RETRY_MS = 5_000;
const SIDE_BY_SIDE = 8;

/** @throws AppError `invalid_argument` for an address that is none. */
export function createConsulBackend(options: ConsulBackendOptions): RegistryBackend {
  const backend = new AgentBackend(options);
  backend.start();
  return backend;
}

class AgentBackend implements RegistryBackend {
  readonly #options: ConsulBackendOptions;
  readonly #agent: ConsulAgent;
  /** By id. A null is a wish too, until all is known: it tells a service that is not wanted from one of before. */
  readonly #wanted = new Map<string, Wanted | null>();
  readonly #dirty = new Set<string>();
  readonly #working = new Set<string>();
  /** What the agent could not do; looked at again in a while, without holding up the others. */
  readonly #deferred = new Set<string>();
  #deferring = false;
  readonly #troubles: ServiceTroubles;
  readonly #aborted = new AbortController();
  readonly #backoff;
  readonly #deferBackoff;
  readonly #waiting: (() => void)[] = [];
  /** All are to be looked at. */
  #allDue = true;
  #allAtWork = false;
  #closing = false;
  #complete = false;
  #keep: (source: string) => boolean = () => false;
  #failing = false;
  #writes = 0;
  #failures = 0;
  #wake: () => void = () => undefined;
  #resync: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();

  constructor(options: ConsulBackendOptions) {
    this.#options = options;
    this.#agent = createConsulAgent({ ...options, atOnce: SIDE_BY_SIDE });
    this.#troubles = new ServiceTroubles(options.log);
    const retry = { minMs: options.retryMinMs ?? 200, maxMs: MAX_RETRY_MS };
    this.#backoff = createBackoff(retry);
    this.#deferBackoff = createBackoff(retry);
  }

  start(): void {
    const resync = () => {
      this.#allDue = true;
      this.#wake();
    };
    this.#resync = setInterval(resync, this.#options.resyncMs ?? RESYNC_MS).unref();
    this.#running = this.#run();
  }

  want(key: string, wanted: Wanted | null): void {
    if (this.#closing) return;
    const id = serviceIdOf(key);
    if (id === null) {
      this.#troubles.isRefused(key, 'it names no service of Consul');
      return;
    }
    if (wanted || !this.#complete) this.#wanted.set(id, wanted);
    else this.#wanted.delete(id);
    this.#dirty.add(id);
    this.#wake();
  }

  complete(keep: (source: string) => boolean = () => false): void {
    this.#complete = true;
    this.#keep = keep;
    for (const [id, wanted] of this.#wanted) if (!wanted) this.#wanted.delete(id);
    this.#allDue = true;
    this.#wake();
  }

  async settled(): Promise<void> {
    if (this.#pending === 0) return;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  get #pending(): number {
    const isAnythingSaid = this.#wanted.size > 0 || this.#complete;
    const all = isAnythingSaid && (this.#allDue || this.#allAtWork) ? 1 : 0;
    return this.#dirty.size + this.#working.size + this.#deferred.size + all;
  }

  stats(): BackendStats {
    return {
      wanted: this.#wanted.size,
      pending: this.#pending,
      writes: this.#writes,
      failures: this.#failures,
      // A service has one owner: another one's is foreign.
      conflicts: [],
      foreign: this.#troubles.foreign,
    };
  }

  async close(how: Farewell): Promise<void> {
    if (how === 'withdraw' && !this.#closing) {
      for (const id of this.#wanted.keys()) this.want(consulKey(id), null);
      this.complete();
      await Promise.race([this.settled(), sleep(CLOSE_MS)]);
    }
    this.#closing = true;
    clearInterval(this.#resync);
    this.#wake();
    this.#aborted.abort();
    await this.#running;
    this.#agent.close();
  }

  async #run(): Promise<void> {
    while (await this.#somethingToDo()) {
      this.#allAtWork = this.#allDue;
      this.#allDue = false;
      for (const id of this.#dirty) this.#working.add(id);
      this.#dirty.clear();
      try {
        await this.#pass();
        if (this.#failing) this.#options.log.info('the services of this host are kept in Consul again');
        this.#failing = false;
        this.#backoff.reset();
      } catch (reason) {
        this.#failed(reason);
        for (const id of this.#working) this.#dirty.add(id);
        this.#allDue = true;
        await sleep(this.#backoff.nextMs(), this.#aborted.signal);
      }
      this.#working.clear();
      this.#allAtWork = false;
      if (this.#pending === 0) for (const resolve of this.#waiting.splice(0)) resolve();
    }
  }

  #failed(reason: unknown): void {
    this.#failures += 1;
    if (this.#closing || this.#failing) return;
    this.#failing = true;
    const text = 'the services of this host cannot be kept in Consul; trying again';
    this.#options.log.warn({ err: AppError.from(reason) }, text);
  }

  /** False at the end. */
  async #somethingToDo(): Promise<boolean> {
    if (this.#dirty.size === 0 && !this.#allDue && !this.#closing) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return !this.#closing;
  }

  /** @throws AppError when the agent is away. */
  async #pass(): Promise<void> {
    const ctx = withDeadline(
      { log: this.#options.log, signal: this.#aborted.signal, requestId: 'consul' },
      PASS_MS,
    );
    const services = await this.#agent.services(ctx);
    if (this.#allAtWork) for (const id of this.#all(services)) this.#working.add(id);
    const lost: unknown[] = [];
    await eachOf([...this.#working], SIDE_BY_SIDE, async (id) => {
      if (lost.length > 0) return;
      // The workers beside this one are to end before the pass does.
      await this.#settle(ctx, id, services.get(id)).catch((reason: unknown) => lost.push(reason));
    });
    if (lost.length > 0) throw AppError.from(lost[0]);
    this.#lookAtDeferred();
  }

  /** Own services from before are let be until all that is wanted is known. */
  #all(services: ReadonlyMap<string, AgentService>): string[] {
    const { owner } = this.#options;
    const ours = [...services].filter(([, { meta }]) => meta[marks.owner] === owner).map(([id]) => id);
    return [...this.#wanted.keys(), ...(this.#complete ? ours : [])];
  }

  /** @throws AppError when the agent is away. */
  async #settle(ctx: Ctx, id: string, there: AgentService | undefined): Promise<void> {
    this.#deferred.delete(id);
    if (this.#isLetBe(id, there)) return;
    try {
      const step = stepOf(id, this.#wanted.get(id) ?? null, { there, owner: this.#options.owner });
      this.#troubles.look(id, step);
      if (step.kind === 'register') this.#written(id, await this.#agent.register(ctx, step.registration));
      if (step.kind === 'deregister') this.#written(id, await this.#agent.deregister(ctx, id));
    } catch (reason) {
      // What was registered before stays: a service that is nearly right is better than none.
      if (hasCode(reason, 'invalid_argument')) this.#refused(id, reason.message);
      else if (hasCode(reason, 'deadline_exceeded')) this.#later(id, reason.message);
      else throw reason;
    }
  }

  /** What nobody wants is withdrawn once that is known. */
  #isLetBe(id: string, there: AgentService | undefined): boolean {
    if (!this.#complete) return !this.#wanted.has(id);
    return !this.#wanted.has(id) && this.#keep(there?.meta[marks.source] ?? '');
  }

  #written(id: string, outcome: Outcome): void {
    if (outcome.kind === 'refused') this.#refused(id, outcome.problem);
    else if (outcome.kind === 'later') this.#later(id, outcome.problem);
    else {
      this.#writes += 1;
      this.#troubles.isDone(id);
    }
  }

  /** It is tried again when all are looked at, or when something else is wanted. */
  #refused(id: string, problem: string): void {
    this.#failures += 1;
    this.#troubles.isRefused(consulKey(id), problem);
  }

  #later(id: string, problem: string): void {
    this.#refused(id, problem);
    this.#deferred.add(id);
  }

  #lookAtDeferred(): void {
    if (this.#deferred.size === 0) this.#deferBackoff.reset();
    if (this.#deferred.size === 0 || this.#deferring) return;
    this.#deferring = true;
    void sleep(this.#deferBackoff.nextMs(), this.#aborted.signal).then(() => {
      this.#deferring = false;
      for (const id of this.#deferred) this.#dirty.add(id);
      this.#wake();
    });
  }
}
