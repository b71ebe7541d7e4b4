import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSandbox, type Sandbox } from '../../../../src/registrator/policies/sandbox.js';

let sandbox: Sandbox;

beforeAll(() => {
  sandbox = createSandbox({ graceMs: 1_000 });
});

afterAll(async () => {
  await sandbox.close();
});

const input = JSON.stringify([{ name: 'web', inspect: { Config: { Hostname: 'h' } } }, { domain: 'a.b' }]);

async function result(body: string, given = input): Promise<unknown> {
  await sandbox.load('p', `export function container(object, config) { ${body} }`);
  return sandbox.run('p', 'container', given).catch((error: unknown) => (error as Error).message);
}

describe('the sandbox of policies', () => {
  it('tells what a module exports', async () => {
    expect(
      await sandbox.load(
        'p',
        'export const config = { a: { default: 1 } }; export const container = (c) => ({}); export function image() {}',
      ),
    ).toEqual({ kinds: ['container', 'image'], exports: { config: { a: { default: 1 } } } });
  });

  it('gives back what a function returns', async () => {
    expect(
      await result(`return { ['/' + config.domain.split('.').reverse().join('/')]: { host: object.name } }`),
    ).toEqual({
      '/b/a': { host: 'web' },
    });
    expect(await result('')).toBeNull();
    expect(await result('return null')).toBeNull();
    expect(await result('return "text"')).toBe('text');
    expect(await result('return { a: undefined, b: [undefined] }')).toEqual({ a: null, b: [null] });
  });

  it.each([
    ['object.name = 1', "'name' is read-only"],
    ['object.inspect.Config.Hostname = 1', "'Hostname' is read-only"],
    ['config.more = 1', 'object is not extensible'],
    ['throw new Error("so be it")', 'Error: so be it (p:1:'],
    ['throw "text"', 'text'],
    ['return nothing.at.all', "'nothing' is not defined"],
    ['return { key: () => 1 }', 'a function is no value: key'],
    ['return { key: 10n }', 'a bigint is no value: key'],
    ['const a = {}; a.a = a; return a', 'circular'],
    ['for (;;);', 'it took longer than 100 ms'],
    [
      'const all = []; for (;;) all.push("x".repeat(100000) + all.length)',
      /took (more than 16 MiB of memory|longer)|was stopped/,
    ],
    ['return { key: "x".repeat(2 ** 20) }', 'it returns 1048'],
    ['const deep = () => [deep()]; return deep()', 'stack'],
    ['return eval("for(;;);")', 'it took longer than 100 ms'],
  ])('says why there is no result: %s', async (body, reason) => {
    const text = await result(body);
    if (reason instanceof RegExp) expect(text).toMatch(reason);
    else expect(text).toContain(reason);
    expect(await result('return { ok: object.name }')).toEqual({ ok: 'web' });
  });

  it.each([
    'process',
    'require',
    'fetch',
    'setTimeout',
    'Date',
    'console',
    'performance',
    'crypto',
    'XMLHttpRequest',
    'std',
    'os',
    'Worker',
  ])('has no %s', async (name) => {
    expect(await result(`return typeof ${name}`)).toBe('undefined');
  });

  it('has no chance and no imports', async () => {
    expect(await result('return typeof Math.random')).toBe('undefined');
    await expect(
      sandbox.load('p', 'import fs from "node:fs"; export function container() {}'),
    ).rejects.toThrow('one file');
    const late = await result('return import("node:fs").then((fs) => Object.keys(fs))');
    expect(late).toEqual({});
  });

  it('says what is wrong with a module that cannot be loaded', async () => {
    await expect(sandbox.load('bad.js', 'export function {')).rejects.toThrow(/SyntaxError: .+/);
    await expect(sandbox.load('bad.js', 'throw new Error("at once")')).rejects.toThrow('at once');
    await expect(sandbox.load('bad.js', 'for (;;);')).rejects.toThrow('it took longer than 1000 ms');
    await expect(sandbox.run('bad.js', 'container', input)).rejects.toThrow('not loaded');
  });

  it('keeps policies from each other', async () => {
    await sandbox.load(
      'one',
      'globalThis.shared = 1; Array.prototype.at = () => "mine"; export const container = () => 1',
    );
    await sandbox.load('two', 'export const container = () => [typeof shared, [1].at(0)]');
    expect(await sandbox.run('two', 'container', input)).toEqual(['undefined', 1]);
  });

  it('leaves the thread that asks free while a policy is stuck', async () => {
    await sandbox.load('p', 'export function container() { for (;;); }');
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 5);
    await sandbox.run('p', 'container', input).catch(() => undefined);
    clearInterval(timer);
    expect(turns).toBeGreaterThan(3);
  });

  it('has all policies again after its thread was stuck where no limit reaches', async () => {
    await sandbox.load('good', 'export const container = (object) => object.name');
    // One step of a regular expression that takes for ever: the engine looks at its limits between steps only.
    await sandbox.load('stuck', 'export const container = () => /^(a+)+$/.test("a".repeat(60) + "b")');
    await expect(sandbox.run('stuck', 'container', input)).rejects.toThrow(/stopped|longer/);
    expect(await sandbox.run('good', 'container', input)).toBe('web');
  });
});
