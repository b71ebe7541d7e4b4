import type Docker from 'dockerode';
import { statusOf } from './engine-call.js';

/**
 * Asks for a container with two binds, this directory and one that is nowhere. The engine looks for the sources in
 * order, in its own mount namespace, before it makes anything, and names the first that is missing. So nothing is made
 * either way, and as the fault is the asker's its log says nothing (20.10 to 28).
 */
export async function findsDirectory(
  docker: Docker,
  directory: string,
  abortSignal: AbortSignal,
): Promise<boolean> {
  const bind = (Source: string, Target: string) => ({
    Type: 'bind' as const,
    Source,
    Target,
    ReadOnly: true,
  });
  const nowhere = `${directory}-never`;
  try {
    const made = await docker.createContainer({
      Cmd: ['true'],
      HostConfig: { Mounts: [bind(directory, '/one'), bind(nowhere, '/other')] },
      abortSignal,
    });
    await made.remove({ abortSignal });
    return true;
  } catch (reason) {
    const text = reason instanceof Error ? reason.message : '';
    if (statusOf(reason) !== 400 || !text.includes(directory)) throw reason;
    return text.includes(nowhere);
  }
}
