import type { HealthMessage } from '../admin/messages.js';
import type { Run } from './command.js';
import { exitCodes, Failure } from './failure.js';
import { facts, json } from './table.js';

/** The version of this program is told even where nobody answers. */
export const showVersion: Run = async (call, around) => {
  const client = { version: around.version, node: process.version };
  const asked = await around.admin.get<HealthMessage>('/v1/health').catch((reason: unknown) => {
    if (reason instanceof Failure) return reason;
    throw reason;
  });
  const failure = asked instanceof Failure ? asked : null;
  const plugin = asked instanceof Failure ? null : { version: asked.version, node: asked.node };
  if (call.json) around.print(json({ client, plugin, error: failure?.message ?? '' }));
  else {
    const rows = [['docker openebs', client.version] as const];
    around.print(facts(plugin ? [...rows, ['plugin', `${plugin.version} on node ${plugin.node}`]] : rows));
  }
  if (failure) throw failure;
  return exitCodes.ok;
};
