/** How far the hosts are in taking their cluster down. */
import type { Ctx } from '../../context.js';
import { keys } from '../../state/keys.js';
import { type EndingRecord, records } from '../../state/records.js';
import type { State } from '../../state/state.js';

type Readable = Pick<State, 'get' | 'range'>;

export async function readEnding(ctx: Ctx, state: Readable): Promise<EndingRecord | null> {
  const entry = await state.get(ctx, keys.ending);
  return entry && records.ending.decode(entry.key, entry.value);
}

/** Hosts with a part in it that have not carried it out; one that was removed meanwhile has none. */
export async function waitingFor(ctx: Ctx, state: Readable, { id, nodes }: EndingRecord): Promise<string[]> {
  const [known, ended] = await Promise.all([state.range(ctx, keys.nodes), state.range(ctx, keys.allEnded)]);
  const there = new Set(known.entries.map(({ key }) => key.slice(keys.nodes.length)));
  const done = new Set(
    ended.entries
      .map(({ key, value }) => records.ended.decode(key, value))
      .filter(({ ending }) => ending === id)
      .map(({ node }) => node),
  );
  return nodes.filter((node) => there.has(node) && !done.has(node));
}
