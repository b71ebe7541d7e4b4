import { actionName, type DockerEvent } from '../docker/docker-event.js';

// What changes nothing about the object and comes without end: each health probe is three exec events, `docker
// top` is what monitors poll, resize follows every change of a terminal's window, attach and detach come with
// each `docker run` and `compose up` in the foreground.
const noise = new Set([
  'exec_create',
  'exec_start',
  'exec_die',
  'exec_detach',
  'health_status',
  'top',
  'resize',
  'attach',
  'detach',
]);

/**
 * True for events that a journal of what happened to objects is better without. A change of health of one of
 * our own containers (label openebs.role) is kept: there it is the news.
 */
export function isNoise(event: DockerEvent): boolean {
  if (event.type !== 'container') return false;
  const name = actionName(event);
  if (name === 'health_status') return event.attributes['openebs.role'] === undefined;
  return noise.has(name);
}
