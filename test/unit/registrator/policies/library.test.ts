import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createPolicyLibrary,
  type PolicyLibrary,
} from '../../../../src/registrator/policies/library/library.js';
import {
  createPolicyDirectory,
  type PolicyDirectory,
} from '../../../../src/registrator/policies/library/policy-files.js';
import type { Policy } from '../../../../src/registrator/policies/policy.js';
import { createSandbox, type Sandbox } from '../../../../src/registrator/policies/sandbox.js';
import { subjectOf } from '../../../../src/registrator/policies/subject.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import type { State } from '../../../../src/state/state.js';
import { createLogLines } from '../../../support/log-lines.js';

const ctx = { log: createLogLines().log, signal: new AbortController().signal, requestId: 'test' };
const subject = subjectOf(
  'container',
  'c1',
  {
    Name: '/web',
    Config: { Hostname: 'web' },
    NetworkSettings: { Networks: { bridge: { IPAddress: '10.0.0.2' } } },
  },
  { id: 'n1', hostname: 'host-1', address: '192.0.2.1' },
);

let sandbox: Sandbox;
let state: State;
let directory: string;
let library: PolicyLibrary;
let running: Map<string, Policy>;
let changes: number;
let logged: ReturnType<typeof createLogLines>;

beforeAll(() => {
  sandbox = createSandbox();
});

afterAll(async () => {
  await sandbox.close();
});

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'policies-'));
  state = createMemoryState();
  running = new Map();
  changes = 0;
  logged = createLogLines();
});

afterEach(async () => {
  await library.close();
  await state.close();
  await rm(directory, { recursive: true, force: true });
});

async function start(more: Partial<Parameters<typeof createPolicyLibrary>[0]> = {}): Promise<void> {
  library = createPolicyLibrary({
    state,
    directory: createPolicyDirectory(directory, '/shown'),
    defaults: [],
    sandbox,
    log: logged.log,
    lookEveryMs: 20,
    listener: {
      add: (policy) => running.set(policy.name, policy),
      remove: (name) => running.delete(name),
      changed: () => (changes += 1),
    },
    ...more,
  });
  await library.loaded;
}

