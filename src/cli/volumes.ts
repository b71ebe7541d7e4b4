import type { NodesMessage, VolumesMessage } from '../admin/messages.js';
import { quote } from '../lib/quote.js';
import type { Call, Run, Surroundings } from './command.js';
import { exitCodes, Failure } from './failure.js';
import { absent, showFound } from './inspect.js';
import { askNodes, findNode, namesOfNodes } from './nodes.js';
import { facts, json, size, table } from './table.js';

type Volume = VolumesMessage['volumes'][number];

export const listVolumes: Run = async (call, around) => {
  const nodes = await nodesFor(call, around);
  const wanted = filterOf(call.list('filter'), nodes);
  const { volumes } = await around.admin.get<VolumesMessage>('/v1/volumes');
  const found = volumes.filter(wanted).sort((a, b) => (a.name < b.name ? -1 : 1));
  if (call.json) around.print(json({ volumes: found }));
  else if (call.has('quiet')) around.print(found.map(({ name }) => `${name}\n`).join(''));
  else around.print(table(heads, found.map(row(namesOfNodes(nodes)))));
  return exitCodes.ok;
};

export const inspectVolumes: Run = async (call, around) => {
  const { volumes } = await around.admin.get<VolumesMessage>('/v1/volumes');
  const names = volumes.map(({ name }) => name);
  const found = call.names.map(
    (name) => volumes.find((volume) => volume.name === name) ?? absent('volume', name, names),
  );
  return showFound(call, around, found, details);
};

/** Names of nodes are for people and for filters: who does not need them does not wait for etcd. */
async function nodesFor(call: Call, around: Surroundings): Promise<NodesMessage['nodes']> {
  const areNamed = call.list('filter').some((text) => /^(node|attached)=/.test(text));
  const areShown = !call.json && !call.has('quiet');
  return areNamed || areShown ? (await askNodes(around)).nodes : [];
}

type Filter = (volume: Volume) => boolean;
type MakeFilter = (value: string, nodes: NodesMessage['nodes']) => Filter;

const byNode =
  (field: 'node' | 'attachedTo'): MakeFilter =>
  (value, nodes) => {
    const found = findNode(nodes, value);
    // A node whose record is gone may still be named by volumes.
    const id = found instanceof Failure ? value : found.id;
    return ({ status }) => status[field] === id;
  };

const filters: Readonly<Record<string, MakeFilter>> = {
  name:
    (value) =>
    ({ name }) =>
      name.includes(value),
  state:
    (value) =>
    ({ status }) =>
      status.state === value,
  node: byNode('node'),
  attached: byNode('attachedTo'),
  fs:
    (value) =>
    ({ status }) =>
      status.fs === value,
  pool:
    (value) =>
    ({ status }) =>
      status.pool === value,
  troubled: (value) => {
    if (value !== 'true' && value !== 'false')
      throw new Failure(exitCodes.usage, `--filter troubled is ${quote(value)}: give true or false`);
    return ({ status }) => String((status.error ?? '') !== '') === value;
  },
};

/** Of filters with one key one has to fit, of those with different keys all. @throws Failure `usage` */
export function filterOf(texts: readonly string[], nodes: NodesMessage['nodes']): Filter {
  const byKey = new Map<string, Filter[]>();
  for (const text of texts) {
    const [, key = text, value] = /^([^=]*)=(.*)$/.exec(text) ?? [];
    const make = Object.hasOwn(filters, key) ? filters[key] : undefined;
    if (make === undefined || value === undefined) {
      const allowed = Object.keys(filters).join(', ');
      throw new Failure(
        exitCodes.usage,
        `--filter is ${quote(text)}: give KEY=VALUE with one of the keys ${allowed}`,
      );
    }
    byKey.set(key, [...(byKey.get(key) ?? []), make(value, nodes)]);
  }
  return (volume) => [...byKey.values()].every((some) => some.some((fits) => fits(volume)));
}

const heads = ['NAME', 'STATE', 'SIZE', 'FS', 'DATA ON', 'ATTACHED TO', 'TROUBLE'];
const TROUBLE_LENGTH = 60;

function row(nameOf: (id: string) => string): (volume: Volume) => readonly string[] {
  return ({ name, status: { state = '', sizeBytes, fs = '', node = '', attachedTo = '', error = '' } }) => {
    const shown = sizeBytes === undefined ? '' : size(sizeBytes);
    return [name, state, shown, fs, nameOf(node), nameOf(attachedTo), shorten(error)];
  };
}

function shorten(text: string): string {
  return text.length > TROUBLE_LENGTH ? `${text.slice(0, TROUBLE_LENGTH).trimEnd()}...` : text;
}

function details({ name, mountpoint, createdAt, status }: Volume): string {
  const { attachedTo, mountsHere } = status;
  const rows: [string, string | undefined][] = [
    ['name', name],
    ['id', status.id],
    ['state', status.state],
    ['size', status.size],
    ['file system', status.fs],
    ['created', createdAt],
    ['data on', status.node],
    ['pool', status.pool],
    ['target', status.target],
    ['iqn', status.iqn],
    ['attached to', attachedTo === '' ? 'no node' : attachedTo],
    ['mounts here', mountsHere === undefined ? undefined : String(mountsHere)],
    ['mounted at', mountpoint],
    ['error', status.error],
    ['repaired', status.repaired],
  ];
  return facts(rows.filter((pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== ''));
}
