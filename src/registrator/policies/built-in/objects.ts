/** The inventory: every object of every kind, below its host. Values of secrets are not in what the engine tells of them. */
import { z } from 'zod';
import type { Subject } from '../subject.js';
import { keys } from '../../../state/keys.js';
import type { BuiltIn } from './built-in.js';

const config = z.strictObject({});

/** Environment and labels may hold what is nobody's business but the container's. */
function entryOf({ kind, id, name, node, container }: Subject): Record<string, unknown> {
  const where = `${keys.objects}${node.id}/${kind}/${encodeURIComponent(id)}`;
  const state = container && { image: container.image, running: container.running, health: container.health };
  return { [where]: { kind, id, name, ...state } };
}

export const objects: BuiltIn<z.infer<typeof config>> = {
  name: 'objects',
  config,
  merge: 'min',
  functions: {
    container: entryOf,
    image: entryOf,
    plugin: entryOf,
    volume: entryOf,
    network: entryOf,
    daemon: entryOf,
    service: entryOf,
    node: entryOf,
    secret: entryOf,
    config: entryOf,
  },
};
