import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseCommandLine, socketOf } from '../../../src/cli/arguments.js';
import { commands, commonOptions } from '../../../src/cli/commands.js';
import { Failure } from '../../../src/cli/failure.js';
import { helpOf, usageOf } from '../../../src/cli/help.js';

function failureOf(...args: string[]): Failure {
  try {
    parseCommandLine(args);
  } catch (reason) {
    expect(reason).toBeInstanceOf(Failure);
    return reason as Failure;
  }
  throw new Error(`accepted ${args.join(' ')}`);
}

function callOf(...args: string[]) {
  const parsed = parseCommandLine(args);
  if (parsed.kind !== 'call') throw new Error('it is a request for help');
  return { words: parsed.command.words.join(' '), ...parsed.call };
}

describe('a command line', () => {
  it('is a command with its options, wherever they stand', () => {
    const call = callOf('events', '--type', 'container', '--since=10m', '--type', 'volume', '-n', '5');
    expect(call.words).toBe('events');
    expect(call.list('type')).toEqual(['container', 'volume']);
    expect([call.text('since'), call.text('limit'), call.text('until')]).toEqual(['10m', '5', undefined]);
    expect(call.json).toBe(false);
  });

  it('takes names, and what follows -- as names', () => {
    expect(callOf('volume', 'inspect', 'db', '--format', 'json', '--', '-odd').names).toEqual(['db', '-odd']);
  });

  it('takes the options of all commands before the command as well', () => {
    const call = callOf('--format', 'json', '--socket=/x', 'volume', 'ls', '-q');
    expect([call.words, call.json, call.text('socket'), call.has('quiet')]).toEqual([
      'volume ls',
      true,
      '/x',
      true,
    ]);
  });

  it.each([
    [[], []],
    [['--help'], []],
    [['-h'], []],
    [['help'], []],
    [['volume'], ['volume']],
    [['volume', '--help'], ['volume']],
    [
      ['volume', 'ls', '-h'],
      ['volume', 'ls'],
    ],
    [
      ['help', 'volume', 'ls'],
      ['volume', 'ls'],
    ],
    [
      ['volume', 'inspect', '--help'],
      ['volume', 'inspect'],
    ],
  ])('%j asks for help', (args, words) => {
    expect(parseCommandLine(args)).toEqual({ kind: 'help', words });
  });

  it('finds a command that begins with the words of another one', () => {
    expect(callOf('cluster', 'backup').words).toBe('cluster backup');
    expect(callOf('cluster', 'backup', 'ls', '-q').words).toBe('cluster backup ls');
  });

  it('takes - as a name', () => {
    expect(callOf('cluster', 'join', '-', '--timeout', '1m').names).toEqual(['-']);
    expect(callOf('node', 'label', 'a', 'b=c', 'd-').names).toEqual(['a', 'b=c', 'd-']);
  });

  it('--version is a command', () => {
    expect(callOf('--version').words).toBe('version');
  });

  it.each([
    [['volum', 'ls'], 'there is no command "volum"; did you mean volume? (see docker openebs --help)'],
    [['volume', 'list'], 'there is no command "list" (see docker openebs volume --help)'],
    [['volume', 'lss'], 'there is no command "lss"; did you mean ls? (see docker openebs volume --help)'],
    [['help', 'volume', 'x'], 'there is no command "x" (see docker openebs volume --help)'],
    [['--frobnicate'], 'there is no option "--frobnicate" (see docker openebs --help)'],
    [
      ['events', '--sinse', '1m'],
      'there is no option "--sinse"; did you mean --since? (see docker openebs events --help)',
    ],
    [['events', '--__proto__', 'x'], 'there is no option "--__proto__" (see docker openebs events --help)'],
    [['events', '-x'], 'there is no option "-x" (see docker openebs events --help)'],
    [['events', '--since'], '--since needs a value: TIME (see docker openebs events --help)'],
    [['events', '--since='], '--since needs a value: TIME (see docker openebs events --help)'],
    [
      ['events', '--since', '1m', '--since', '2m'],
      '--since is there more than once (see docker openebs events --help)',
    ],
    [['events', 'web'], '"web" is one word too many (see docker openebs events --help)'],
    [['volume', 'ls', '--quiet=yes'], '--quiet takes no value (see docker openebs volume ls --help)'],
    [['volume', 'inspect'], 'volume inspect needs NAME (see docker openebs volume inspect --help)'],
    [
      ['volume', 'ls', '--format', 'yaml'],
      '--format is "yaml": give table or json (see docker openebs --help)',
    ],
    [['completion', 'fish'], 'SHELL is "fish": give bash or zsh (see docker openebs completion --help)'],
    [
      ['cluster', 'init', '--voters', '3'],
      'cluster init needs --advertise ADDR (see docker openebs cluster init --help)',
    ],
    [
      ['cluster', 'voters', '2'],
      'NUMBER is "2": give 1 or 3 or 5 (see docker openebs cluster voters --help)',
    ],
    [['cluster', 'join'], 'cluster join needs TOKEN (see docker openebs cluster join --help)'],
    [['cluster', 'backup', 'sl'], '"sl" is one word too many (see docker openebs cluster backup --help)'],
    [['node', 'label', 'a'], 'node label needs NODE KEY=VALUE (see docker openebs node label --help)'],
    [['completion'], 'completion needs SHELL (see docker openebs completion --help)'],
  ])('%j is refused, and says what is allowed', (args, message) => {
    const failure = failureOf(...args);
    expect(failure.message).toBe(message);
    expect(failure.exitCode).toBe(2);
  });

  it('names the socket before all of it is understood', () => {
    expect(socketOf(['volume', 'ls', '--socket', '/x', '--fo'])).toBe('/x');
    expect(socketOf(['volume', '--socket=/x', ''])).toBe('/x');
    expect(socketOf(['volume', '--socket'])).toBeUndefined();
    expect(socketOf(['volume'])).toBeUndefined();
  });
});

