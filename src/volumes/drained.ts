import { AppError } from '../errors.js';

/** @param called how a user knows the node */
export function isDrained(volume: string, called: string, node: string): AppError {
  return new AppError(
    'conflict',
    `volume ${volume} is not made here, as node ${called} is drained: create it on another host, or let this one make ` +
      `volumes again with "docker openebs node drain ${node} --undo"`,
  );
}
