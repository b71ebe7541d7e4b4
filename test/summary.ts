/**
 * Adds up what the parts of `make test` left in a folder: NAME.code (an exit code) and, from tests, NAME.json
 * (Vitest's JSON report). A part that failed without a failed test counts as one failure. The last line printed
 * is "N passed, N failed". Run by Node as it is: node test/summary.ts FOLDER
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

interface Tally {
  readonly passed: number;
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
}

function tallyOf(report: Report): Tally {
  const tests = report.testResults.flatMap((suite) => suite.assertionResults);
  const named = (...states: string[]) =>
    tests.filter((test) => states.includes(test.status)).map((test) => test.fullName);
  // A file that does not even load has no tests to blame.
  const broken = report.testResults.filter(
    (suite) => suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed'),
  );
  return {
    passed: named('passed').length,
    failed: [...named('failed'), ...broken.map((suite) => suite.name)],
    skipped: named('pending', 'skipped', 'todo', 'disabled'),
  };
}

function tallyPart(folder: string, part: string): Tally {
  const file = join(folder, `${part}.json`);
  const red = readFileSync(join(folder, `${part}.code`), 'utf8').trim() !== '0';
  const tally = existsSync(file)
    ? tallyOf(JSON.parse(readFileSync(file, 'utf8')) as Report)
    : { passed: 0, failed: [], skipped: [] };
  return red && tally.failed.length === 0 ? { ...tally, failed: ['not a test: see its output'] } : tally;
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
  for (const name of tally.failed) console.log(`FAILED  ${part}: ${name}`);
  passed += tally.passed;
  failed += tally.failed.length;
}
console.log(`${String(passed)} passed, ${String(failed)} failed`);
process.exitCode = failed === 0 ? 0 : 1;
