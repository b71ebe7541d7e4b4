/**
 * Adds up what the parts of `make test` left in a folder: NAME.code (an exit code) and, from tests, NAME.json
 * (Vitest's JSON report). A part that failed without a failed test counts as one failure. Below each failure stands
 * how its reason begins: often the end of the output is all that is kept of a run. The last line printed is
 * "N passed, N failed". Run by Node as it is: node test/summary.ts FOLDER
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const REASON_LINES = 6;
const LINE_LENGTH = 600;

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

interface Failure {
  readonly name: string;
  readonly reason: string;
}

interface Tally {
  readonly passed: number;
  readonly failed: readonly Failure[];
  readonly skipped: readonly string[];
}

function tallyOf(report: Report): Tally {
  const tests = report.testResults.flatMap((suite) => suite.assertionResults);
  const inState = (...states: string[]) => tests.filter((test) => states.includes(test.status));
  // A file that does not even load has no tests to blame.
  const broken = report.testResults.filter(
    (suite) => suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed'),
  );
  return {
    passed: inState('passed').length,
    failed: [
      ...inState('failed').map((test) => ({ name: test.fullName, reason: test.failureMessages.join('\n') })),
      ...broken.map((suite) => ({ name: suite.name, reason: suite.message })),
    ],
    skipped: inState('pending', 'skipped', 'todo', 'disabled').map((test) => test.fullName),
  };
}

function beginningOf(reason: string): string {
  const lines = stripVTControlCharacters(reason).split('\n');
  const isFrame = (line: string) => /^ +at /.test(line);
  const where = lines.find((line) => isFrame(line) && !line.includes('node_modules'));
  const said = lines.filter((line) => line.trim() !== '' && !isFrame(line)).slice(0, REASON_LINES);
  return [...said, ...(where === undefined ? [] : [where.trim()])]
    .map((line) => `        ${line.slice(0, LINE_LENGTH)}\n`)
    .join('');
}

function tallyPart(folder: string, part: string): Tally {
  const file = join(folder, `${part}.json`);
  const red = readFileSync(join(folder, `${part}.code`), 'utf8').trim() !== '0';
  const tally = existsSync(file)
    ? tallyOf(JSON.parse(readFileSync(file, 'utf8')) as Report)
    : { passed: 0, failed: [], skipped: [] };
  const silent = red && tally.failed.length === 0;
  return silent ? { ...tally, failed: [{ name: 'not a test', reason: 'see its output' }] } : tally;
}

const folder = process.argv[2] ?? 'build/reports';
const parts = (existsSync(folder) ? readdirSync(folder) : [])
  .filter((name) => name.endsWith('.code'))
  .map((name) => name.slice(0, -'.code'.length));

let passed = 0;
// Without any part something went wrong before the first.
let failed = parts.length === 0 ? 1 : 0;
for (const part of parts) {
  const tally = tallyPart(folder, part);
  for (const name of tally.skipped) console.log(`skipped ${part}: ${name}`);
  for (const { name, reason } of tally.failed)
    process.stdout.write(`FAILED  ${part}: ${name}\n${beginningOf(reason)}`);
  passed += tally.passed;
  failed += tally.failed.length;
}
console.log(`${String(passed)} passed, ${String(failed)} failed`);
process.exitCode = failed === 0 ? 0 : 1;
