/**
 * Runs the policies over the objects: each object that has changed through each policy that has a function for its kind.
 * What one event costs is the number of policies, however many objects there are.
 *
 * INVARIANT: a policy that fails harms nobody else. What it gave for an object before stays until it gives something else
 * or the object goes; it is told what failed, and one that takes its time again and again is left out until it changes. What may
 * have failed for another reason than the policy is thrown at the end, to be tried again.
 */
import type { Inspected, ObjectKind } from '../docker/objects.js';
import { AppError, hasCode } from '../errors.js';
import type { Log } from '../log.js';
import { keysOf, type Policy } from './policies/policy.js';
import { type NodeOfSubject, type Subject, subjectOf } from './policies/subject.js';
import type { Registry } from './registry.js';

export interface EvaluationOptions {
  readonly registry: Registry;
  readonly node: NodeOfSubject;
  readonly log: Log;
  readonly evaluated?: (evaluation: Evaluated) => void;
}

/** One look of a policy at an object. */
export interface Evaluated {
  readonly policy: string;
  readonly kind: ObjectKind;
  readonly tookMs: number;
  readonly failed: boolean;
}

export interface PolicyProblem {
  readonly policy: string;
  /** The object it met last. */
  readonly object: string;
  readonly problem: string;
}

/** What may be another way the next time: a busy machine, a full registry. */
const PASSING = ['unavailable', 'deadline_exceeded', 'no_space'] as const;
const NOTHING: ReadonlyMap<string, string> = new Map();
/** So often too slow, and it is left out; five that were in time make good for one. */
const SLOW_LIMIT = 5;
const SLOW_FORGIVEN = 0.2;

export class Evaluation {
  readonly #options: EvaluationOptions;
  readonly #policies = new Map<string, Policy>();
  readonly #problems = new Map<string, PolicyProblem>();
  /** How often a policy was too slow, less what it was forgiven. */
  readonly #slow = new Map<string, number>();

  constructor(options: EvaluationOptions) {
    this.#options = options;
  }

  get problems(): PolicyProblem[] {
    return [...this.#problems.values()];
  }

  /** Adds it, or replaces the one of its name. All objects have to be told again. */
  add(policy: Policy): void {
    this.#policies.set(policy.name, policy);
    this.#problems.delete(policy.name);
    this.#slow.delete(policy.name);
  }

  /** Takes it away, with all that it gave. */
  remove(name: string): void {
    this.#policies.delete(name);
    this.#problems.delete(name);
    this.#slow.delete(name);
    this.#options.registry.dropPolicy(name);
  }

  async onChange(kind: ObjectKind, id: string, object: Inspected | null): Promise<void> {
    const { registry, node } = this.#options;
    if (object === null) {
      registry.dropObject({ kind, id });
      return;
    }
    const subject = subjectOf(kind, id, object, node);
    const unfinished: unknown[] = [];
    for (const policy of [...this.#policies.values()]) {
      // The version before this one may have had a function for the kind.
      if (!policy.kinds.has(kind)) registry.set(policy, { kind, id }, NOTHING);
      else if ((this.#slow.get(policy.name) ?? 0) < SLOW_LIMIT)
        await this.#evaluate(policy, subject).catch((reason: unknown) => unfinished.push(reason));
    }
    if (unfinished.length > 0) throw unfinished[0];
  }

  /** @throws AppError with a code of `PASSING` when that is not the policy's answer: another try may bring it. */
  async #evaluate(policy: Policy, subject: Subject): Promise<void> {
    const { kind, id, name } = subject;
    const startMs = performance.now();
    let failed = false;
    try {
      const keys = keysOf(await policy.run(subject));
      if (!this.#isCurrent(policy)) return;
      this.#options.registry.set(policy, { kind, id }, keys);
      this.#slow.set(policy.name, Math.max(0, (this.#slow.get(policy.name) ?? 0) - SLOW_FORGIVEN));
      this.#problems.delete(policy.name);
    } catch (reason) {
      if (!this.#isCurrent(policy)) return;
      failed = true;
      this.#failed(policy, `${kind} ${name}`, reason);
      if (hasCode(reason, ...PASSING)) throw reason;
    } finally {
      this.#options.evaluated?.({ policy: policy.name, kind, tookMs: performance.now() - startMs, failed });
    }
  }

  /** It may have been taken away, or replaced, meanwhile. */
  #isCurrent(policy: Policy): boolean {
    return this.#policies.get(policy.name) === policy;
  }

  #failed(policy: Policy, object: string, reason: unknown): void {
    const isSlow = hasCode(reason, 'deadline_exceeded', 'unavailable');
    const times = (this.#slow.get(policy.name) ?? 0) + (isSlow ? 1 : 0);
    this.#slow.set(policy.name, times);
    const left = times >= SLOW_LIMIT ? ': left out until it is changed' : '';
    const problem = `${AppError.from(reason).message}${left}`;
    const known = this.#problems.get(policy.name);
    this.#problems.set(policy.name, { policy: policy.name, object, problem });
    if (known?.problem !== problem)
      this.#options.log.warn(
        { policy: policy.name, object, problem },
        'a policy failed: what it gave before stays',
      );
  }
}