/** As an editor does it: the file is there whole, or not at all. */
async function write(name: string, content: string | object): Promise<void> {
  const file = join(directory, name);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.tmp`, typeof content === 'string' ? content : JSON.stringify(content));
  await rename(`${file}.tmp`, file);
}

const put = (name: string, config: string | object) =>
  state.transact(ctx, {
    if: [],
    then: [
      { put: `${keys.policies}${name}`, value: typeof config === 'string' ? config : JSON.stringify(config) },
    ],
  });

const names = () => [...running.keys()].toSorted();
const gives = (name: string) => running.get(name)?.run(subject);
const problems = () => Object.fromEntries(library.status().map(({ name, problem }) => [name, problem]));

const named = `export const config = { properties: { domain: { type: 'string', default: 'local' } },
  additionalProperties: false };
export function container(object, config) { return { ['/test/' + config.domain]: object.name }; }`;

describe('the library of policies', () => {
  it('runs the defaults, and an instance of the same name instead of one', async () => {
    await write('skydns.json', { domain: 'kontena.local' });
    await start({ defaults: ['objects', 'skydns'] });
    expect(names()).toEqual(['objects/objects', 'skydns/skydns']);
    expect(await gives('skydns/skydns')).toEqual({ '/skydns/local/kontena/web': { host: '10.0.0.2' } });
    expect(library.status()).toContainEqual({
      name: 'skydns/skydns',
      from: '/shown/skydns.json',
      running: true,
      problem: null,
    });
    await rm(join(directory, 'skydns.json'));
    await vi.waitFor(async () => {
      expect(await gives('skydns/skydns')).toEqual({ '/skydns/local/skydns/web': { host: '10.0.0.2' } });
    });
  });

  it('takes instances from files, flat and in a folder, and from shared state, live', async () => {
    await write('skydns/kontena-local.json', { domain: 'kontena.local' });
    await put('skydns/test', { domain: 'a.b' });
    await start();
    expect(names()).toEqual(['skydns/kontena-local', 'skydns/test']);
    await put('skydns/test', { domain: 'c.d' });
    await put('skydns/more', {});
    await vi.waitFor(async () => {
      expect(await gives('skydns/test')).toEqual({ '/skydns/d/c/web': { host: '10.0.0.2' } });
      expect(names()).toEqual(['skydns/kontena-local', 'skydns/more', 'skydns/test']);
    });
    await state.transact(ctx, { if: [], then: [{ delete: `${keys.policies}skydns/test` }] });
    await vi.waitFor(() => {
      expect(names()).toEqual(['skydns/kontena-local', 'skydns/more']);
    });
  });

  it('prefers a file of the host to shared state', async () => {
    await write('skydns/x.json', { domain: 'file' });
    await put('skydns/x', { domain: 'state' });
    await start();
    expect(await gives('skydns/x')).toEqual({ '/skydns/file/web': { host: '10.0.0.2' } });
  });

  it('runs policies of files: with instances where they declare a configuration, else once', async () => {
    await write('named.js', named);
    await write('named/one.json', { domain: 'one' });
    await write('named/two.json', {});
    await write('plain.js', `export const container = ({ id }) => ({ '/test/plain': id });`);
    await start();
    expect(names()).toEqual(['named/one', 'named/two', 'plain/plain']);
    expect(await gives('named/one')).toEqual({ '/test/one': 'web' });
    expect(await gives('named/two')).toEqual({ '/test/local': 'web' });
    expect(await gives('plain/plain')).toEqual({ '/test/plain': 'c1' });
  });

  it('says of a policy that takes a configuration that it has none', async () => {
    await write('named.js', named);
    await start();
    expect(names()).toEqual([]);
    expect(problems()['/shown/named.js']).toContain('write named.json');
    await write('named.json', {});
    await vi.waitFor(() => {
      expect(names()).toEqual(['named/named']);
      expect(problems()).toEqual({ 'named/named': null });
    });
  });

  it('lets a policy of a file stand in for a built-in one, and goes back', async () => {
    await write('skydns.js', `export const container = () => ({ '/test/mine': 1 });`);
    await start({ defaults: ['skydns'] });
    expect(await gives('skydns/skydns')).toEqual({ '/test/mine': 1 });
    await rm(join(directory, 'skydns.js'));
    await vi.waitFor(async () => {
      expect(await gives('skydns/skydns')).toEqual({ '/skydns/local/skydns/web': { host: '10.0.0.2' } });
    });
  });

  it.each([
    ['bad.js', 'export function container( {', 'SyntaxError'],
    ['bad.js', 'export const a = 1', 'it exports no function for a kind of object'],
    ['bad.js', 'for (;;);', 'took longer than 1000 ms'],
    ['bad.js', 'throw new Error("so be it")', 'so be it'],
    ['bad.js', 'import fs from "node:fs"; export const container = () => ({})', 'one file'],
    ['bad.js', 'export const merge = "max"; export const container = () => ({})', 'give "min"'],
    ['bad.js', 'export const overwrite = 1; export const container = () => ({})', 'give true or false'],
    ['bad.js', 'export const config = 5; export const container = () => ({})', 'no JSON Schema'],
    [
      'bad.js',
      'export const config = { type: "number" }; export const container = () => ({})',
      'no JSON Schema',
    ],
    [
      'bad.js',
      'export const config = { properties: { a: { type: "nonsense" } } }; export const container = () => ({})',
      'no JSON Schema',
    ],
    [
      'bad.js',
      'export const config = { properties: { a: { type: "string", pattern: "(a+)+b" } } }; export const container = () => ({})',
      '"pattern", which is not supported',
    ],
    ['skydns/bad.json', '{"domain":', 'it is not JSON'],
    ['skydns/bad.json', '{"domain":5}', 'domain'],
    ['skydns/bad.json', '{"dmain":"x"}', 'dmain'],
    ['skydns/bad.json', '[]', 'expected object'],
    ['nothing/bad.json', '{}', 'its policy nothing is not there'],
    ['skydns/b d.json', '{}', 'its name must be'],
    ['skydns/big.json', ' '.repeat(300_000), 'bytes: at most'],
  ])(
    'keeps a bad %s out, tells of it once, and goes on with all others: %.60s',
    async (file, text, problem) => {
      await write(file, text);
      await start({ defaults: ['objects'] });
      await vi.waitFor(() => {
        expect(names()).toEqual(['objects/objects']);
      });
      const [found] = library.status().filter((one) => one.problem !== null);
      expect(found).toMatchObject({
        running: false,
        problem: expect.stringContaining(problem) as string,
      });
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(logged.lines.filter(({ msg }) => msg.startsWith('a policy is kept out'))).toHaveLength(1);
    },
  );

  it('goes on with the last good version while a bad one is there', async () => {
    await write('named.js', named);
    await write('named.json', { domain: 'one' });
    await start();
    await write('named.json', { domain: 5 });
    await vi.waitFor(() => {
      expect(problems()['named/named']).toContain('domain');
    });
    expect(await gives('named/named')).toEqual({ '/test/one': 'web' });
    await write('named.js', 'export nonsense');
    await vi.waitFor(() => {
      expect(problems()['/shown/named.js']).toContain('SyntaxError');
    });
    expect(await gives('named/named')).toEqual({ '/test/one': 'web' });
    await write('named.js', named.replace('object.name', 'object.id'));
    await write('named.json', { domain: 'two' });
    await vi.waitFor(async () => {
      expect(await gives('named/named')).toEqual({ '/test/two': 'c1' });
      expect(problems()).toEqual({ 'named/named': null });
    });
  });

  it('lets the last good version work as long as it runs, when its configuration does not fit the next one', async () => {
    await write('named.js', named);
    await write('named.json', { domain: 'one' });
    await start();
    await write('named.js', named.replace("type: 'string', default: 'local'", "type: 'number'"));
    await vi.waitFor(() => {
      expect(problems()['named/named']).toContain('domain');
    });
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(await gives('named/named')).toEqual({ '/test/one': 'web' });
    expect(library.isInTrouble('named/named')).toBe(false);
    await write('named.json', { domain: 2 });
    await vi.waitFor(async () => {
      expect(await gives('named/named')).toEqual({ '/test/2': 'web' });
    });
  });

  it('takes away what a policy gave when it is taken away, and its configuration stays', async () => {
    await write('named.js', named);
    await write('named.json', {});
    await start();
    expect(names()).toEqual(['named/named']);
    await rm(join(directory, 'named.js'));
    await vi.waitFor(() => {
      expect(names()).toEqual([]);
      expect(problems()['named/named']).toBe('its policy named is not there');
    });
  });

  it('never puts a built-in policy in the place of a bad one, and knows that it is in trouble', async () => {
    await write('skydns.js', 'export nonsense');
    await write('skydns.json', {});
    await start();
    expect(names()).toEqual([]);
    expect(library.isInTrouble('skydns/skydns')).toBe(true);
    expect(library.isInTrouble('objects/objects')).toBe(false);
  });

  it('does not wait for shared state that is away, and says that it is not whole', async () => {
    await write('skydns.json', {});
    let isWhole = false;
    const away = { watch: () => ({ close: () => undefined }) };
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    try {
      const starting = start({ state: away });
      await vi.advanceTimersByTimeAsync(10_000);
      await starting;
    } finally {
      vi.useRealTimers();
    }
    void library.whole.then(() => (isWhole = true));
    expect(names()).toEqual(['skydns/skydns']);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isWhole).toBe(false);
  });

  it('changes nothing while the directory cannot be read, and says so once', async () => {
    await write('skydns.json', { domain: 'a' });
    const readable = createPolicyDirectory(directory);
    let broken = false;
    const flaky: PolicyDirectory = {
      look: () => (broken ? Promise.reject(new Error('EIO')) : readable.look()),
    };
    await start({ directory: flaky });
    broken = true;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(names()).toEqual(['skydns/skydns']);
    expect(logged.lines.filter(({ msg }) => msg === 'policies stay as they are')).toHaveLength(1);
    broken = false;
    await write('skydns/more.json', {});
    await vi.waitFor(() => {
      expect(names()).toEqual(['skydns/more', 'skydns/skydns']);
    });
  });

  it('does nothing while nothing changes, and leaves the files of editors alone', async () => {
    await write('skydns.json', { domain: 'a' });
    await start();
    expect(changes).toBe(1);
    await write('.skydns.json.swp', 'x');
    await write('README.md', 'x');
    await write('skydns/notes.txt', 'x');
    await put('skydns/skydns', { domain: 'of no effect' });
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(changes).toBe(1);
    expect(library.status()).toHaveLength(1);
  });

  it('has nothing where there is no directory', async () => {
    await rm(directory, { recursive: true });
    await start();
    expect(library.status()).toEqual([]);
    await write('skydns.json', {});
    await vi.waitFor(() => {
      expect(names()).toEqual(['skydns/skydns']);
    });
  });
});
