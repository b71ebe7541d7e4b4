/** What is set of a node: labels, whether it is drained; and that it is gone. */
import type { NodeMessage, NodeSettingsMessage, NodeSettingsRequest } from '../admin/messages.js';
import { quote } from '../lib/quote.js';
import type { Call, Run, Surroundings } from './command.js';
import { exitCodes, type ExitCode, Failure } from './failure.js';
import { askNodes, findNode, namesOfNodes } from './nodes.js';
import { json, plain } from './table.js';

export const labelNode: Run = async (call, around) => {
  const [name = '', ...texts] = call.names;
  return set(call, around, { name, request: { labels: labelsOf(texts) } });
};

export const drainNode: Run = async (call, around) => {
  const [name = ''] = call.names;
  return set(call, around, { name, request: { drained: !call.has('undo') } });
};

export const removeNode: Run = async (call, around) => {
  const { node, shown } = await nodeOf(around, call.names[0] ?? '');
  const force = call.has('force') ? '1' : undefined;
  await around.admin.remove(`/v1/nodes/${encodeURIComponent(node.id)}`, { force });
  around.print(call.json ? json({ removed: node.id }) : `${plain(shown)} is removed from the cluster\n`);
  return exitCodes.ok;
};

interface Setting {
  readonly name: string;
  readonly request: NodeSettingsRequest;
}

async function set(call: Call, around: Surroundings, { name, request }: Setting): Promise<ExitCode> {
  const { node, shown } = await nodeOf(around, name);
  const path = `/v1/nodes/${encodeURIComponent(node.id)}/settings`;
  const shape = { labels: 'object', drained: 'boolean' } as const;
  const { labels, drained } = await around.admin.post<NodeSettingsMessage>(path, request, { shape });
  if (call.json) around.print(json({ node: node.id, labels, drained }));
  else around.print(`${plain(`${shown}: ${labelsText(labels)}${drained ? '; drained' : ''}`)}\n`);
  return exitCodes.ok;
}

/** @throws Failure when it is none, or not the only one */
async function nodeOf(around: Surroundings, name: string): Promise<{ node: NodeMessage; shown: string }> {
  const { nodes } = await askNodes(around);
  const node = findNode(nodes, name);
  if (node instanceof Failure) throw node;
  return { node, shown: namesOfNodes(nodes)(node.id) };
}

function labelsText(labels: NodeSettingsMessage['labels']): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? 'no labels' : pairs.join(' ');
}

/** `KEY=VALUE` sets, `KEY-` takes away. @throws Failure `usage` */
export function labelsOf(texts: readonly string[]): Readonly<Record<string, string | null>> {
  const labels = new Map<string, string | null>();
  for (const text of texts) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
    const [, removed] = /^([^=]+)-$/.exec(text) ?? [];
    const name = key ?? removed;
    if (name === undefined)
      throw new Failure(exitCodes.usage, `label ${quote(text)}: give KEY=VALUE to set it, KEY- to remove it`);
    if (labels.has(name)) throw new Failure(exitCodes.usage, `label ${quote(name)} is there more than once`);
    labels.set(name, value ?? null);
  }
  return Object.fromEntries(labels);
}
