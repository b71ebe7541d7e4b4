import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

const script = resolve(import.meta.dirname, '../summary.ts');
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'openebs-summary-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function part(name: string, code: number, ...suites: [status: string, ...tests: string[]][]): void {
  writeFileSync(join(folder, `${name}.code`), `${String(code)}\n`);
  if (suites.length === 0) return;
  const testResults = suites.map(([status, ...tests], index) => ({
    name: `${name}${String(index)}.test.ts`,
    status,
    message: 'cannot be loaded',
    assertionResults: tests.map((result, test) => ({
      fullName: `${result} ${String(test)}`,
      status: result,
      failureMessages: result === 'failed' ? ['\u001B[31mError\u001B[0m: wrong\n    at here:1'] : [],
    })),
  }));
  writeFileSync(join(folder, `${name}.json`), JSON.stringify({ testResults }));
}

function summary(): { lines: string[]; code: number | null } {
  const { stdout, status } = spawnSync(process.execPath, [script, folder], { encoding: 'utf8' });
  return { lines: stdout.trimEnd().split('\n'), code: status };
}

test('the tests of all parts are added up', () => {
  part('check', 0);
  part('unit', 0, ['passed', 'passed', 'passed'], ['passed', 'passed']);
  part('e2e', 0, ['passed', 'passed', 'skipped']);
  expect(summary()).toEqual({ lines: ['skipped e2e: skipped 1', '4 passed, 0 failed'], code: 0 });
});

test('a failed test, a file that does not load and a part without tests count one failure each', () => {
  part('check', 1);
  part('unit', 1, ['failed', 'passed', 'failed'], ['failed']);
  const { lines, code } = summary();
  const reasons = lines.map((line) => line.trim());
  expect(reasons).toEqual([
    ...['FAILED  check: not a test', 'see its output'],
    ...['FAILED  unit: failed 1', 'Error: wrong', 'at here:1'],
    ...['FAILED  unit: unit1.test.ts', 'cannot be loaded'],
    '1 passed, 3 failed',
  ]);
  expect(code).toBe(1);
});

test('a part whose tests all passed but that ended with an error is a failure', () => {
  part('unit', 1, ['passed', 'passed']);
  expect(summary()).toMatchObject({ code: 1 });
});

test('a run that ended before its first part is a failure', () => {
  expect(summary()).toEqual({ lines: ['0 passed, 1 failed'], code: 1 });
});

test('make lists every target with a line', () => {
  const text = execFileSync('make', ['-s'], { cwd: resolve(import.meta.dirname, '../..'), encoding: 'utf8' });
  for (const target of 'up down test check unit integration contract e2e bench image plugin push clean'.split(
    ' ',
  )) {
    expect(text).toMatch(new RegExp(`^ +${target} +\\w`, 'm'));
  }
});
