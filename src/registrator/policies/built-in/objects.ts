/** The inventory: every object of every kind, below its host. Values of secrets are not in what the engine tells of them. */
import { z } from 'zod';
import type { ObjectKind } from '../../../docker/objects.js';
import type { Subject } from '../subject.js';
import { keys } from '../../../state/keys.js';
import type { BuiltIn } from './built-in.js';

const config = z.strictObject({});

/** Environment and labels may hold what is nobody's business but the container's. */
function entryOf(subject: Subject): Record<string, unknown> {
  const { kind, id, name, node } = subject;
  const where = `${keys.objects}${node.id}/${kind}/${encodeURIComponent(id)}`;
  return { [where]: { kind, id, name, ...detailsOf(subject) } };
}

function detailsOf({ kind, container, inspect }: Subject): Record<string, unknown> {
  if (container) {
    const { image, running, paused, health, networks } = container;
    return { image, running, paused, health, networks };
  }
  return Object.fromEntries((shown[kind] ?? []).map(([name, field]) => [name, inspect[field]]));
}

/** By kind: what they are called here, and in what the engine tells. */
const shown: Readonly<Partial<Record<ObjectKind, readonly (readonly [string, string])[]>>> = {
  image: [['tags', 'RepoTags']],
  volume: [['driver', 'Driver']],
  network: [
    ['driver', 'Driver'],
    ['scope', 'Scope'],
  ],
  plugin: [['enabled', 'Enabled']],
  daemon: [['version', 'ServerVersion']],
};

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
