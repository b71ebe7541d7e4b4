import { nearest } from '../lib/nearest.js';
import { quote } from '../lib/quote.js';
import type { Call, Surroundings } from './command.js';
import { exitCodes, type ExitCode, Failure } from './failure.js';
import { few, json } from './table.js';

/** Shows what was found of several names; each of the others is told, and the exit code says so. */
export function showFound<Thing extends object>(
  call: Call,
  around: Surroundings,
  found: readonly (Thing | Failure)[],
  details: (thing: Thing) => string,
): ExitCode {
  const there = found.filter((one): one is Thing => !(one instanceof Failure));
  const failures = found.filter((one) => one instanceof Failure);
  around.print(call.json ? json(there) : there.map((thing) => details(thing)).join('\n'));
  for (const { message } of failures) around.complain(`${message}\n`);
  return failures.length > 0 ? exitCodes.wrong : exitCodes.ok;
}

/** Tells what was meant, or what there is. */
export function absent(kind: string, name: string, names: readonly string[]): Failure {
  const meant = nearest(name, names);
  const there = names.length === 0 ? 'there is none' : `there is ${few(names)}`;
  const hint = meant === undefined ? there : `did you mean ${meant}?`;
  return new Failure(exitCodes.wrong, `there is no ${kind} ${quote(name)}; ${hint}`);
}
