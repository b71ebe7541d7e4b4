import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { complete } from '../../../src/cli/completion.js';
import { scripts } from '../../../src/cli/completion-script.js';

const node = (id: string, hostname: string) => ({ id, hostname });
const answers: Readonly<Record<string, unknown>> = {
  '/v1/volumes': { volumes: [{ name: 'db' }, { name: 'data' }, { name: 'web' }] },
  '/v1/nodes': { nodes: [node('ID1', 'a'), node('ID2', 'same'), node('ID3', 'same')] },
  '/v1/cluster/tokens': { tokens: [{ id: 't1' }, { id: 't2' }] },
  '/v1/cluster/backups': { backups: [{ file: '/b/1' }] },
};
const admin = { get: <Message>(path: string) => Promise.resolve(answers[path] as Message) };
const silent = { get: () => Promise.reject(new Error('nobody listens')) };

async function texts(
  words: readonly string[],
  from: Parameters<typeof complete>[1] = admin,
): Promise<string[]> {
  const lines = (await complete(words, from)).split('\n');
  expect(lines.at(-1)).toBe('');
  return lines.slice(0, -1).map((line) => line.split('\t')[0] ?? '');
}

describe('completion', () => {
  it.each([
    [[''], ['cluster', 'node', 'volume', 'events', 'doctor', 'version', 'completion', ':4']],
    [['v'], ['volume', 'version', ':4']],
    [
      ['volume', ''],
      ['ls', 'inspect', ':4'],
    ],
    [
      ['volume', 'inspect', 'd'],
      ['db', 'data', ':4'],
    ],
    [
      ['volume', 'inspect', 'db', 'd'],
      ['data', ':4'],
    ],
    [
      ['volume', 'inspect', '--format', 'json', ''],
      ['db', 'data', 'web', ':4'],
    ],
    [['volume', 'ls', ''], [':4']],
    [
      ['volume', 'ls', '--qu'],
      ['--quiet', ':4'],
    ],
    [
      ['volume', 'ls', '--format', ''],
      ['table', 'json', ':4'],
    ],
    [
      ['--format', 'json', 'vol'],
      ['volume', ':4'],
    ],
    [
      ['node', 'inspect', ''],
      ['a', 'ID2', 'ID3', ':4'],
    ],
    [
      ['events', '--node', ''],
      ['a', 'ID2', 'ID3', ':4'],
    ],
    [
      ['events', '--type', 'c'],
      ['container', ':4'],
    ],
    [['events', '--since', ''], [':4']],
    [['events', '--socket', '/r'], [':0']],
    [
      ['completion', ''],
      ['bash', 'zsh', ':4'],
    ],
    [['completion', 'bash', ''], [':4']],
    [
      ['cluster', 'token', ''],
      ['create', 'ls', 'revoke', ':4'],
    ],
    [
      ['cluster', 'token', 'revoke', 't1', ''],
      ['t2', ':4'],
    ],
    [
      ['cluster', 'backup', ''],
      ['ls', ':4'],
    ],
    [
      ['cluster', 'restore', ''],
      ['/b/1', ':4'],
    ],
    [
      ['cluster', 'voters', ''],
      ['1', '3', '5', ':4'],
    ],
    [
      ['cluster', 'init', '--voters', ''],
      ['1', '3', '5', ':4'],
    ],
    [
      ['cluster', 'join', '--discovery', ''],
      ['token', 'static:', 'dns:', 'multicast', 'swarm', 'unix:', ':4'],
    ],
    [['cluster', 'join', ''], [':4']],
    [
      ['cluster', 'remove-node', 'a'],
      ['a', ':4'],
    ],
    [
      ['node', 'drain', '--undo', 'I'],
      ['ID2', 'ID3', ':4'],
    ],
    [
      ['node', 'label', ''],
      ['a', 'ID2', 'ID3', ':4'],
    ],
    [['node', 'label', 'a', ''], [':4']],
    [['nothing', 'such', ''], [':4']],
  ])('of %j', async (words, expected) => {
    expect(await texts(words)).toEqual(expected);
  });

  it('tells what commands and options are for', async () => {
    expect(await complete(['doc'], admin)).toMatch(/^doctor\tCheck this host/);
    expect(await complete(['volume', 'ls', '-'], admin)).toContain('--quiet\tnames alone\n');
  });

  it('has no names while the plugin does not answer', async () => {
    expect(await texts(['volume', 'inspect', ''], silent)).toEqual([':4']);
  });
});

/** What bash has completed when these are the words, the last one unfinished. */
function completed(words: readonly string[], before = ''): string {
  const script = `
    docker() { printf '%s|' "$@" >&2; printf 'db\\ttext\\ndata\\n:4\\n'; }
    ${before}
    ${scripts.bash}
    COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${String(words.length - 1)}
    __docker_openebs docker 2>&1
    echo "reply:\${COMPREPLY[*]}"`;
  return execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trim();
}

describe('the script for bash', () => {
  it('asks the program for all that is behind its name', () => {
    const asked = completed(['docker', 'openebs', 'volume', 'inspect', 'd']);
    expect(asked).toContain('reply:db data');
  });

  it('leaves everything else to what completed docker before', () => {
    const before = '_former() { COMPREPLY=(former); }; complete -F _former docker';
    expect(completed(['docker', 'ps', ''], before)).toBe('reply:former');
    expect(completed(['docker', 'openebs', ''], before)).toContain('reply:db data');
    expect(completed(['docker', 'ps', ''])).toBe('reply:');
  });

  it('may be loaded twice', () => {
    const before = `_former() { COMPREPLY=(former); }; complete -F _former docker; ${scripts.bash}`;
    expect(completed(['docker', 'ps', ''], before)).toBe('reply:former');
  });
});
