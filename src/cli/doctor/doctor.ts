/** `docker openebs doctor`: looks at this host by itself, so that it can say why the plugin cannot. */
import type { Run, Surroundings } from '../command.js';
import { findPlugin, type InstalledPlugin, settingsOf } from '../engine-client.js';
import { exitCodes } from '../failure.js';
import { count, facts, json, plain } from '../table.js';
import { type Check, fail, ok } from './check.js';
import { lookAtDisk, lookAtStateDirectory } from './disk.js';
import { lookAtEngine } from './engine.js';
import { lookAtCgroups, lookAtFuse, lookAtKernel, lookAtLoop } from './kernel.js';
import { lookAtNeighbours } from './neighbours.js';
import { lookAtAdminSocket, lookAtPlugin } from './plugin.js';
import { lookAtPorts } from './ports.js';

export const examine: Run = async (call, around) => {
  const checks: Check[] = [];
  for (const look of await looks(around)) checks.push(...[await look()].flat());
  const healthy = !checks.some(({ state }) => state === 'fail');
  around.print(call.json ? json({ healthy, checks }) : textOf(checks));
  return healthy ? exitCodes.ok : exitCodes.wrong;
};

type Look = () => Check | readonly Check[] | Promise<Check | readonly Check[]>;

async function looks(around: Surroundings): Promise<readonly Look[]> {
  const { engine } = around;
  const plugin = await findPlugin(engine).catch(() => undefined);
  const settings = settingsOf(plugin ?? null);
  return [
    () => lookAtUser(around.isRoot),
    () => lookAtEngine(engine),
    lookAtCgroups,
    lookAtKernel,
    lookAtFuse,
    lookAtLoop,
    () => lookAtPorts(engine, settings),
    () => lookAtPlugin(plugin),
    ...adminLook(plugin, around),
    lookAtStateDirectory,
    lookAtDisk,
  ];
}

/** Nobody listens there before the plugin is enabled. */
function adminLook(plugin: InstalledPlugin | null | undefined, around: Surroundings): Look[] {
  if (plugin?.Enabled !== true) return [];
  return [() => lookAtAdminSocket(around.admin), () => lookAtNeighbours(around.admin)];
}

function lookAtUser(isRoot: boolean): Check {
  if (isRoot) return ok('user', 'root');
  return fail(
    'user',
    'not root',
    'devices, ports and the disk cannot be looked at',
    'run the same as root: sudo docker openebs doctor',
  );
}

export function textOf(checks: readonly Check[]): string {
  const rows = checks.map(
    ({ name, state, found }) => [`${state.toUpperCase().padEnd(4)}   ${name}`, found] as const,
  );
  const troubled = checks.filter(({ state }) => state !== 'ok');
  const failed = troubled.filter(({ state }) => state === 'fail').length;
  const verdict =
    failed > 0
      ? `${count(failed, 'check')} failed: volumes will not work here before that is mended.`
      : `This host is fit for volumes${troubled.length > 0 ? ', with a reserve' : ''}.`;
  return [facts(rows), ...troubled.map(explained), `${verdict}\n`].join('\n');
}

function explained({ name, state, found, means, todo }: Check): string {
  const head = `${state.toUpperCase()} ${name}: ${plain(found)}`;
  return [head, `    means: ${plain(means)}`, `    to do: ${plain(todo)}`, ''].join('\n');
}
