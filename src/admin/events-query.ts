import { AppError } from '../errors.js';
import { parseTimePoint } from '../lib/time-point.js';
import { nearest } from '../lib/nearest.js';
import { quote } from '../lib/quote.js';

/** Which events of the journals are wanted; what is left out does not matter. */
export interface EventsQuery {
  readonly node?: string;
  /** Nanoseconds since 1970, both inclusive. */
  readonly sinceNano?: bigint;
  readonly untilNano?: bigint;
  readonly types?: readonly string[];
  readonly actions?: readonly string[];
  readonly actor?: string;
  readonly limit?: number;
}

const eventsParameters = ['since', 'until', 'type', 'action', 'actor', 'node', 'limit'] as const;

/**
 * The parameters of `GET /v1/events`: `since` and `until` as lib/time-point.ts reads them, `type` and `action` with
 * commas between several, `actor`, `node`, `limit`.
 * @param nowMs what durations count back from
 * @throws AppError `invalid_argument` that says what is allowed
 */
export function eventsQueryOf(query: Readonly<Record<string, unknown>>, nowMs: number): EventsQuery {
  const { since, until, type, action, actor, node, limit } = parametersOf(query, eventsParameters);
  return {
    ...(since === undefined ? {} : { sinceNano: parseTimePoint('since', since, nowMs) }),
    ...(until === undefined ? {} : { untilNano: parseTimePoint('until', until, nowMs) }),
    ...(type === undefined ? {} : { types: listOf('type', type) }),
    ...(action === undefined ? {} : { actions: listOf('action', action) }),
    ...(actor === undefined ? {} : { actor: filled('actor', actor) }),
    ...(node === undefined ? {} : { node: filled('node', node) }),
    ...(limit === undefined ? {} : { limit: numberOf('limit', limit) }),
  };
}

/** @throws AppError `invalid_argument` for a parameter that is not among these, and for one that is there twice. */
export function parametersOf<Name extends string>(
  query: Readonly<Record<string, unknown>>,
  allowed: readonly Name[],
): Partial<Record<Name, string>> {
  const found: Partial<Record<string, string>> = {};
  const names = allowed.length === 0 ? 'it takes none' : `it takes ${allowed.join(', ')}, each once`;
  for (const [name, value] of Object.entries(query)) {
    if (!(allowed as readonly string[]).includes(name)) {
      const meant = nearest(name, allowed);
      const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
      throw new AppError('invalid_argument', `there is no parameter ${quote(name)}: ${names}${hint}`);
    }
    if (typeof value !== 'string')
      throw new AppError('invalid_argument', `${name} is there more than once: ${names}`);
    found[name] = value;
  }
  return found;
}

function filled(name: string, text: string): string {
  if (text !== '') return text;
  throw new AppError('invalid_argument', `${name} is empty: leave it out to get all`);
}

/** An action may hold a comma after its colon, which is no use here: its name finds it. */
function listOf(name: string, text: string): string[] {
  return text.split(',').map((one) => filled(name, one));
}

function numberOf(name: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new AppError('invalid_argument', `${name} is ${quote(text)}: give a whole number`);
}
