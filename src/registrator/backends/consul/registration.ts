/**
 * What is registered for a wish, and what has to be done about a service, decided from what the agent says of it. Pure.
 *
 * A service is ours by a mark in its Meta. The agent does not list a service's checks as they were registered, nor all of
 * its other fields; so the digest of the whole registration is in its Meta too, and is compared with the rest.
 */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { AppError } from '../../../errors.js';
import type { Wanted } from '../../claims/step.js';

/** Names in a service's Meta that are ours. */
export const marks = { owner: 'openebs-owner', source: 'openebs-source', digest: 'openebs-digest' } as const;

/** A service as the agent lists it, as far as it is compared. */
export interface AgentService {
  readonly name: string;
  readonly tags: readonly string[];
  readonly meta: Readonly<Record<string, string>>;
  readonly port: number;
  readonly address: string;
  readonly enableTagOverride: boolean;
}

export interface Registration {
  readonly id: string;
  /** Of the call that registers it. */
  readonly body: string;
  /** What the agent will say. */
  readonly service: AgentService;
}

export type Step =
  | { readonly kind: 'none' }
  | { readonly kind: 'register'; readonly registration: Registration }
  | { readonly kind: 'deregister' }
  /** Somebody else's, and it stays. */
  | { readonly kind: 'foreign' };

/** Consul has more than these; what is not named here is given to the agent as it is. */
const shape = z.looseObject({
  Name: z.string().min(1),
  Tags: z.array(z.string()).nullish(),
  Port: z.int().min(0).max(65_535).nullish(),
  Address: z.string().nullish(),
  Meta: z.record(z.string(), z.string()).nullish(),
  EnableTagOverride: z.boolean().nullish(),
  Check: z.looseObject({}).nullish(),
  Checks: z.array(z.looseObject({})).nullish(),
});

const FIELDS = ['ID', ...Object.keys(shape.shape)];
/** Of a value in a service's Meta, in bytes. */
export const MAX_META_VALUE = 512;

/** @throws AppError `invalid_argument` for a value that can be registered nowhere. */
export function stepOf(
  id: string,
  wanted: Wanted | null,
  { there, owner }: { readonly there: AgentService | undefined; readonly owner: string },
): Step {
  const isOurs = there?.meta[marks.owner] === owner;
  if (!wanted) return { kind: isOurs ? 'deregister' : 'none' };
  if (there && !isOurs && !wanted.overwrite) return { kind: 'foreign' };
  const registration = registrationOf(id, wanted, owner);
  return there && isSame(there, registration.service) ? { kind: 'none' } : { kind: 'register', registration };
}

/** @throws AppError `invalid_argument` */
export function registrationOf(id: string, { value, source }: Wanted, owner: string): Registration {
  const given = parse(value);
  const digest = createHash('sha256')
    .update(JSON.stringify(sorted(given)))
    .digest('base64url');
  const meta = {
    ...given.Meta,
    [marks.owner]: owner,
    [marks.source]: cutToBytes(source, MAX_META_VALUE),
    [marks.digest]: digest,
  };
  return {
    id,
    body: JSON.stringify({ ...given, ID: id, Meta: meta }),
    service: {
      name: given.Name,
      tags: given.Tags ?? [],
      meta,
      port: given.Port ?? 0,
      address: given.Address ?? '',
      enableTagOverride: given.EnableTagOverride ?? false,
    },
  };
}

function parse(value: string): z.infer<typeof shape> {
  const parsed = shape.safeParse(parseJson(value));
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`);
    throw new AppError('invalid_argument', `it is no registration of a service: ${problems.join('; ')}`);
  }
  // Consul does not tell upper from lower case, and takes the last of two: an `id` would go before ours.
  for (const name of Object.keys(parsed.data)) {
    const field = FIELDS.find((one) => one.toLowerCase() === name.toLowerCase());
    if (field !== undefined && field !== name)
      throw new AppError('invalid_argument', `its field ${name} is to be written ${field}`);
  }
  return parsed.data;
}

function parseJson(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch (cause) {
    throw new AppError('invalid_argument', 'it is no registration of a service: it is not JSON', { cause });
  }
}

/** The same for the same content, in whatever order it was written. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([name, one]): [string, unknown] => [name, sorted(one)]);
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function isSame(there: AgentService, wanted: AgentService): boolean {
  // With the override, others may change the tags in the catalog, and the agent takes them over.
  const compared = wanted.enableTagOverride ? { ...there, tags: wanted.tags } : there;
  return isDeepStrictEqual({ ...compared, meta: { ...compared.meta } }, wanted);
}

/** Not in the middle of a character. */
function cutToBytes(text: string, bytes: number): string {
  const all = Buffer.from(text);
  if (all.length <= bytes) return text;
  return new TextDecoder().decode(all.subarray(0, bytes)).replace(/\uFFFD+$/, '');
}
