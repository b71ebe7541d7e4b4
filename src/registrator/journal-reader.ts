/**
 * What the journals of all hosts hold, of a range of time.
 *
 * Shared state lists by prefix alone, and a journal may be megabytes. The keys begin with the time in decimal, so a range
 * of time is some tens of prefixes, which are read from the newest to the oldest until there is enough: short ones near
 * the end of the range, longer ones far from it. In memory is one of them for one host at a time, and what is answered.
 */
import type { Ctx } from '../context.js';
import { withDeadline } from '../context.js';
import { AppError } from '../errors.js';
import { keys } from '../state/keys.js';
import { records, type EventRecord } from '../state/records.js';
import type { Entry, State } from '../state/state.js';

export interface JournalQuery {
  /** Of this host alone. Otherwise of all that have a record in shared state. */
  readonly node?: string;
  /** Nanoseconds since 1970, both inclusive. Without an end: an hour from now, as hosts' clocks differ. */
  readonly sinceNano?: bigint;
  readonly untilNano?: bigint;
  /** One of them, e.g. `container`; `journal` for what the journal says of itself. */
  readonly types?: readonly string[];
  /** One of them, whole or without what follows its colon: `exec_create` finds `exec_create: ls`. */
  readonly actions?: readonly string[];
  /** Id of the object, its first 12 digits or more, or its name. */
  readonly actor?: string;
  /** 1 to 10000; without it 1000. */
  readonly limit?: number;
}

/** One event, as `records.event` describes it. */
export interface JournalEvent extends Pick<
  EventRecord,
  'node' | 'type' | 'action' | 'actor' | 'scope' | 'timeNano'
> {
  readonly attributes: Readonly<Record<string, string>>;
  /** Attributes were cut when it was written. */
  readonly truncated?: true;
}

export interface JournalPage {
  /** In order of time, the newest last. */
  readonly events: readonly JournalEvent[];
  /** More matched: these are the newest of them. */
  readonly truncated: boolean;
  /** Records in what was read that are damaged, or of a newer version. */
  readonly damaged: number;
}

const DEFAULT_LIMIT = 1_000;
const MAX_LIMIT = 10_000;
/** What is answered in all: it passes through the memory of a small daemon. */
const MAX_CHARS = 8 * 1024 * 1024;
const READ_TIMEOUT_MS = 20_000;
/** Later than this are only the records of a clock that was ahead: `untilNano` finds those. */
const AHEAD_NANO = 3_600_000_000_000n;
const TIME_DIGITS = 20;
/** The shortest prefix of a time stands for 10^12 ns: some 17 minutes. */
const SLICE_DIGITS = 8;
const SLICE_NANO = 10n ** BigInt(TIME_DIGITS - SLICE_DIGITS);

/**
 * @throws AppError `invalid_argument` for a limit or a range that cannot be; what `State.range` throws, and
 * `deadline_exceeded` after 20 s.
 */
export async function readJournal(
  ctx: Ctx,
  state: Pick<State, 'range'>,
  query: JournalQuery,
): Promise<JournalPage> {
  const limit = limitOf(query);
  const range = rangeOf(query);
  const limited = withDeadline(ctx, READ_TIMEOUT_MS);
  const nodes = query.node === undefined ? await nodesOf(limited, state) : [query.node];
  const newestFirst: JournalEvent[] = [];
  let chars = 0;
  let damaged = 0;
  const page = (truncated: boolean) => ({ events: newestFirst.toReversed(), truncated, damaged });
  for (const slice of timeSlices(range.sinceNano, range.untilNano)) {
    let newest: Found[] = [];
    for (const node of nodes) {
      const { entries } = await state.range(limited, keys.eventsOf(node) + slice);
      const read = matching(entries, query, range);
      damaged += read.damaged;
      // One more than can be answered tells that there is more.
      newest = [...newest, ...read.found].sort(newerFirst).slice(0, limit - newestFirst.length + 1);
    }
    for (const { event, size } of newest) {
      chars += size;
      if (newestFirst.length === limit || chars > MAX_CHARS) return page(true);
      newestFirst.push(event);
    }
  }
  return page(false);
}

