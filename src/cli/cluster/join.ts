import type { ChangingMessage, ClusterMessage, JoinRequest } from '../../admin/messages.js';
import type { Call, Run, Surroundings } from '../command.js';
import { exitCodes, Failure } from '../failure.js';
import { changeCluster, type SeenCluster, tellEtcd } from './change.js';
import { showMembership } from './membership.js';

export const joinCluster: Run = async (call, around) => {
  const body = requestOf(call, await tokenOf(call, around));
  const before = await around.admin.get<ClusterMessage>('/v1/cluster');
  const cluster = await changeCluster(call, around, {
    path: '/v1/cluster/join',
    body,
    missing: (seen, answer) => isMissing(seen, before, answer),
  });
  tellEtcd(around, cluster);
  return showMembership(call, around, cluster);
};

function requestOf(call: Call, token: string): JoinRequest {
  const [advertise, discovery] = [call.text('advertise'), call.text('discovery')];
  return {
    token,
    ...(advertise === undefined ? {} : { advertise }),
    ...(discovery === undefined ? {} : { discovery }),
  };
}

/** `-`: from the input, so that it is neither in the list of processes nor in the shell's history. */
async function tokenOf({ names: [given = ''] }: Call, around: Surroundings): Promise<string> {
  if (given !== '-') return given;
  if (around.input.isTerminal) around.complain('token: ');
  const line = await around.input.readLine();
  if (line === null)
    throw new Failure(exitCodes.usage, 'there is no token on the input: give it in one line');
  return line;
}

function isMissing(seen: SeenCluster, before: ClusterMessage, answer: ChangingMessage | null): string | null {
  const wanted = answer?.cluster ?? null;
  if (isIn(seen, before, wanted)) return null;
  const why = seen.formation?.problem ?? null;
  return `this host has not joined ${wanted ?? 'the cluster'} yet${why === null ? '' : `: ${why}`}`;
}

/** @param wanted null: it was in the answer that was lost; any is meant that the host was not in before */
function isIn({ id, formation }: ClusterMessage, before: ClusterMessage, wanted: string | null): boolean {
  if (wanted !== null) return id === wanted && formation !== undefined;
  return isFormed(formation) && !(isFormed(before.formation) && id === before.id);
}

function isFormed(formation: ClusterMessage['formation']): boolean {
  return formation !== undefined && formation.role !== 'alone';
}