describe('the help', () => {
  it('names all commands, and those of a group', () => {
    for (const { words } of commands) expect(helpOf([])).toContain(`  ${words.join(' ')} `);
    expect(helpOf(['volume'])).toContain('volume inspect');
    expect(helpOf(['volume'])).not.toContain('node ls');
  });

  it('names all options of a command', () => {
    for (const command of commands) {
      const text = helpOf(command.words);
      expect(text).toContain(`Usage:  ${usageOf(command)}\n`);
      expect(text).toContain(command.summary);
      for (const name of [...Object.keys(command.options), ...Object.keys(commonOptions)])
        expect(text).toContain(`--${name}`);
    }
  });

  it('fits into a terminal of 130 columns', () => {
    const texts = [helpOf([]), ...commands.map(({ words }) => helpOf(words))];
    for (const line of texts.join('\n').split('\n')) expect(line.length).toBeLessThanOrEqual(130);
  });
});

/** Cells of the rows below a heading of README.md that begin with code. */
function readmeRows(heading: string): string[][] {
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
  const section = readme.split(`## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll('\\|', '|')),
    );
}

describe('README.md', () => {
  const rows = readmeRows('The command `docker openebs`');

  it('has a row for every command', () => {
    const found = rows.filter(([name]) => name?.startsWith('`docker openebs'));
    expect(found).toEqual(commands.map((command) => [`\`${usageOf(command)}\``, command.summary]));
  });

  it('has a row for every option', () => {
    const found = rows.filter(([name]) => name?.startsWith('`-'));
    const all = [
      ...commands.flatMap(({ words, options }) =>
        Object.entries(options).map(([name, option]) => [name, option, words.join(' ')] as const),
      ),
      ...Object.entries(commonOptions).map(([name, option]) => [name, option, 'all'] as const),
    ];
    const shown = all.map(([name, option, words]) => {
      const { short, value } = option as { short?: string; value?: string };
      const flags = `${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`;
      return [`\`${flags}\``, words, option.help];
    });
    expect(found).toEqual(shown);
  });
});
