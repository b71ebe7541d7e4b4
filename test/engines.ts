/**
 * The table of `plugin/test-engines.sh` from what it left in a folder: ENGINE.code (an exit code) and ENGINE.json
 * (Vitest's report). Run by Node as it is: node test/engines.ts FOLDER
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
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

function readEngine(folder: string, engine: string): Cell[] {
  const json = join(folder, `${engine}.json`);
  const red = readFileSync(join(folder, `${engine}.code`), 'utf8').trim() !== '0';
  const suites = existsSync(json) ? (JSON.parse(readFileSync(json, 'utf8')) as Report).testResults : [];
  const cells = suites.map(({ name, status, assertionResults: tests }) => {
    const failed = tests.filter((test) => test.status === 'failed').map((test) => test.fullName);
    return {
      engine,
      file: basename(name, '.test.ts'),
      passed: tests.filter((test) => test.status === 'passed').length,
      failed: status === 'failed' && failed.length === 0 ? ['not a test: see the output'] : failed,
      skipped: tests.filter((test) => ['pending', 'skipped', 'todo', 'disabled'].includes(test.status))
        .length,
    };
  });
  if (red && cells.every((cell) => cell.failed.length === 0)) {
    cells.push({
      engine,
      file: '(the run)',
      passed: 0,
      failed: ['ended with an error: see the output'],
      skipped: 0,
    });
  }
  return cells;
}

function verdict(cell: Cell | undefined): string {
  if (!cell) return '-';
  const skipped = cell.skipped > 0 ? `, ${String(cell.skipped)} skipped` : '';
  return `${String(cell.passed)} ok${skipped}${cell.failed.length > 0 ? `, ${String(cell.failed.length)} FAILED` : ''}`;
}

const folder = process.argv[2] ?? 'build/reports-engines';
const cells = (existsSync(folder) ? readdirSync(folder) : [])
  .filter((name) => name.endsWith('.code'))
  .flatMap((name) => readEngine(folder, name.slice(0, -'.code'.length)));
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
