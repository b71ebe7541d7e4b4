/**
 * Which instances of which policies run: those of the settings with their defaults, those of files, and those of shared
 * state, followed live. What is bad is told and kept out: a version that was good goes on until a good one follows, or
 * the instance is taken away.
 *
 * Of instances with the same name a file of this host goes before shared state, and that before the defaults. A policy of
 * a file goes before a built-in one of its name.
 */
import { createHash } from 'node:crypto';
import { AppError } from '../../../errors.js';
import type { Log } from '../../../log.js';
import { sleep } from '../../../lib/sleep.js';
import { keys } from '../../../state/keys.js';
import type { State, Watch, WatchEvent } from '../../../state/state.js';
import type { PolicyStatus } from '../../registrator-stats.js';
import type { BuiltInName } from '../../../config-values.js';
import type { Policy } from '../policy.js';
import type { PolicyKind } from './user-policy.js';
import type { Sandbox } from '../sandbox.js';
import { PolicyModules, troubleOf, type Trouble, type Troubles } from './modules.js';
import { noPolicyName, policyName } from './policy-files.js';
import type { FoundText, PolicyDirectory, PolicyFiles } from './policy-files.js';

export interface PolicyLibraryOptions {
  /** Null: instances in shared state are not followed. */
  readonly state: Pick<State, 'watch'> | null;
  readonly directory: PolicyDirectory | null;
  /** Built-in policies that run unless an instance of their name says otherwise. */
  readonly defaults: readonly BuiltInName[];
  readonly sandbox: Sandbox;
  readonly listener: PolicyListener;
  readonly log: Log;
  readonly lookEveryMs?: number;
}

export interface PolicyListener {
  /** A new one, or another version of the one of its name. */
  add(policy: Policy): void;
  remove(name: string): void;
  /** After one or more of these. */
  changed(): void;
}

export interface PolicyLibrary {
  /** Resolves when all that was there at the start runs, or is known to be bad; of shared state what came within 10 s. */
  readonly loaded: Promise<void>;
  /** Resolves when shared state is known too. */
  readonly whole: Promise<void>;
  /** There is something of this name that has never been good: what it gave before is not known. */
  isInTrouble(instance: string): boolean;
  status(): PolicyStatus[];
  close(): Promise<void>;
}

const LOOK_EVERY_MS = 2_000;
/** Services of a Consul agent, say, do not wait for an etcd that is away. */
const PATIENCE_MS = 10_000;

export function createPolicyLibrary(options: PolicyLibraryOptions): PolicyLibrary {
  const library = new FollowedLibrary(options);
  library.start();
  return library;
}

interface Running {
  /** Of the policy's version and the configuration. */
  readonly signature: string;
  readonly policy: PolicyKind;
  readonly from: string;
}

const NO_FILES: PolicyFiles = { modules: new Map(), instances: new Map(), problems: new Map() };
/** A default's configuration. */
const EMPTY = '{}';

class FollowedLibrary implements PolicyLibrary {
  readonly #options: PolicyLibraryOptions;
  readonly #closing = new AbortController();
  readonly #loaded = Promise.withResolvers<undefined>();
  readonly #whole = Promise.withResolvers<undefined>();
  readonly #modules: PolicyModules;
  readonly #running = new Map<string, Running>();
  /** By name of an instance, or by path of a file that is no policy. */
  readonly #problems = new Map<string, Trouble>();
  readonly #inState = new Map<string, FoundText>();
  #files = NO_FILES;
  #filesAreKnown = false;
  #stateIsKnown: boolean;
  #isPatient = true;
  #patience: NodeJS.Timeout | undefined;
  #watch: Watch | null = null;
  #turn: Promise<void> = Promise.resolve();
  #looking: Promise<void> = Promise.resolve();

  constructor(options: PolicyLibraryOptions) {
    this.#options = options;
    this.#stateIsKnown = options.state === null;
    this.#modules = new PolicyModules(options.sandbox);
  }

  get loaded(): Promise<void> {
    return this.#loaded.promise;
  }

  get whole(): Promise<void> {
    return this.#whole.promise;
  }

  isInTrouble(instance: string): boolean {
    const [policyOf = ''] = instance.split('/');
    return !this.#running.has(instance) && (this.#problems.has(instance) || this.#modules.isBroken(policyOf));
  }

