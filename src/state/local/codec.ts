/** What the payloads of the frames say: first all that there was when the file was begun, then steps. */
import { z } from 'zod';
import { AppError } from '../../errors.js';
import type { Entry } from '../state.js';
import { type Change, StateMachine, type Step } from '../state-machine.js';
import { frameOf } from './frames.js';

const SCHEMA = 1;
const ENTRIES_PER_FRAME = 200;

const leaseShape = z.tuple([z.string(), z.number()]);
const headShape = z.object({
  schema: z.literal(SCHEMA),
  revision: z.int(),
  entries: z.int(),
  leases: z.array(leaseShape),
});
/** Key, value, createRevision, modRevision, lease. */
const entryShape = z.tuple([z.string(), z.string(), z.int(), z.int()], z.string());
const stepShape = z.object({
  revision: z.int(),
  /** Key, value, createRevision, lease. */
  puts: z.array(z.tuple([z.string(), z.string(), z.int()], z.string())).optional(),
  deletes: z.array(z.string()).optional(),
  grant: leaseShape.optional(),
  end: z.string().optional(),
});

export function encodeSteps(steps: readonly Step[]): Buffer {
  return Buffer.from(JSON.stringify(steps.map(stored)));
}

function stored({ revision, changes, grant, end }: Step): z.infer<typeof stepShape> {
  const puts = changes.flatMap((change) => (change.type === 'put' ? [change.entry] : []));
  const deletes = changes.flatMap((change) => (change.type === 'delete' ? [change.key] : []));
  return {
    revision,
    ...(puts.length === 0
      ? {}
      : { puts: puts.map((put) => [put.key, put.value, put.createRevision, ...leaseOf(put)]) }),
    ...(deletes.length === 0 ? {} : { deletes }),
    ...(grant === undefined ? {} : { grant: [grant.id, grant.ttlMs] }),
    ...(end === undefined ? {} : { end }),
  };
}

function leaseOf({ leaseId }: Entry): string[] {
  return leaseId === undefined ? [] : [leaseId];
}

function entryOf(facts: Omit<Entry, 'leaseId'>, leaseId: string | undefined): Entry {
  return { ...facts, ...(leaseId === undefined ? {} : { leaseId }) };
}

/** The frames of a file that says no more than the machine knows; `last` is told the chain behind each. */
export function* framesOf(machine: StateMachine, last: (chain: number) => void): Generator<Buffer> {
  let chain = 0;
  const next = (content: unknown): Buffer => {
    const made = frameOf(Buffer.from(JSON.stringify(content)), chain);
    chain = made.chain;
    last(chain);
    return made.frame;
  };
  const { revision, entries, leases } = machine;
  yield next({ schema: SCHEMA, revision, entries: entries.size, leases: [...leases] });
  let some: unknown[] = [];
  for (const entry of entries.values()) {
    some.push([entry.key, entry.value, entry.createRevision, entry.modRevision, ...leaseOf(entry)]);
    if (some.length < ENTRIES_PER_FRAME) continue;
    yield next(some);
    some = [];
  }
  if (some.length > 0) yield next(some);
}

/** Null: what the file began with is not all there. @throws AppError `unavailable` for what is not of this version */
export function replay(payloads: readonly Buffer[]): StateMachine | null {
  const machine = new StateMachine();
  const [first, ...rest] = payloads;
  if (first === undefined) return null;
  const head = headShape.safeParse(JSON.parse(first.toString())).data;
  if (head === undefined) throw ofAnotherVersion();
  let missing = head.entries;
  const begun: Change[] = [];
  const steps = rest.flatMap((payload) => {
    const content: unknown = JSON.parse(payload.toString());
    if (missing === 0) return parse(z.array(stepShape), content);
    for (const [key, value, createRevision, modRevision, lease] of parse(z.array(entryShape), content)) {
      begun.push({ type: 'put', entry: entryOf({ key, value, createRevision, modRevision }, lease) });
      missing -= 1;
    }
    return [];
  });
  if (missing !== 0) return null;
  for (const [id, ttlMs] of head.leases) machine.take({ revision: 0, changes: [], grant: { id, ttlMs } });
  machine.take({ revision: head.revision, changes: begun });
  for (const step of steps) machine.take(taken(step));
  return machine;
}

function taken({ revision, puts = [], deletes = [], grant, end }: z.infer<typeof stepShape>): Step {
  const changes = [
    ...puts.map(([key, value, createRevision, lease]): Change => {
      return { type: 'put', entry: entryOf({ key, value, createRevision, modRevision: revision }, lease) };
    }),
    ...deletes.map((key): Change => ({ type: 'delete', key })),
  ];
  return {
    revision,
    changes,
    ...(grant === undefined ? {} : { grant: { id: grant[0], ttlMs: grant[1] } }),
    ...(end === undefined ? {} : { end }),
  };
}

function parse<T>(shape: z.ZodType<T>, content: unknown): T {
  const parsed = shape.safeParse(content);
  if (parsed.success) return parsed.data;
  throw ofAnotherVersion();
}

function ofAnotherVersion(): AppError {
  return new AppError('unavailable', 'written by a newer version of this plugin: upgrade it on this host');
}
