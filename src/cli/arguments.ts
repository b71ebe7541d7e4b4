/** From the words of the command line to a command and its options, by the table in commands.ts. */
import { parseArgs } from 'node:util';
import { nearest } from '../lib/nearest.js';
import { quote } from '../lib/quote.js';
import type { Call, Command, Names, Option } from './command.js';
import { commands, commonOptions } from './commands.js';
import { exitCodes, Failure } from './failure.js';

export type Parsed =
  | { readonly kind: 'help'; readonly words: readonly string[] }
  | { readonly kind: 'call'; readonly command: Command; readonly call: Call };

/** @throws Failure `usage` that says what is allowed */
export function parseCommandLine(args: readonly string[]): Parsed {
  const { words, rest, command } = findCommand(commonLast(args));
  if (command === null) return noCommand(words, rest);
  const options: Readonly<Record<string, Option>> = { ...command.options, ...commonOptions };
  const { values, names } = readOptions(command, options, rest);
  if (values.has('help')) return { kind: 'help', words: command.words };
  checkNames(command, names);
  checkOptions(command, values);
  return { kind: 'call', command, call: callOf(values, names) };
}

/** Options of every command may stand before it as well. */
function commonLast(args: readonly string[]): readonly string[] {
  const at = afterCommon(args);
  return [...args.slice(at), ...args.slice(0, at)];
}

/** Where the first word is that is neither an option of every command nor its value. */
export function afterCommon(args: readonly string[]): number {
  let at = 0;
  while (/^--(format|socket)(=|$)/.test(args[at] ?? '')) at += args[at]?.includes('=') === true ? 1 : 2;
  return at;
}

interface FoundCommand {
  /** As far as they lead to a command. */
  readonly words: readonly string[];
  readonly rest: readonly string[];
  readonly command: Command | null;
}

export function findCommand(args: readonly string[]): FoundCommand {
  const words: string[] = [];
  for (const arg of args) {
    const next = [...words, arg];
    if (!commands.some((command) => startsWith(command.words, next))) break;
    words.push(arg);
  }
  const command = commands.find((one) => one.words.length === words.length && startsWith(one.words, words));
  return { words, rest: args.slice(words.length), command: command ?? null };
}

export function startsWith(words: readonly string[], beginning: readonly string[]): boolean {
  return beginning.every((word, index) => words[index] === word);
}

/** A group alone, or `--help`, asks what there is; anything else is a slip. */
function noCommand(words: readonly string[], rest: readonly string[]): Parsed {
  const [first] = rest;
  if (first === 'help') return helpFor([...words, ...rest.slice(1)]);
  if (first === undefined || first === '--help' || first === '-h') return { kind: 'help', words };
  if (first === '--version' && words.length === 0) return parseCommandLine(['version']);
  const known = commands
    .filter((one) => startsWith(one.words, words))
    .map((one) => one.words[words.length] ?? '');
  throw unknown(first.startsWith('-') ? 'option' : 'command', first, {
    among: [...new Set(known)],
    help: words,
  });
}

function helpFor(args: readonly string[]): Parsed {
  const { words, rest } = findCommand(args);
  const [first] = rest;
  if (first !== undefined && !first.startsWith('-')) return noCommand(words, rest);
  return { kind: 'help', words };
}

interface Alternatives {
  readonly among: readonly string[];
  /** Words of the command whose help says more. */
  readonly help: readonly string[];
}

function unknown(what: string, given: string, { among, help }: Alternatives): Failure {
  const meant = nearest(
    given.replace(/^-+/, ''),
    among.map((one) => one.replace(/^-+/, '')),
  );
  const dashes = /^-*/.exec(given)?.[0] ?? '';
  const hint = meant === undefined ? '' : `; did you mean ${dashes}${meant}?`;
  return usage(`there is no ${what} ${quote(given)}${hint}`, help);
}

function usage(text: string, words: readonly string[]): Failure {
  return new Failure(exitCodes.usage, `${text} (see ${['docker openebs', ...words, '--help'].join(' ')})`);
}

const noNames: Names = { label: '', atLeast: 0, atMost: 0, completes: [] };

type Values = ReadonlyMap<string, readonly string[]>;

interface Read {
  readonly values: Values;
  readonly names: readonly string[];
}

function readOptions(
  { words }: Command,
  options: Readonly<Record<string, Option>>,
  args: readonly string[],
): Read {
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    options: Object.fromEntries(
      Object.entries(options).map(([name, { short, value }]) => [
        name,
        {
          type: value === undefined ? 'boolean' : 'string',
          ...(short === undefined ? {} : { short }),
        } as const,
      ]),
    ),
  });
  const values = new Map<string, readonly string[]>();
  const names: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') names.push(token.value);
    if (token.kind !== 'option') continue;
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (option === undefined)
      throw unknown('option', token.rawName, {
        among: Object.keys(options).map((name) => `--${name}`),
        help: words,
      });
    values.set(token.name, add(values.get(token.name), { ...token, option, words }));
  }
  return { values, names };
}

interface Given {
  readonly rawName: string;
  readonly value?: string | undefined;
  readonly option: Option;
  readonly words: readonly string[];
}

function add(before: readonly string[] | undefined, given: Given): readonly string[] {
  const { rawName, value, option, words } = given;
  if (option.value === undefined) {
    if (value !== undefined) throw usage(`${rawName} takes no value`, words);
    return [];
  }
  if (value === undefined || value === '') throw usage(`${rawName} needs a value: ${option.value}`, words);
  if (before && option.repeats !== true) throw usage(`${rawName} is there more than once`, words);
  return [...(before ?? []), value];
}

function checkNames({ words, names }: Command, given: readonly string[]): void {
  const { label, atLeast, atMost, completes } = names ?? noNames;
  if (given.length < atLeast) throw usage(`${words.join(' ')} needs ${label}`, words);
  const [extra] = given.slice(atMost);
  if (extra !== undefined) throw usage(`${quote(extra)} is one word too many`, words);
  if (typeof completes === 'string') return;
  const wrong = given.find((name) => !completes.includes(name));
  if (wrong !== undefined) throw usage(`${label} is ${quote(wrong)}: give ${completes.join(' or ')}`, words);
}

function checkOptions({ words, options }: Command, given: Values): void {
  for (const [name, { required, value = '' }] of Object.entries(options))
    if (required === true && !given.has(name))
      throw usage(`${words.join(' ')} needs --${name} ${value}`, words);
}

function callOf(values: Values, names: readonly string[]): Call {
  const format = values.get('format')?.[0] ?? 'table';
  if (format !== 'table' && format !== 'json')
    throw usage(`--format is ${quote(format)}: give table or json`, []);
  return {
    names,
    json: format === 'json',
    text: (option) => values.get(option)?.[0],
    list: (option) => values.get(option) ?? [],
    has: (option) => values.has(option),
  };
}

/** `--socket` among words that need make no sense yet. */
export function socketOf(args: readonly string[]): string | undefined {
  const at = args.findIndex((arg) => arg === '--socket' || arg.startsWith('--socket='));
  const arg = args[at];
  if (arg === undefined) return undefined;
  return arg.includes('=') ? arg.slice(arg.indexOf('=') + 1) : args[at + 1];
}
