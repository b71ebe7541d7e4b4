/** Help, from the table of commands. */
import type { Command, Option } from './command.js';
import { commands, commonOptions } from './commands.js';
import { findCommand, startsWith } from './arguments.js';
import { facts } from './table.js';

/** Of a command, of a group (`volume`), or of all. */
export function helpOf(words: readonly string[]): string {
  const { command } = findCommand(words);
  return command === null ? helpOfGroup(words) : helpOfCommand(command);
}

export function usageOf({ words, names, options }: Command): string {
  const label = names === undefined ? [] : [names.label + (names.atMost > 1 ? '...' : '')];
  const all = Object.entries(options);
  const needed = all
    .filter(([, { required }]) => required)
    .map(([name, option]) => optionUsage(name, option).trim());
  const flags = all.length === needed.length ? [] : ['[OPTIONS]'];
  return ['docker openebs', ...words, ...needed, ...flags, ...label].join(' ');
}

function helpOfGroup(words: readonly string[]): string {
  const below = commands.filter((one) => startsWith(one.words, words));
  const rows = below.map((one) => [`  ${one.words.join(' ')}`, one.summary] as const);
  const head = ['Usage:  docker openebs', ...words, 'COMMAND'].join(' ');
  return [
    `${head}\n\nVolumes that are iSCSI virtual storage machines: what there is on this host and in its cluster\n`,
    `Commands:\n${facts(rows)}`,
    `Options of every command:\n${optionRows(commonOptions)}`,
    'Exit codes: 0 well, 1 what was asked for is wrong or absent, 2 wrong usage, 3 the plugin cannot be reached\n',
  ].join('\n');
}

function helpOfCommand(command: Command): string {
  const { summary, details, options } = command;
  return [
    `Usage:  ${usageOf(command)}\n\n${summary}\n`,
    ...(details === undefined ? [] : [`${details}\n`]),
    `Options:\n${optionRows({ ...options, ...commonOptions })}`,
  ].join('\n');
}

function optionRows(options: Readonly<Record<string, Option>>): string {
  return facts(
    Object.entries(options).map(([name, option]) => [`  ${optionUsage(name, option)}`, option.help]),
  );
}

/** `-f, --filter KEY=VALUE` */
export function optionUsage(name: string, { short, value }: Option): string {
  const flags = `${short === undefined ? '    ' : `-${short}, `}--${name}`;
  return value === undefined ? flags : `${flags} ${value}`;
}
