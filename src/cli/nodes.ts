import type { NodeMessage, NodesMessage } from '../admin/messages.js';
import { quote } from '../lib/quote.js';
import type { Run, Surroundings } from './command.js';
import { exitCodes, Failure } from './failure.js';
import { absent, showFound } from './inspect.js';
import { facts, few, json, size, span, table } from './table.js';

export const listNodes: Run = async (call, around) => {
  const { nodes, problem } = await askNodes(around);
  if (call.json) around.print(json({ nodes, problem }));
  else if (call.has('quiet')) around.print(nodes.map(({ id }) => `${id}\n`).join(''));
  else around.print(table(['NODE', 'HOST', 'STATE', 'ADDRESS', 'ENGINE', 'PLUGIN', 'FREE'], nodes.map(row)));
  if (problem !== null && !call.json) around.complain(`nobody can tell who is alive: ${problem}\n`);
  return exitCodes.ok;
};

export const inspectNodes: Run = async (call, around) => {
  const { nodes } = await askNodes(around);
  const found = call.names.map((name) => findNode(nodes, name));
  return showFound(call, around, found, details);
};

export function askNodes({ admin }: Pick<Surroundings, 'admin'>): Promise<NodesMessage> {
  return admin.get<NodesMessage>('/v1/nodes');
}

/** By its ID, its host name, or the beginning of its ID; a Failure when it is none, or not the only one. */
export function findNode(nodes: readonly NodeMessage[], name: string): NodeMessage | Failure {
  const exact = nodes.find(({ id }) => id === name);
  if (exact) return exact;
  const byHost = nodes.filter(({ hostname }) => hostname === name);
  const found = byHost.length > 0 ? byHost : nodes.filter(({ id }) => id.startsWith(name));
  const [only] = found;
  if (only && found.length === 1) return only;
  const ids = few(found.map(({ id }) => id));
  if (only)
    return new Failure(exitCodes.wrong, `${quote(name)} is more than one node: give the ID of one: ${ids}`);
  const names = nodes.flatMap(({ id, hostname }) => (hostname === '' ? [id] : [hostname, id]));
  return absent('node', name, names);
}

/** Host names where they tell nodes apart, IDs otherwise. */
export function namesOfNodes(nodes: readonly NodeMessage[]): (id: string) => string {
  const names = new Map(
    nodes.map(({ id, hostname }) => {
      const isUnique = nodes.filter((other) => other.hostname === hostname).length === 1;
      return [id, hostname !== '' && isUnique ? hostname : id];
    }),
  );
  return (id) => names.get(id) ?? id;
}

export function stateOf({ state, awaySeconds, drained, error }: NodeMessage): string {
  const away = awaySeconds === null ? '' : ` ${span(awaySeconds)}`;
  return `${state}${away}${drained === true ? ', drained' : ''}${error === '' ? '' : ', record unreadable'}`;
}

function row(node: NodeMessage): readonly string[] {
  const { id, self, hostname, address, engineVersion, pluginVersion } = node;
  const free = Object.values(node.pools).reduce((sum, { freeBytes }) => sum + freeBytes, 0);
  const shown = Object.keys(node.pools).length === 0 ? '' : size(free);
  return [self ? `${id} *` : id, hostname, stateOf(node), address, engineVersion, pluginVersion, shown];
}

function details(node: NodeMessage): string {
  const pools = Object.entries(node.pools).map(
    ([name, { freeBytes, sizeBytes }]) => `${name}: ${size(freeBytes)} free of ${size(sizeBytes)}`,
  );
  const labels = Object.entries(node.labels).map(([name, value]) => `${name}=${value}`);
  const rows: [string, string][] = [
    ['node', node.self ? `${node.id} (this host)` : node.id],
    ['host', node.hostname],
    ['state', node.since === null ? stateOf(node) : `${stateOf(node)}, plugin since ${node.since}`],
    ['address', node.address],
    ['engine', node.engineVersion],
    ['plugin', node.pluginVersion],
    ['pools', pools.join('; ')],
    ['labels', labels.join(' ')],
    ['error', node.error],
  ];
  return facts(rows.filter(([, value]) => value !== ''));
}
