/**
 * Whether what several clients saw of one register can be explained by its operations taking effect one after another,
 * each at a moment between its begin and its end. Each write has a value of its own, so a read tells whose it saw.
 *
 * An operation whose outcome is not known may take effect at any moment after its begin, or never. If anybody saw its
 * value it did, before that one's end; otherwise it can only be the reason why a comparison failed.
 */
export interface RegisterCall {
  readonly client: string;
  readonly kind: 'read' | 'write' | 'swap';
  /** What is written; of a read what it saw. Null: the register was empty. */
  readonly value: string | null;
  /** Of a swap: what it compares with. */
  readonly expected: string | null;
  readonly begin: number;
  /** Infinity when no answer came. */
  readonly end: number;
  /** `differed`: a swap that found another value than it expected, and wrote nothing. */
  readonly outcome: 'ok' | 'differed' | 'unknown';
}

/** A part of an order: all calls before `from`, and those of `done` after it, in the order of their begin. */
interface Progress {
  readonly from: number;
  readonly done: ReadonlySet<number>;
  /** How many writes of `History.lost` have taken effect. */
  readonly used: number;
  readonly value: string | null;
}

interface History {
  /** Those that took effect, or did not for sure, by their begin. */
  readonly calls: readonly RegisterCall[];
  /** Without an answer, and nobody saw their value. */
  readonly lost: readonly RegisterCall[];
}

/** Instead of a value that nobody saw. */
const UNSEEN = '(written by a call without an answer)';
const MOST_STEPS = 1_000_000;

/** Null: an order explains the calls. Otherwise what none explains: the calls around the place where the longest order ends. */
export function unexplained(all: readonly RegisterCall[]): string | null {
  const history = settled(all);
  const seen = new Map<string, number>();
  let farthest: Progress = { from: 0, done: new Set(), used: 0, value: null };
  const stack: Progress[] = [farthest];
  for (let steps = 0; stack.length > 0; steps += 1) {
    if (steps > MOST_STEPS) throw new Error(`no order was found in ${String(MOST_STEPS)} steps`);
    const now = greedy(history, stack.pop()!);
    if (now.from === history.calls.length) return null;
    const key = `${String(now.from)} ${[...now.done].toSorted().join()} ${String(now.value)}`;
    // Whoever has used fewer can do all that the other can.
    if ((seen.get(key) ?? Infinity) <= now.used) continue;
    seen.set(key, now.used);
    if (now.from + now.done.size > farthest.from + farthest.done.size) farthest = now;
    stack.push(...effects(history, now).toReversed());
  }
  return told(history, farthest);
}

/** Those without an answer whose value somebody saw did take effect, before whoever saw it first had its answer. */
function settled(all: readonly RegisterCall[]): History {
  const seenBy = new Map<string, number>();
  for (const call of all) {
    const saw = seenValue(call);
    if (saw !== null) seenBy.set(saw, Math.min(call.end, seenBy.get(saw) ?? Infinity));
  }
  const calls: RegisterCall[] = [];
  const lost: RegisterCall[] = [];
  for (const call of all) {
    const end = seenBy.get(call.value ?? '');
    if (call.outcome !== 'unknown') calls.push(call);
    else if (call.kind === 'read') continue;
    else if (end === undefined) lost.push(call);
    else calls.push({ ...call, end, outcome: 'ok' });
  }
  return { calls: calls.toSorted((one, other) => one.begin - other.begin), lost };
}

function seenValue({ kind, outcome, value, expected }: RegisterCall): string | null {
  if (outcome !== 'ok') return null;
  return kind === 'read' ? value : expected;
}

/** May be the next: none that is left ended before it began. */
function eligible({ calls }: History, { from, done }: Progress): { next: RegisterCall[]; firstEnd: number } {
  const found: RegisterCall[] = [];
  let firstEnd = Infinity;
  for (let index = from; index < calls.length && calls[index]!.begin <= firstEnd; index += 1) {
    if (done.has(index)) continue;
    found.push(calls[index]!);
    firstEnd = Math.min(firstEnd, calls[index]!.end);
  }
  return { next: found.filter(({ begin }) => begin <= firstEnd), firstEnd };
}

/** What changes nothing, and fits now, may as well be now: no order is lost by it. */
function greedy(history: History, start: Progress): Progress {
  for (let now = start; ;) {
    const { value } = now;
    const fits = ({ kind, outcome, value: saw, expected }: RegisterCall) =>
      outcome === 'differed' ? expected !== value : kind === 'read' && saw === value;
    const call = eligible(history, now).next.find(fits);
    if (call === undefined) return now;
    now = advance(history, now, { call, value });
  }
}

function advance(
  { calls }: History,
  now: Progress,
  { call, value }: { call: RegisterCall; value: string | null },
): Progress {
  const done = new Set(now.done).add(calls.indexOf(call, now.from));
  let { from } = now;
  while (done.delete(from)) from += 1;
  return { ...now, from, done, value };
}

function effects(history: History, now: Progress): Progress[] {
  const { next, firstEnd } = eligible(history, now);
  const known = next
    .filter(
      ({ kind, outcome, expected }) =>
        outcome === 'ok' && (kind === 'write' || (kind === 'swap' && expected === now.value)),
    )
    .map((call) => advance(history, now, { call, value: call.value }));
  const differs = next.some(({ outcome, expected }) => outcome === 'differed' && expected === now.value);
  return differs ? [...known, ...unseen(history, now, firstEnd)] : known;
}

/** What nobody saw can only be why a comparison failed. */
function unseen({ lost }: History, now: Progress, firstEnd: number): Progress[] {
  const begun = lost.filter(({ begin }) => begin <= firstEnd);
  // A value is there once, and so is a swap of it.
  if (begun.some(({ kind, expected }) => kind === 'swap' && expected === now.value))
    return [{ ...now, value: UNSEEN }];
  if (begun.filter(({ kind }) => kind === 'write').length <= now.used) return [];
  return [{ ...now, used: now.used + 1, value: UNSEEN }];
}

const AROUND = 12;

function told({ calls }: History, { from, done, value }: Progress): string {
  const lines = calls.map((call, index) => {
    const mark = index < from || done.has(index) ? ' ' : '>';
    return `${mark} ${describeCall(call)}`;
  });
  return [
    `no order explains what comes after the value ${String(value)}:`,
    ...lines.slice(Math.max(0, from - AROUND), from + AROUND),
  ].join('\n');
}

function describeCall({ client, kind, value, expected, begin, end, outcome }: RegisterCall): string {
  const what = kind === 'swap' ? `${String(expected)} by ${String(value)}` : String(value);
  return `${String(begin)}-${String(end)} ${client}: ${kind} ${what} -> ${outcome}`;
}
