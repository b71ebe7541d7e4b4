import { actionName, type DockerEvent } from '../../docker/docker-event.js';
import { objectKinds, type ObjectKind } from '../../docker/objects.js';

/** One object, or all of a kind where the event does not say which. */
export interface Affected {
  readonly kind: ObjectKind;
  /** Null: list them anew. */
  readonly id: string | null;
  /** The event says that it is there no more. */
  readonly gone: boolean;
}

/** These change nothing that can be inspected, and come without end. */
const withoutEffect = new Set([
  ...['exec_create', 'exec_start', 'exec_die', 'exec_detach', 'top', 'resize', 'attach', 'detach'],
  ...['archive-path', 'extract-to-dir', 'export', 'copy', 'push', 'save'],
]);
/** Of containers, volumes and networks; of images; of plugins and Swarm's objects. */
const removals = new Set(['destroy', 'delete', 'remove']);
/** A tag leaves the image that had it, of which nothing is told. */
const movesTags = new Set(['tag', 'load', 'import', 'pull', 'create']);

/**
 * Which objects an event is a hint about: that of which it tells, and those that show it. A container's inspection has
 * its networks and volumes in it, theirs have their containers.
 */
export function affectedBy(event: DockerEvent): Affected[] {
  const kind = objectKinds.find((known) => known === event.type);
  const action = actionName(event);
  if (kind === undefined || withoutEffect.has(action)) return [];
  // Older engines tell nothing else of the image that it makes.
  if (kind === 'container' && action === 'commit') return [{ kind: 'image', id: null, gone: false }];
  const { container } = event.attributes;
  const shown: Affected[] =
    container === undefined || container === '' ? [] : [{ kind: 'container', id: container, gone: false }];
  return [{ kind, id: isOne(event, kind) ? event.actorId : null, gone: removals.has(action) }, ...shown];
}

/** A prune names nobody. Images come by tag as well as by id. */
function isOne(event: DockerEvent, kind: ObjectKind): boolean {
  const { actorId } = event;
  if (actorId === '') return false;
  if (kind === 'image') return actorId.startsWith('sha256:') && !movesTags.has(actionName(event));
  // A pull of a plugin comes with its reference.
  return kind !== 'plugin' || /^[0-9a-f]{64}$/.test(actorId);
}
