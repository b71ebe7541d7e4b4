/** What the soak runs on volumes. Whatever a workload has acknowledged must be there whenever it is looked at. */
import type { LabHost } from '../support/lab.js';

export interface Workload {
  /** Of its container and of its volume. */
  readonly name: string;
  /** How much it has acknowledged so far; asks as often as it is called. */
  acked(): Promise<number>;
  /** @throws with what is lost or damaged. */
  check(): Promise<void>;
  close(): Promise<void>;
}

export async function isRunning(host: LabHost, name: string): Promise<boolean> {
  const { stdout } = await host.docker('inspect', '--format', '{{.State.Running}}', name);
  return stdout.trim() === 'true';
}
