/**
 * `docker openebs`: a plugin of the docker command. Everything but the metadata is loaded when it is wanted: docker asks
 * all its plugins for theirs before it shows any help.
 */
import { isatty } from 'node:tty';
import { metadata } from './metadata.js';

/** Put in by the build (plugin/build-cli.sh). */
declare const OPENEBS_VERSION: string | undefined;
const version = typeof OPENEBS_VERSION === 'string' ? OPENEBS_VERSION : 'unknown';

async function main(args: readonly string[]): Promise<number> {
  if (args[0] === 'docker-cli-plugin-metadata') {
    process.stdout.write(metadata(version));
    return 0;
  }
  const { runProgram } = await import('./run.js');
  return runProgram({
    args,
    env: process.env,
    version,
    isRoot: process.getuid?.() === 0,
    input: {
      get isTerminal() {
        return isatty(0);
      },
      readLine: async () => (await import('./read-line.js')).readLine(process.stdin),
    },
    print: (text) => void process.stdout.write(text),
    complain: (text) => void process.stderr.write(text),
  });
}

// `docker openebs events | head` is no error.
process.stdout.on('error', (reason: NodeJS.ErrnoException) => {
  process.exit(reason.code === 'EPIPE' ? 0 : 1);
});

void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
