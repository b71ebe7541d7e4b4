import type { EventMessage, EventsMessage } from '../admin/messages.js';
import type { Run, Surroundings } from './command.js';
import { Failure, exitCodes } from './failure.js';
import { askNodes, findNode, namesOfNodes } from './nodes.js';
import { count, table } from './table.js';

export const showEvents: Run = async (call, around) => {
  const named = call.text('node');
  const nodes = named === undefined && call.json ? [] : (await askNodes(around)).nodes;
  const page = await around.admin.get<EventsMessage>('/v1/events', {
    since: call.text('since'),
    until: call.text('until'),
    type: joined(call.list('type')),
    action: joined(call.list('action')),
    actor: call.text('actor'),
    node: named === undefined ? undefined : idOf(nodes, named),
    limit: call.text('limit'),
  });
  const nameOf = namesOfNodes(nodes);
  if (call.json) around.print(page.events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  else
    around.print(
      table(
        heads,
        page.events.map((event) => row(event, nameOf(event.node))),
      ),
    );
  tellOfRest(page, around);
  return exitCodes.ok;
};

function joined(values: readonly string[]): string | undefined {
  return values.length === 0 ? undefined : values.join(',');
}

function idOf(nodes: Parameters<typeof findNode>[0], named: string): string {
  const found = findNode(nodes, named);
  if (found instanceof Failure) throw found;
  return found.id;
}

/** On the error stream, as it is no event. */
function tellOfRest({ events, truncated, damaged }: EventsMessage, around: Surroundings): void {
  const shown = count(events.length, 'event');
  if (truncated)
    around.complain(
      `there are more: these are the newest ${shown}; give --until or a larger --limit to see them\n`,
    );
  if (damaged > 0)
    around.complain(`${count(damaged, 'record')} of events could not be read and are left out\n`);
}

const heads = ['TIME', 'NODE', 'TYPE', 'ACTION', 'OBJECT', 'ATTRIBUTES'];
/** Told elsewhere in the row, or as good as never wanted. */
const left = new Set(['name', 'image']);
const MOST_ATTRIBUTES = 4;

function row({ timeNano, type, action, actor, attributes }: EventMessage, node: string): readonly string[] {
  const { name } = attributes;
  const shown = Object.entries(attributes)
    .filter(([key]) => !left.has(key) && !key.includes('.'))
    .slice(0, MOST_ATTRIBUTES)
    .map(([key, value]) => `${key}=${value}`);
  const image = attributes['image'] === undefined ? [] : [`image=${attributes['image']}`];
  return [timeOf(timeNano), node, type, action, name ?? actor.slice(0, 12), [...image, ...shown].join(' ')];
}

/** In milliseconds, UTC; what is no time of ours is shown as it came. */
function timeOf(timeNano: string): string {
  if (!/^\d{1,20}$/.test(timeNano)) return timeNano;
  const ms = Number(BigInt(timeNano) / 1_000_000n);
  return ms > 8.64e15 ? timeNano : new Date(ms).toISOString();
}
