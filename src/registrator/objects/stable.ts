import type { Inspected, ObjectKind } from '../../docker/objects.js';

/**
 * What of an inspection stays the same while the object does. Counters and clocks would make a change of each look, and
 * so would the log of a health check; that a probe has changed its mind is in the status.
 */
export function stablePart(kind: ObjectKind, inspected: Inspected): Inspected {
  if (kind === 'daemon') return without(inspected, volatileOfDaemon);
  if (kind !== 'container') return inspected;
  const state = inspected['State'];
  if (!isObject(state) || !isObject(state['Health'])) return inspected;
  return { ...inspected, State: { ...state, Health: without(state['Health'], ['Log', 'FailingStreak']) } };
}

const volatileOfDaemon = [
  ...['SystemTime', 'NFd', 'NGoroutines', 'NEventsListener', 'MemTotal'],
  ...['Containers', 'ContainersRunning', 'ContainersPaused', 'ContainersStopped', 'Images', 'DriverStatus'],
];

function isObject(value: unknown): value is Inspected {
  return typeof value === 'object' && value !== null;
}

function without(object: Inspected, names: readonly string[]): Inspected {
  return Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
}
