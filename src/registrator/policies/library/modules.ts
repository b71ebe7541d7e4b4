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
  /** Versions that no instance is made of any more. */
  readonly #replaced: UserPolicy[] = [];

  constructor(sandbox: Sandbox) {
    this.#sandbox = sandbox;
  }

  async load(found: ReadonlyMap<string, FoundText>, troubles: Troubles): Promise<void> {
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

  /** Once no instance of theirs runs any more. */
  async unloadReplaced(): Promise<void> {
    for (const policy of this.#replaced.splice(0)) await policy.unload().catch(() => undefined);
  }

  /** Of a file, or else a built-in one. */
  find(name: string): FoundPolicy | null {
    const module = this.#loaded.get(name);
    if (module) return { policy: module.policy, version: `file ${module.text}` };
    const policy = builtIn(name);
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
