/** A change that ends the plugin's process: it is asked for once, and then looked for until it is there. */
import type { ChangingMessage, ClusterMessage } from '../../admin/messages.js';
import type { Call, Surroundings } from '../command.js';
import { exitCodes, Failure, LostAnswer } from '../failure.js';
import { durationOf } from '../values.js';
import { waitFor } from './wait.js';

export interface Change {
  readonly path: string;
  readonly body: object;
  /**
   * What is not there yet, in words for people; null: nothing. `/v1/cluster` is answered by the process that ends as well.
   * @param answer null: it was lost with the process that ended
   */
  missing(seen: SeenCluster, answer: ChangingMessage | null): string | null;
}

export interface SeenCluster extends ClusterMessage {
  /** The process that was asked has been away since. */
  readonly startedAnew: boolean;
}

const TIMEOUT_MS = 120_000;
/** Other hosts are asked first. */
const ANSWER_MS = 60_000;

/** Waits for `--timeout`. @throws Failure when it is refused, or not there in time */
export async function changeCluster(
  call: Call,
  around: Surroundings,
  change: Change,
): Promise<ClusterMessage> {
  const timeoutMs = durationOf(call, 'timeout', TIMEOUT_MS);
  const answer = await send(around, change);
  let startedAnew = false;
  return waitFor<SeenCluster>(around, {
    timeoutMs,
    look: async (asked) => {
      try {
        const shape = { etcd: 'object' } as const;
        const cluster = await around.admin.get<ClusterMessage>('/v1/cluster', {}, { ...asked, shape });
        return { ...cluster, startedAnew };
      } catch (reason) {
        startedAnew ||= reason instanceof Failure && reason.exitCode === exitCodes.unreachable;
        throw reason;
      }
    },
    missing: (seen) => notBegun(seen, answer) ?? change.missing(seen, answer) ?? etcdMissing(seen),
  });
}

/** A plugin that has decided may be gone before its answer is sent. */
async function send(around: Surroundings, { path, body }: Change): Promise<ChangingMessage | null> {
  try {
    return await around.admin.post<ChangingMessage>(path, body, { timeoutMs: ANSWER_MS });
  } catch (reason) {
    if (!(reason instanceof LostAnswer)) throw reason;
    around.complain('the connection ended before the answer: looking whether it is done all the same\n');
    return null;
  }
}

function notBegun({ formation }: ClusterMessage, answer: ChangingMessage | null): string | null {
  const { change } = answer ?? {};
  return change === undefined || formation?.change === change ? null : 'the plugin starts anew';
}

function etcdMissing({ etcd, formation }: ClusterMessage): string | null {
  if (etcd.usable) return null;
  return `etcd does not serve yet: ${formation?.problem ?? etcd.problem ?? 'it is started'}`;
}

/** Where etcd serves now, as the last line of what was waited for. */
export function tellEtcd(around: Surroundings, { etcd }: ClusterMessage): void {
  around.complain(`etcd serves at ${etcd.endpoints.join(', ')}\n`);
}
