import type { z } from 'zod';
import type { ObjectKind } from '../../../docker/objects.js';
import { AppError } from '../../../errors.js';
import type { MergeRule } from '../../claims/merge.js';
import type { Policy } from '../policy.js';
import type { Subject } from '../subject.js';

/** A policy of ours: the same as those of users, but trusted. */
export interface BuiltIn<C> {
  readonly name: string;
  readonly config: z.ZodType<C>;
  readonly merge: MergeRule;
  /** Pure: the same object gives the same keys, on every host and at any time. */
  readonly functions: Readonly<Partial<Record<ObjectKind, (subject: Subject, config: C) => unknown>>>;
}

/** @throws AppError `invalid_argument` for a configuration that it does not take. */
export function instanceOf<C>(builtIn: BuiltIn<C>, instance: string, config: unknown): Policy {
  const parsed = builtIn.config.safeParse(config);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`);
    const text = `the configuration ${instance} of policy ${builtIn.name} is not allowed: ${problems.join('; ')}`;
    throw new AppError('invalid_argument', text);
  }
  const kinds = Object.keys(builtIn.functions) as ObjectKind[];
  return {
    name: `${builtIn.name}/${instance}`,
    merge: builtIn.merge,
    overwrite: false,
    kinds: new Set(kinds),
    run: (subject) => Promise.resolve(builtIn.functions[subject.kind]?.(subject, parsed.data)),
  };
}