  start(): void {
    this.#looking = this.#look();
    this.#patience = setTimeout(() => {
      this.#isPatient = false;
      this.#apply();
    }, PATIENCE_MS).unref();
    this.#watch =
      this.#options.state?.watch(keys.policies, (event) => {
        this.#hear(event);
        this.#stateIsKnown = true;
        this.#apply();
      }) ?? null;
  }

  status(): PolicyStatus[] {
    const running = [...this.#running].map(([name, { from }]) => {
      const problem = this.#problems.get(name)?.problem ?? null;
      return { name, from, running: true, problem };
    });
    const others = [...this.#problems].filter(([name]) => !this.#running.has(name));
    return [...running, ...others.map(([name, found]) => ({ name, running: false, ...found }))];
  }

  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#patience);
    this.#watch?.close();
    await this.#looking;
    await this.#turn;
  }

  async #look(): Promise<void> {
    const { directory, log, lookEveryMs = LOOK_EVERY_MS } = this.#options;
    let lastReason = '';
    while (!this.#closing.signal.aborted) {
      try {
        const files = (await directory?.look()) ?? null;
        lastReason = '';
        if (files || !this.#filesAreKnown) {
          this.#files = files ?? this.#files;
          this.#filesAreKnown = true;
          this.#apply();
        }
      } catch (reason) {
        const err = AppError.from(reason);
        if (err.message !== lastReason) log.warn({ err }, 'policies stay as they are');
        lastReason = err.message;
      }
      await sleep(lookEveryMs, this.#closing.signal);
    }
  }

  #hear(event: WatchEvent): void {
    if (event.type === 'snapshot') {
      this.#inState.clear();
      for (const entry of event.snapshot.entries) this.#learn(entry.key, entry.value);
      return;
    }
    for (const change of event.changes) {
      if (change.type === 'put') this.#learn(change.entry.key, change.entry.value);
      else this.#inState.delete(change.key.slice(keys.policies.length));
    }
  }

  #learn(key: string, text: string): void {
    this.#inState.set(key.slice(keys.policies.length), { text, from: key });
  }

  /** One after the other: what is applied last is what is there. */
  #apply(): void {
    this.#turn = this.#turn.then(async () => {
      const isEnough = this.#stateIsKnown || !this.#isPatient;
      if (!this.#filesAreKnown || !isEnough || this.#closing.signal.aborted) return;
      await this.#settle().catch((err: unknown) => {
        this.#options.log.error({ err }, 'policies could not be changed');
      });
      this.#loaded.resolve(undefined);
      if (this.#stateIsKnown) this.#whole.resolve(undefined);
    });
  }

  async #settle(): Promise<void> {
    const troubles = new Map<string, Trouble>();
    for (const [from, problem] of this.#files.problems) troubles.set(from, { from, problem });
    await this.#modules.load(this.#files.modules, troubles);
    const wanted = this.#wanted(troubles);
    let changes = this.#stop((name) => !wanted.has(name) || !this.#isThere(name));
    for (const [name, found] of wanted) {
      try {
        if (this.#run(name, found)) changes += 1;
      } catch (reason) {
        troubles.set(name, troubleOf(found.from, reason));
      }
    }
    await this.#modules.unloadReplaced(new Set([...this.#running.values()].map(({ policy }) => policy)));
    this.#tell(troubles);
    if (changes > 0) this.#options.listener.changed();
  }

  /** Answers how many. */
  #stop(isOver: (name: string) => boolean): number {
    const over = [...this.#running.keys()].filter(isOver);
    for (const name of over) {
      this.#options.listener.remove(name);
      this.#running.delete(name);
    }
    return over.length;
  }

  /** What ran before goes on where its policy has a mistake, not where it was taken away. */
  #isThere(instance: string): boolean {
    const [policyOf = ''] = instance.split('/');
    return this.#modules.find(policyOf) !== null || this.#modules.isBroken(policyOf);
  }

  /** By name, each with the configuration that goes first. */
  #wanted(troubles: Troubles): Map<string, FoundText> {
    const wanted = new Map<string, FoundText>();
    for (const name of this.#options.defaults)
      wanted.set(`${name}/${name}`, { text: EMPTY, from: 'default' });
    for (const { name, from, isConfigured } of this.#modules.list())
      if (!isConfigured) wanted.set(`${name}/${name}`, { text: EMPTY, from });
    for (const [name, found] of [...this.#inState, ...this.#files.instances]) {
      const parts = name.split('/');
      const { from } = found;
      if (parts.length === 2 && parts.every((part) => policyName.test(part))) wanted.set(name, found);
      else troubles.set(from, { from, problem: noPolicyName });
    }
    this.#tellUnconfigured(wanted, troubles);
    return wanted;
  }

  #tellUnconfigured(wanted: ReadonlyMap<string, FoundText>, troubles: Troubles): void {
    const configured = new Set([...wanted.keys()].map((instance) => instance.split('/')[0]));
    for (const { name, from, isConfigured } of this.#modules.list()) {
      if (!isConfigured || configured.has(name) || troubles.has(from)) continue;
      const problem = `it takes a configuration, and there is none: write ${name}.json`;
      troubles.set(from, { from, problem });
    }
  }

  /** False when it runs already. */
  #run(name: string, { text, from }: FoundText): boolean {
    const [policyOf = '', instance = ''] = name.split('/');
    const found = this.#modules.find(policyOf);
    if (!found) {
      const problem = this.#modules.isBroken(policyOf) ? 'has a mistake' : 'is not there';
      throw new AppError('invalid_argument', `its policy ${policyOf} ${problem}`);
    }
    const signature = createHash('sha256').update(`${found.version}\0${text}`).digest('hex');
    const before = this.#running.get(name);
    if (before?.signature === signature) {
      if (before.from !== from) this.#running.set(name, { ...before, from });
      return false;
    }
    this.#options.listener.add(found.policy.instance(instance, parse(text)));
    this.#running.set(name, { signature, policy: found.policy, from });
    return true;
  }

  /** Each trouble is logged once, and its end. */
  #tell(troubles: Troubles): void {
    const { log } = this.#options;
    for (const [name, { from, problem }] of troubles) {
      if (this.#problems.get(name)?.problem !== problem)
        log.warn({ policy: name, from, problem }, 'a policy is kept out: what ran before goes on');
    }
    for (const name of this.#problems.keys())
      if (!troubles.has(name)) log.info({ policy: name }, 'a policy is well again');
    this.#problems.clear();
    for (const [name, found] of troubles) this.#problems.set(name, found);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AppError('invalid_argument', `it is not JSON: ${reason}`, { cause });
  }
}
