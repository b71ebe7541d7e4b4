import type { HealthMessage } from '../../admin/messages.js';
import type { AdminClient } from '../admin-client.js';
import type { InstalledPlugin } from '../engine-client.js';
import { Failure } from '../failure.js';
import { few } from '../table.js';
import { type Check, fail, ok, warn } from './check.js';

/** @param plugin null: not installed; undefined: the engine did not tell */
export function lookAtPlugin(plugin: InstalledPlugin | null | undefined): Check {
  if (plugin === undefined) {
    const todo = 'mend the engine first';
    return warn('plugin', 'the engine does not tell', 'whether the plugin is installed is not known', todo);
  }
  if (plugin === null) {
    const todo =
      'make up in its folder, or docker plugin install --alias openebs --grant-all-permissions HOST/NAME:TAG';
    return warn('plugin', 'not installed', 'there are no openebs volumes on this host yet', todo);
  }
  const { Name: name, Enabled: enabled } = plugin;
  if (enabled) return ok('plugin', `${name}, enabled`);
  const means = 'volumes cannot be created or mounted; containers that run with one write on';
  return warn('plugin', `${name}, disabled`, means, `docker plugin enable ${name.replace(/:latest$/, '')}`);
}

export async function lookAtAdminSocket(admin: Pick<AdminClient, 'get'>): Promise<Check> {
  try {
    return judgeHealth(await admin.get<HealthMessage>('/v1/health'));
  } catch (reason) {
    const why = reason instanceof Failure ? reason.message : String(reason);
    return fail(
      'admin socket',
      'no answer',
      why,
      "see the plugin's log: lines with plugin= in the engine's log",
    );
  }
}

export function judgeHealth({ problems, version }: HealthMessage): Check {
  const tasks = Object.keys(problems);
  if (tasks.length === 0) return ok('admin socket', `the plugin answers, version ${version}`);
  const todo = 'docker openebs cluster status says which and what to do';
  return warn(
    'admin socket',
    'the plugin answers, and has problems',
    `it cannot do all of its work: ${few(tasks)}`,
    todo,
  );
}
