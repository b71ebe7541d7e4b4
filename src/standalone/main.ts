/** The registrator without the volume driver: one process, in a container of its own or wherever Node runs. */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { quote } from '../lib/quote.js';
import { createLog, type Log } from '../log.js';
import { showDryRun, showKeys } from './output.js';
import { readCommandLine, usage, type CommandLine } from './settings.js';

const EXIT_USAGE = 64;
const EXIT_FAILED = 1;
const EXIT_INTERNAL = 70;
/** An engine that stops a container waits ten seconds. */
const EXIT_MS = 8_500;

async function main(): Promise<number> {
  const line = readCommandLine(process.argv.slice(2), process.env);
  if (line.flags['help'] === true) return print(usage());
  if (line.flags['version'] === true) return print(`${await version()}\n`);
  return carryOut(line);
}

async function carryOut(line: CommandLine): Promise<number> {
  const [command = 'run', ...rest] = line.words;
  if (command === 'policy' && rest[0] === 'test' && rest.length === 2) return testOne(line, rest[1] ?? '');
  if (command !== 'run' || rest.length > 0)
    throw new AppError('invalid_argument', `there is no command ${quote(line.words.join(' '))}: see --help`);
  const log = createLog(line.settings.LOG_LEVEL);
  return line.flags['dry-run'] === true ? showDifferences(line, log) : run(line, log);
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

async function version(): Promise<string> {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

async function testOne({ settings, flags }: CommandLine, policy: string): Promise<number> {
  const { testPolicy } = await import('./policy-test.js');
  const { hostname } = await import('node:os');
  const textOf = (flag: string) => (typeof flags[flag] === 'string' ? flags[flag] : undefined);
  const input = textOf('input');
  if (input === undefined)
    throw new AppError('invalid_argument', 'give --input FILE, with what docker inspect prints');
  const node = {
    id: settings.NODE_ID === '' ? 'NODE' : settings.NODE_ID,
    hostname: hostname(),
    address: settings.ADDRESS ?? '127.0.0.1',
  };
  const found = await testPolicy({ policy, input, config: textOf('config'), kind: textOf('kind'), node });
  return print(showKeys(found, formatOf(flags)));
}

function formatOf({ format = 'text' }: CommandLine['flags']): 'text' | 'json' {
  if (format === 'text' || format === 'json') return format;
  throw new AppError('invalid_argument', `--format ${String(format)} is not known: give text or json`);
}

/** Standard output is for the answer, so nothing is logged there. */
async function showDifferences({ settings, flags }: CommandLine, log: Log): Promise<number> {
  const format = formatOf(flags);
  const { dryRun } = await import('./run.js');
  log.level = 'silent';
  const ctx: Ctx = { log, signal: AbortSignal.timeout(120_000), requestId: 'dry-run' };
  return print(showDryRun(await dryRun(ctx, settings), format));
}

async function run({ settings }: CommandLine, log: Log): Promise<number> {
  const { startAlone } = await import('./run.js');
  const { serveHttp } = await import('./http.js');
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal, registrations: settings.AT_STOP }, 'stopping');
      setTimeout(() => process.exit(0), EXIT_MS).unref();
      stopping.abort();
    });
  }
  let running: Awaited<ReturnType<typeof startAlone>> | null = null;
  const http = settings.LISTEN && serveHttp(settings.LISTEN, () => running, log);
  await http?.listening;
  const ctx: Ctx = { log, signal: stopping.signal, requestId: 'registrator' };
  try {
    running = await startAlone(ctx, settings);
    await new Promise<void>((resolve) => {
      if (stopping.signal.aborted) resolve();
      else
        stopping.signal.addEventListener(
          'abort',
          () => {
            resolve();
          },
          { once: true },
        );
    });
    await running.close();
  } catch (reason) {
    if (!stopping.signal.aborted) throw reason;
  } finally {
    http?.close();
  }
  return 0;
}

process.on('unhandledRejection', (reason) => {
  process.stderr.write(`error: ${AppError.from(reason).message}\n`);
  process.exit(EXIT_INTERNAL);
});

// What is waited for keeps no process alive by itself: neither an engine that is away nor the next try.
setInterval(() => undefined, 3_600_000);

try {
  process.exitCode = await main();
} catch (reason) {
  const error = AppError.from(reason);
  process.stderr.write(`error: ${error.message}\n`);
  process.exitCode = error.code === 'invalid_argument' ? EXIT_USAGE : EXIT_FAILED;
}
process.exit();
