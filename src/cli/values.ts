/** Values of options and names, read. What they may be is the plugin's to say; here they only have to be of their kind. */
import { parseDuration } from '../lib/duration.js';
import { quote } from '../lib/quote.js';
import type { Call } from './command.js';
import { exitCodes, Failure } from './failure.js';

/** In milliseconds. @throws Failure `usage` */
export function durationOf(call: Call, option: string, otherwise: number): number {
  return durationIn(call, option) ?? otherwise;
}

/** In milliseconds; undefined when it is not there. @throws Failure `usage` */
export function durationIn(call: Call, option: string): number | undefined {
  const text = call.text(option);
  if (text === undefined) return undefined;
  const ms = parseDuration(text);
  if (ms === undefined)
    throw new Failure(
      exitCodes.usage,
      `--${option} is ${quote(text)}: give a number with a unit, like 90s, 10m, 1h`,
    );
  return ms;
}

/** How many voters etcd can have. */
export const voterNumbers = ['1', '3', '5'] as const;

/** @throws Failure `usage` */
export function votersIn(call: Call, option: string): number | undefined {
  const text = call.text(option);
  if (text === undefined) return undefined;
  if (!voterNumbers.some((number) => number === text))
    throw new Failure(exitCodes.usage, `--${option} is ${quote(text)}: give ${voterNumbers.join(' or ')}`);
  return Number(text);
}
