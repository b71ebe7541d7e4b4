/** Waiting for what the plugin does: it is looked at until nothing is missing, and what is new about it is told. */
import { setTimeout as delay } from 'node:timers/promises';
import { formatDuration } from '../../lib/duration.js';
import type { Asked } from '../admin-client.js';
import type { Surroundings } from '../command.js';
import { exitCodes, Failure } from '../failure.js';
import { plainLines } from '../table.js';

export interface Wait<Seen> {
  readonly timeoutMs: number;
  look(asked: Asked): Promise<Seen>;
  /** What is not there yet, in words for people; null: nothing. */
  missing(seen: Seen): string | null;
}

const POLL_MS = 250;
/** A look that takes longer is given up for the next one. */
const LOOK_MS = 5000;

/**
 * Whatever a look fails with is waited for as well: a plugin that starts anew is away, and then not ready.
 * @throws Failure when the time is over: what is still missing, and that the plugin goes on
 */
export async function waitFor<Seen>(around: Surroundings, wait: Wait<Seen>): Promise<Seen> {
  const { timeoutMs } = wait;
  const end = performance.now() + timeoutMs;
  const tell = tellOnce(around);
  for (;;) {
    const timeout = Math.min(LOOK_MS, Math.max(POLL_MS, end - performance.now()));
    const seen = await wait.look({ timeoutMs: timeout, again: true }).catch(asFailure);
    const lacking = seen instanceof Failure ? `waiting for the plugin: ${seen.message}` : wait.missing(seen);
    if (lacking === null) return seen as Seen;
    tell(lacking);
    if (performance.now() + POLL_MS > end) throw await overdue(around, { seen, lacking, timeoutMs });
    await delay(POLL_MS);
  }
}

function asFailure(reason: unknown): Failure {
  if (reason instanceof Failure) return reason;
  throw reason;
}

/** On the error stream, each text once, whatever numbers are in it. */
function tellOnce(around: Surroundings): (text: string) => void {
  const told = new Set<string>();
  return (text) => {
    const kind = text.replaceAll(/\d+/g, '#');
    if (told.has(kind)) return;
    told.add(kind);
    around.complain(`${plainLines(text)}\n`);
  };
}

interface Overdue {
  readonly seen: unknown;
  readonly lacking: string;
  readonly timeoutMs: number;
}

async function overdue(around: Surroundings, { seen, lacking, timeoutMs }: Overdue): Promise<Failure> {
  // Now it is worth while to know why.
  if (seen instanceof Failure && seen.exitCode === exitCodes.unreachable) {
    const why = await around.admin.get('/v1/health', {}, { timeoutMs: LOOK_MS }).catch(asFailure);
    if (why instanceof Failure) return new Failure(why.exitCode, `${goesOn(timeoutMs)}. ${why.message}`);
  }
  return new Failure(exitCodes.wrong, `${goesOn(timeoutMs)}. Last: ${lacking}`);
}

function goesOn(timeoutMs: number): string {
  return (
    `not done within ${formatDuration(timeoutMs)}. The plugin goes on with it by itself: ` +
    'docker openebs cluster status shows how far it is'
  );
}
