/** The command: options.ts#help says what it does. */
import type { Group } from './case.js';
import { groups as allGroups } from './cases/index.js';
import { help, parseCommandLine, UsageError, type CommandLine } from './options.js';
import { jsonReport, tableReport } from './report.js';
import { startRun } from './run.js';
import { Trial } from './trial.js';
import { Connection, reachable } from './wire.js';

function choose(only: RegExp | null): Group[] {
  const chosen = allGroups.map((group) => {
    const keep = ({ name }: { name: string }) => only?.test(`${group.name}: ${name}`) ?? true;
    return { ...group, cases: group.cases.filter(keep), after: (group.after ?? []).filter(keep) };
  });
  return chosen.filter((group) => group.cases.length + group.after.length > 0);
}

function listCases(groups: readonly Group[]): void {
  for (const group of groups)
    for (const each of [...group.cases, ...(group.after ?? [])])
      process.stdout.write(`${group.name}: ${each.name}  (${each.why})\n`);
}

async function main(command: CommandLine): Promise<number> {
  const groups = choose(command.only);
  if (groups.length === 0) throw new UsageError('--only matches no case; --list prints them');
  if (command.list) {
    listCases(groups);
    return 0;
  }
  const socket = reachable(command.socketPath);
  (await Connection.open(socket.path)).close();
  const trial = new Trial({ ...command, socketPath: socket.path });
  const write = (text: string) => void process.stdout.write(text);
  const report = command.format === 'json' ? jsonReport(write) : tableReport(groups, write);
  const run = startRun(trial, { ...command, groups }, (outcome) => {
    report.add(outcome);
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      process.stderr.write(`${signal}: taking back what was made\n`);
      run.interrupt();
    });
  }
  const complete = await run.finished;
  socket.release();
  const conforms = report.end(command.socketPath, complete);
  if (!complete) return 2;
  return conforms ? 0 : 1;
}

try {
  const command = parseCommandLine(process.argv.slice(2));
  if (command) process.exitCode = await main(command);
  else process.stdout.write(help);
} catch (reason) {
  process.stderr.write(`conformance: ${reason instanceof Error ? reason.message : String(reason)}\n`);
  if (reason instanceof UsageError) process.stderr.write('--help tells how to use it\n');
  process.exitCode = 2;
}
