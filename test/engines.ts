/**
 * The table of `plugin/test-engines.sh` from what it left in a folder: ENGINE-FILE.code (an exit code) and
 * ENGINE-FILE.json (Vitest's report). Run by Node as it is: node test/engines.ts FOLDER
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Report {
  readonly testResults: readonly {
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

interface Cell {
  readonly engine: string;
  readonly file: string;
  readonly passed: number;
  readonly failed: readonly string[];
  readonly skipped: number;
}

function readCell(folder: string, name: string): Cell {
  const [, engine = '', file = ''] = /^(\d+\.\d+(?:\+live-restore)?)-(.*)$/.exec(name) ?? [];
  const json = join(folder, `${name}.json`);
  const tests = existsSync(json)
    ? (JSON.parse(readFileSync(json, 'utf8')) as Report).testResults.flatMap(
        (suite) => suite.assertionResults,
      )
    : [];
  const red = readFileSync(join(folder, `${name}.code`), 'utf8').trim() !== '0';
  const failed = tests.filter((test) => test.status === 'failed').map((test) => test.fullName);
  return {
    engine,
    file,
    passed: tests.filter((test) => test.status === 'passed').length,
    failed: red && failed.length === 0 ? ['not a test: see the output'] : failed,
    skipped: tests.filter((test) => ['pending', 'skipped', 'todo', 'disabled'].includes(test.status)).length,
  };
}

function verdict(cell: Cell | undefined): string {
  if (!cell) return '-';
  const skipped = cell.skipped > 0 ? `, ${String(cell.skipped)} skipped` : '';
  return `${String(cell.passed)} ok${skipped}${cell.failed.length > 0 ? `, ${String(cell.failed.length)} FAILED` : ''}`;
}

const folder = process.argv[2] ?? 'build/reports-engines';
const cells = (existsSync(folder) ? readdirSync(folder) : [])
  .filter((name) => name.endsWith('.code'))
  .map((name) => readCell(folder, name.slice(0, -'.code'.length)));
const engines = [...new Set(cells.map((cell) => cell.engine))].sort();
const rows = [...new Set(cells.map((cell) => cell.file))]
  .sort()
  .map((file) => [
    file,
    ...engines.map((engine) => verdict(cells.find((cell) => cell.engine === engine && cell.file === file))),
  ]);
const table = [['file', ...engines], ...rows];
const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
for (const row of table)
  console.log(
    row
      .map((text, column) => text.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
for (const { engine, file, failed } of cells) {
  for (const name of failed) console.log(`FAILED  ${engine} ${file}: ${name}`);
}
const failed = cells.reduce((sum, cell) => sum + cell.failed.length, 0);
const passed = cells.reduce((sum, cell) => sum + cell.passed, 0);
console.log(`engines: ${String(passed)} passed, ${String(failed)} failed`);
process.exitCode = failed === 0 && cells.length > 0 ? 0 : 1;
