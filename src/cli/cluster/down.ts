import type { ClusterMessage, DownMessage, DownRequest } from '../../admin/messages.js';
import type { Call, Run, Surroundings } from '../command.js';
import { exitCodes } from '../failure.js';
import { askNodes, namesOfNodes } from '../nodes.js';
import { few, json } from '../table.js';
import { durationOf } from '../values.js';
import { confirmed } from './confirm.js';
import { waitFor } from './wait.js';

const TIMEOUT_MS = 300_000;
const PATH = '/v1/cluster/down';
const shape = { waitingFor: 'array' } as const;

export const endCluster: Run = async (call, around) => {
  const timeoutMs = durationOf(call, 'timeout', TIMEOUT_MS);
  const request = await requestOf(call, around);
  const nameOf = namesOfNodes((await askNodes(around)).nodes);
  // What is refused is refused at once; from then on hosts may be away.
  let next: DownMessage | undefined = await around.admin.post<DownMessage>(PATH, request, { shape });
  await waitFor<DownMessage>(around, {
    timeoutMs,
    look: (asked) => {
      const first = next;
      next = undefined;
      return first
        ? Promise.resolve(first)
        : around.admin.post<DownMessage>(PATH, request, { ...asked, shape });
    },
    missing: ({ waitingFor }) =>
      waitingFor.length === 0 ? null : `waiting for ${few(waitingFor.map(nameOf))}`,
  });
  const purged = request.purge === true;
  if (call.json) around.print(json({ down: true, purged }));
  else
    around.print(
      `all hosts have taken their containers away; ${purged ? 'no data is left' : 'the data is kept'}\n`,
    );
  return exitCodes.ok;
};

/** Only what takes data away is confirmed. */
async function requestOf(call: Call, around: Surroundings): Promise<DownRequest> {
  const confirm = call.text('confirm');
  if (!call.has('purge')) return confirm === undefined ? {} : { confirm };
  const { id } = await around.admin.get<ClusterMessage>('/v1/cluster');
  const what = 'All hosts of the cluster remove their containers, their volumes and all data of these.';
  return { purge: true, confirm: await confirmed(call, around, { what, id }) };
}
