/** The policies of files, each in its last version that was good. */
import { AppError } from '../../../errors.js';
import { builtIn } from '../built-in/all.js';
import type { Sandbox } from '../sandbox.js';
import type { FoundText } from './policy-files.js';
import { loadUserPolicy, type PolicyKind, type UserPolicy } from './user-policy.js';

export interface Trouble {
  readonly from: string;
  readonly problem: string;
}
/** By name of an instance, or by path of a file. */
export type Troubles = Map<string, Trouble>;

export function troubleOf(from: string, reason: unknown): Trouble {
  return { from, problem: AppError.from(reason).message };
}

interface LoadedModule {
  readonly text: string;
  readonly from: string;
  readonly policy: UserPolicy;
}

export interface FoundPolicy {
  readonly policy: PolicyKind;
  /** Changes with its version. */
  readonly version: string;
}

export class PolicyModules {
  readonly #sandbox: Sandbox;
  readonly #loaded = new Map<string, LoadedModule>();
  /** Versions that are not the last; instances may still be made of them. */
  #replaced: UserPolicy[] = [];
  #found: ReadonlyMap<string, FoundText> = new Map();

  constructor(sandbox: Sandbox) {
    this.#sandbox = sandbox;
  }

  async load(found: ReadonlyMap<string, FoundText>, troubles: Troubles): Promise<void> {
    this.#found = found;
    for (const [name, { text, from }] of found) {
      const before = this.#loaded.get(name);
      if (before?.text === text) continue;
      try {
        const policy = await loadUserPolicy(this.#sandbox, name, text);
        this.#loaded.set(name, { text, from, policy });
        if (before) this.#replaced.push(before.policy);
      } catch (reason) {
        troubles.set(from, troubleOf(from, reason));
      }
    }
    for (const [name, { policy }] of this.#loaded) {
      if (found.has(name)) continue;
      this.#loaded.delete(name);
      this.#replaced.push(policy);
    }
  }

  /** But for those of which instances run. */
  async unloadReplaced(inUse: ReadonlySet<PolicyKind>): Promise<void> {
    const [used, unused] = [true, false].map((is) => this.#replaced.filter((one) => inUse.has(one) === is));
    this.#replaced = used ?? [];
    for (const policy of unused ?? []) await policy.unload().catch(() => undefined);
  }

  /** There is a file, and no version of it was ever good. */
  isBroken(name: string): boolean {
    return this.#found.has(name) && !this.#loaded.has(name);
  }

  /** Of a file, or else, where there is none, a built-in one. */
  find(name: string): FoundPolicy | null {
    const module = this.#loaded.get(name);
    if (module) return { policy: module.policy, version: `file ${module.text}` };
    const policy = this.isBroken(name) ? null : builtIn(name);
    return policy && { policy, version: 'built-in' };
  }

  /** Those of files: whether they take a configuration, and where they are. */
  list(): { readonly name: string; readonly from: string; readonly isConfigured: boolean }[] {
    return [...this.#loaded].map(([name, { from, policy }]) => ({
      name,
      from,
      isConfigured: policy.isConfigured,
    }));
  }
}