/**
 * The beginnings that the decimal times of a range have, the newest first; those at both ends may reach beyond it. Each
 * time of the range has exactly one of them.
 */
export function timeSlices(sinceNano: bigint, untilNano: bigint): string[] {
  const first = Number(sinceNano / SLICE_NANO);
  const slices: string[] = [];
  let end = Number(untilNano / SLICE_NANO) + 1;
  while (end > first) {
    let digits = 0;
    while (digits < SLICE_DIGITS && end % 10 ** (digits + 1) === 0 && end - 10 ** (digits + 1) >= first)
      digits += 1;
    const width = SLICE_DIGITS - digits;
    slices.push(width === 0 ? '' : String(end / 10 ** digits - 1).padStart(width, '0'));
    end -= 10 ** digits;
  }
  return slices;
}

interface TimeRange {
  readonly sinceNano: bigint;
  readonly untilNano: bigint;
}

function limitOf({ limit = DEFAULT_LIMIT }: JournalQuery): number {
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new AppError(
    'invalid_argument',
    `a limit of ${String(limit)} events: give 1 to ${String(MAX_LIMIT)}; to see more, ask for one range of time ` +
      'after the other',
  );
}

function rangeOf({ sinceNano = 0n, untilNano }: JournalQuery): TimeRange {
  const soon = BigInt(Date.now()) * 1_000_000n + AHEAD_NANO;
  if (untilNano !== undefined && untilNano < sinceNano)
    throw new AppError('invalid_argument', 'the range of time ends before it begins: swap since and until');
  return { sinceNano: within(sinceNano), untilNano: within(untilNano ?? soon) };
}

/** Times that a key has the digits for. */
function within(nanos: bigint): bigint {
  const latest = 10n ** BigInt(TIME_DIGITS) - 1n;
  if (nanos < 0n) return 0n;
  return nanos > latest ? latest : nanos;
}

async function nodesOf(ctx: Ctx, state: Pick<State, 'range'>): Promise<string[]> {
  const { entries } = await state.range(ctx, keys.nodes);
  return entries.map(({ key }) => key.slice(keys.nodes.length));
}

interface Found {
  /** Time and hash: sorts by time. */
  readonly at: string;
  readonly event: JournalEvent;
  readonly size: number;
}

function newerFirst(a: Found, b: Found): number {
  if (a.at === b.at) return 0;
  return a.at < b.at ? 1 : -1;
}

function matching(entries: readonly Entry[], query: JournalQuery, range: TimeRange) {
  const [since, until] = [timeDigits(range.sinceNano), timeDigits(range.untilNano)];
  const found: Found[] = [];
  let damaged = 0;
  for (const { key, value } of entries) {
    const at = key.slice(key.lastIndexOf('/') + 1);
    const time = /^(\d{20})-/.exec(at)?.[1];
    if (time !== undefined && (time < since || time > until)) continue;
    const event = time === undefined ? null : decoded(key, value);
    if (event === null) damaged += 1;
    else if (isWanted(event, query)) found.push({ at, event, size: value.length });
  }
  return { found, damaged };
}

function timeDigits(nanos: bigint): string {
  return nanos.toString().padStart(TIME_DIGITS, '0');
}

/** Null for one that cannot be read: it must not hide the others. */
function decoded(key: string, value: string): JournalEvent | null {
  try {
    const record = records.event.decode(key, value);
    const { node, type, action, actor, attributes, scope, timeNano } = record;
    const truncated = record['truncated'] === true ? { truncated: true as const } : {};
    return { node, type, action, actor, attributes, scope, timeNano, ...truncated };
  } catch {
    return null;
  }
}

function isWanted(event: JournalEvent, { types, actions, actor }: JournalQuery): boolean {
  if (types && !types.includes(event.type)) return false;
  const [name = ''] = event.action.split(':', 1);
  if (actions && !actions.includes(event.action) && !actions.includes(name)) return false;
  return actor === undefined || isOf(event, actor);
}

function isOf({ actor, attributes }: JournalEvent, wanted: string): boolean {
  if (actor === wanted || attributes['name'] === wanted) return true;
  return /^(sha256:)?[0-9a-f]{12,}$/.test(wanted) && actor.startsWith(wanted);
}
