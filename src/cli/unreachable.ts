/** Why nobody answers at the admin socket, and what to do: the engine knows whether the plugin is there. */
import { type Engine, findPlugin } from './engine-client.js';
import { exitCodes, Failure } from './failure.js';

export interface Situation {
  readonly socketPath: string;
  /** Whether --socket named it. */
  readonly isGiven: boolean;
  readonly isRoot: boolean;
  readonly engine: Engine;
}

/** The system's error codes of a socket where nobody listens. */
const nobody = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTDIR']);

export async function explainUnreachable(
  { socketPath, isGiven, isRoot, engine }: Situation,
  code: string,
  detail: string,
): Promise<Failure> {
  const say = (text: string): Failure => new Failure(exitCodes.unreachable, text);
  if (code === 'EACCES' || code === 'EPERM')
    return say(`${socketPath} is for root alone: run the same as root (sudo docker openebs ...)`);
  if (code === 'ETIMEDOUT') return say(`the plugin does not answer at ${socketPath} (${detail}): ${look}`);
  if (!nobody.has(code)) return say(`the plugin cannot be reached at ${socketPath}: ${detail}`);
  if (isGiven) return say(`nobody listens at ${socketPath}: correct --socket, or start the plugin there`);
  return say(await findReason(engine, socketPath, isRoot));
}

const look =
  "see its log: lines with plugin= in the engine's log (journalctl -u docker, or /var/log/dockerd.log)";

async function findReason(engine: Engine, socketPath: string, isRoot: boolean): Promise<string> {
  try {
    const plugin = await findPlugin(engine);
    if (plugin === null) {
      return (
        'the plugin openebs is not installed on this host: install it with `make up` in its folder, or from a ' +
        'registry: docker plugin install --alias openebs --grant-all-permissions HOST/NAME:TAG'
      );
    }
    const name = plugin.Name.replace(/:latest$/, '');
    if (!plugin.Enabled) return `the plugin ${name} is installed, but disabled: docker plugin enable ${name}`;
    return (
      `the plugin ${name} is enabled, but nobody listens at ${socketPath} yet: it waits for something at its start, ` +
      `or starts anew. Try again in a few seconds; if that lasts, ${look}`
    );
  } catch (reason) {
    return engineTrouble(engine, reason as NodeJS.ErrnoException, isRoot);
  }
}

/** The engine does not tell: that may be the cause as well. */
function engineTrouble(
  engine: Engine,
  { code = '', message }: NodeJS.ErrnoException,
  isRoot: boolean,
): string {
  const where = `the plugin does not answer, and neither does the Docker engine at ${engine.endpoint}`;
  if (code === 'EACCES')
    return `the plugin does not answer, and asking the engine why needs root: run the same as root`;
  if (nobody.has(code))
    return `${where}: nobody listens there; start it (systemctl start docker)${isRoot ? '' : ', as root'}`;
  return `${where} (${message}): see the engine's log`;
}
