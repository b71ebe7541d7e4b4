/** Policies of users: ES modules that run in the sandbox. */
import { z } from 'zod';
import { type ObjectKind, objectKinds } from '../../../docker/objects.js';
import { AppError } from '../../../errors.js';
import type { MergeRule } from '../../claims/merge.js';
import { isMergeRule, type Policy } from '../policy.js';
import type { Sandbox, SandboxModule } from '../sandbox.js';

/** A policy that instances can be made of. */
export interface PolicyKind {
  readonly name: string;
  /** Whether it declares a configuration: without one it runs once, and needs no instance. */
  readonly isConfigured: boolean;
  /** @throws AppError `invalid_argument` for a configuration that it does not take. */
  instance(instance: string, config: unknown): Policy;
}

/** Loaded in the sandbox until it is let go. */
export interface UserPolicy extends PolicyKind {
  unload(): Promise<void>;
}

let loads = 0;

/** @throws AppError `invalid_argument` with what is wrong with it; nothing is loaded then. */
export async function loadUserPolicy(sandbox: Sandbox, name: string, source: string): Promise<UserPolicy> {
  // A name of its own: the version before this one goes on until this one is known to be good.
  const loaded = `${name}#${String((loads += 1))}`;
  try {
    const module = await sandbox.load(loaded, source, `${name}.js`);
    return { ...userPolicy(sandbox, loaded, name, module), unload: () => sandbox.unload(loaded) };
  } catch (reason) {
    await sandbox.unload(loaded).catch(() => undefined);
    throw reason;
  }
}

function userPolicy(sandbox: Sandbox, loaded: string, name: string, module: SandboxModule): PolicyKind {
  const { merge, overwrite } = settingsOf(module.exports);
  const kinds = objectKinds.filter((kind) => module.kinds.includes(kind));
  if (kinds.length === 0)
    throw refused(`it exports no function for a kind of object: give one of ${objectKinds.join(', ')}`);
  const schema = schemaOf(module.exports['config']);
  return {
    name,
    isConfigured: schema !== null,
    instance: (instance, config) => {
      const parsed = parseConfig(schema, config);
      return {
        name: `${name}/${instance}`,
        merge,
        overwrite,
        kinds: new Set<ObjectKind>(kinds),
        run: (subject) => sandbox.run(loaded, subject.kind, JSON.stringify([subject, parsed])),
      };
    },
  };
}

function settingsOf(exports: SandboxModule['exports']): { merge: MergeRule; overwrite: boolean } {
  const { merge = 'min', overwrite = false } = exports;
  if (!isMergeRule(merge))
    throw refused(`it exports merge = ${JSON.stringify(merge)}: give "min", "first" or "union"`);
  if (typeof overwrite !== 'boolean')
    throw refused(`it exports overwrite = ${JSON.stringify(overwrite)}: give true or false`);
  return { merge, overwrite };
}

/** JSON Schema, as far as it needs no program: a pattern would run here, without the sandbox's limits. */
function schemaOf(declared: unknown): z.ZodType | null {
  if (declared === undefined || declared === null) return null;
  if (typeof declared !== 'object' || ((declared as { type?: unknown }).type ?? 'object') !== 'object')
    throw refused('it exports a config that is no JSON Schema of an object');
  for (const keyword of ['pattern', 'patternProperties', '$ref']) {
    if (JSON.stringify(declared).includes(`${JSON.stringify(keyword)}:`))
      throw refused(`its config uses "${keyword}", which is not supported: check it in the function`);
  }
  try {
    const schema = z.fromJSONSchema({ type: 'object', ...declared });
    // Parts of it are looked at when they are used first.
    schema.safeParse({});
    return schema;
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new AppError('invalid_argument', `its config is no JSON Schema: ${text}`, { cause });
  }
}

function parseConfig(schema: z.ZodType | null, config: unknown): unknown {
  if (typeof config !== 'object' || config === null || Array.isArray(config))
    throw refused('a configuration is a JSON object');
  if (schema === null) {
    if (Object.keys(config).length === 0) return {};
    throw refused('the policy takes no configuration: it exports no config');
  }
  const parsed = schema.safeParse(config);
  if (parsed.success) return parsed.data;
  throw refused(
    parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`).join('; '),
  );
}

function refused(text: string): AppError {
  return new AppError('invalid_argument', text);
}
