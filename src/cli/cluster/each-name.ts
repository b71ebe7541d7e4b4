import type { Call, Surroundings } from '../command.js';
import { exitCodes, type ExitCode, Failure } from '../failure.js';
import { json, plain, plainLines } from '../table.js';

export interface Deed {
  /** For JSON: what the names are that it was done to. */
  readonly done: string;
  act(name: string): Promise<void>;
}

/** One after the other; a name that fails is told and holds up none of the others, unless the plugin is not there at all. */
export async function forEachName(call: Call, around: Surroundings, deed: Deed): Promise<ExitCode> {
  const finished: string[] = [];
  let worst: ExitCode = exitCodes.ok;
  for (const name of call.names) {
    try {
      await deed.act(name);
      finished.push(name);
      if (!call.json) around.print(`${plain(name)}\n`);
    } catch (reason) {
      if (!(reason instanceof Failure) || reason.exitCode === exitCodes.unreachable) throw reason;
      around.complain(`${plainLines(reason.message)}\n`);
      worst = reason.exitCode;
    }
  }
  if (call.json) around.print(json({ [deed.done]: finished }));
  return worst;
}
