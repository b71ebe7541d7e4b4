/**
 * Docker's own completion asks a plugin `__complete openebs WORDS... BEGINNING`, in the protocol of the library that docker
 * is made with: a candidate a line, with a description behind a tab, and at the end a number of flags behind a colon.
 */
import type { BackupsMessage, NodesMessage, TokensMessage, VolumesMessage } from '../admin/messages.js';
import type { AdminClient } from './admin-client.js';
import { afterCommon, findCommand, startsWith } from './arguments.js';
import type { Command, Completes, Option } from './command.js';
import { commands, commonOptions } from './commands.js';
import { namesOfNodes } from './nodes.js';

/** ShellCompDirectiveNoFileComp: no names of files where there is no candidate. */
const NO_FILES = 4;
/** ShellCompDirectiveDefault. */
const FILES = 0;

/** @param words all that is typed, the last one not finished, perhaps empty */
export async function complete(words: readonly string[], admin: Pick<AdminClient, 'get'>): Promise<string> {
  const beginning = words.at(-1) ?? '';
  const candidates = await candidatesFor(words.slice(0, -1), beginning, admin);
  if (candidates === 'files') return `:${String(FILES)}\n`;
  const fitting = candidates.filter(([text]) => text.startsWith(beginning));
  const lines = fitting.map(([text, description]) => (description === '' ? text : `${text}\t${description}`));
  return [...lines, `:${String(NO_FILES)}`, ''].join('\n');
}

type Candidate = readonly [text: string, description: string];

async function candidatesFor(
  typed: readonly string[],
  beginning: string,
  admin: Pick<AdminClient, 'get'>,
): Promise<readonly Candidate[] | 'files'> {
  const { words, rest, command } = findCommand(typed.slice(afterCommon(typed)));
  const options: Readonly<Record<string, Option>> = { ...command?.options, ...commonOptions };
  const before = optionNamed(options, typed.at(-1) ?? '');
  if (before?.value !== undefined) {
    if (before === commonOptions.socket) return 'files';
    return described(await values(before.completes, admin));
  }
  if (command === null) return rest.length === 0 ? nextWords(words) : [];
  if (beginning.startsWith('-'))
    return Object.entries(options).map(([name, { help }]) => [`--${name}`, help] as const);
  const below = rest.length === 0 ? nextWords(words) : [];
  return [...below, ...(await namesFor(command, rest, admin))];
}

function nextWords(words: readonly string[]): Candidate[] {
  const below = commands.filter((one) => one.words.length > words.length && startsWith(one.words, words));
  const next = new Map<string, string>();
  for (const { words: all, summary } of below) {
    const word = all[words.length] ?? '';
    next.set(word, next.has(word) || all.length > words.length + 1 ? '' : summary);
  }
  return [...next];
}

function optionNamed(options: Readonly<Record<string, Option>>, arg: string): Option | undefined {
  const found = Object.entries(options).find(
    ([name, { short }]) => arg === `--${name}` || arg === `-${short ?? ''}`,
  );
  return found?.[1];
}

async function namesFor(
  { names, options }: Command,
  rest: readonly string[],
  admin: Pick<AdminClient, 'get'>,
): Promise<readonly Candidate[]> {
  const given = rest.filter((arg, index) => {
    const isValue = optionNamed({ ...options, ...commonOptions }, rest[index - 1] ?? '')?.value !== undefined;
    return !arg.startsWith('-') && !isValue;
  });
  const most = names?.firstOnly === true ? 1 : (names?.atMost ?? 0);
  if (names === undefined || given.length >= most) return [];
  return described((await values(names.completes, admin)).filter((name) => !given.includes(name)));
}

function described(texts: readonly string[]): Candidate[] {
  return texts.map((text) => [text, '']);
}

/** A shell that waits for names, or is told of errors, is worse than one that has none. */
async function values(
  completes: Completes | undefined,
  admin: Pick<AdminClient, 'get'>,
): Promise<readonly string[]> {
  if (completes === undefined) return [];
  if (typeof completes !== 'string') return completes;
  try {
    return await ask[completes](admin);
  } catch {
    return [];
  }
}

type Ask = (admin: Pick<AdminClient, 'get'>) => Promise<readonly string[]>;

const ask: Readonly<Record<Exclude<Completes, readonly string[]>, Ask>> = {
  volumes: async (admin) => {
    const { volumes } = await admin.get<VolumesMessage>('/v1/volumes');
    return volumes.map(({ name }) => name);
  },
  nodes: async (admin) => {
    const { nodes } = await admin.get<NodesMessage>('/v1/nodes');
    const nameOf = namesOfNodes(nodes);
    return nodes.map(({ id }) => nameOf(id));
  },
  tokens: async (admin) => {
    const { tokens } = await admin.get<TokensMessage>('/v1/cluster/tokens');
    return tokens.map(({ id }) => id);
  },
  nothing: () => Promise.resolve([]),
  backups: async (admin) => {
    const { backups } = await admin.get<BackupsMessage>('/v1/cluster/backups');
    return backups.map(({ file }) => file);
  },
};
