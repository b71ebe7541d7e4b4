import { quote } from '../../lib/quote.js';
import type { Call, Surroundings } from '../command.js';
import { exitCodes, Failure } from '../failure.js';
import { plain } from '../table.js';

export interface Question {
  /** What is about to happen, a sentence. */
  readonly what: string;
  /** What has to be typed; null: it is not known here, and the plugin judges. */
  readonly id: string | null;
}

/**
 * The cluster's ID as a person has typed it, now or behind `--confirm`.
 * @throws Failure `usage` where there is nobody to ask, and when something else is typed
 */
export async function confirmed(call: Call, around: Surroundings, { what, id }: Question): Promise<string> {
  const given = call.text('confirm') ?? (await ask(around, what, id));
  if (id !== null && given !== id)
    throw new Failure(
      exitCodes.usage,
      `${quote(given)} is not the cluster's ID, which is ${id}: nothing was done`,
    );
  return given;
}

async function ask(around: Surroundings, what: string, id: string | null): Promise<string> {
  if (!around.input.isTerminal)
    throw new Failure(
      exitCodes.usage,
      `${what} It has to be confirmed: run it on a terminal, or give --confirm ${id ?? 'ID'}`,
    );
  around.complain(`${plain(what)}\nType the cluster's ID${id === null ? '' : `, ${plain(id)},`} to do it: `);
  const line = await around.input.readLine();
  if (line === null) throw new Failure(exitCodes.usage, 'nothing was typed: nothing was done');
  return line;
}
