/** Ends a whole cluster: asked for once, then looked for until all hosts have told, and this host's plugin is disabled. */
import type { ClusterMessage, EndingMessage, EndingRequest } from '../../admin/messages.js';
import type { Asked } from '../admin-client.js';
import type { Call, Run, Surroundings } from '../command.js';
import { findPlugin } from '../engine-client.js';
import { exitCodes, Failure } from '../failure.js';
import { askNodes, namesOfNodes } from '../nodes.js';
import { few, json, plain } from '../table.js';
import { durationOf } from '../values.js';
import { confirmed } from './confirm.js';
import { waitFor } from './wait.js';

const TIMEOUT_MS = 300_000;
const PATH = '/v1/cluster/down';
const shape = { waitingFor: 'array' } as const;

/** `isOff`: the plugin of this host is disabled, or nobody can tell more than that it is gone. */
interface Seen extends EndingMessage {
  readonly isOff: boolean;
}

export const endCluster: Run = async (call, around) => {
  const timeoutMs = durationOf(call, 'timeout', TIMEOUT_MS);
  const request = await requestOf(call, around);
  if (request === null) return exitCodes.ok;
  const nameOf = namesOfNodes((await askNodes(around)).nodes);
  // What is refused is refused at once; from then on hosts may be away.
  let last: Seen = { ...(await ask(around, request, {})), isOff: false };
  const end = await waitFor<Seen>(around, {
    timeoutMs,
    async look(asked) {
      last = await look(around, { request, last, asked });
      return last;
    },
    missing: ({ waitingFor, isOff }) => {
      if (waitingFor.length > 0) return `waiting for ${few(waitingFor.map(nameOf))}`;
      return isOff
        ? null
        : 'all hosts have stopped serving volumes; etcd is stopped, and the plugin disabled';
    },
  });
  tell(call, around, end);
  return exitCodes.ok;
};

function ask(around: Surroundings, request: EndingRequest, asked: Asked): Promise<EndingMessage> {
  return around.admin.post<EndingMessage>(PATH, request, { ...asked, shape });
}

/** Once all have told, the plugin goes, and the engine says when it is disabled. */
async function look(
  around: Surroundings,
  { request, last, asked }: { request: EndingRequest; last: Seen; asked: Asked },
): Promise<Seen> {
  try {
    return { ...(await ask(around, request, asked)), isOff: false };
  } catch (reason) {
    const isGone = reason instanceof Failure && reason.exitCode === exitCodes.unreachable;
    if (!isGone || last.waitingFor.length > 0) throw reason;
    return { ...last, isOff: await isDisabled(around) };
  }
}

/** Of an engine that is not asked here nobody knows more than that the plugin has gone. */
async function isDisabled({ engine }: Surroundings): Promise<boolean> {
  const plugin = await findPlugin(engine).catch(() => null);
  return plugin?.Enabled !== true;
}

function tell(call: Call, around: Surroundings, { cluster, purge }: EndingMessage): void {
  if (call.json) around.print(json({ cluster, down: true, purged: purge }));
  else
    around.print(
      plain(
        `cluster ${cluster} is down: its hosts disable the plugin, as this one has, and ` +
          (purge
            ? 'no data is left'
            : 'all data is kept. "docker plugin enable openebs" on the hosts brings it back') +
          (call.has('force') ? '. Hosts that were away keep what they have' : ''),
      ) + '\n',
    );
}

/** Only what takes data away is confirmed. Null: there is nothing to take down. */
async function requestOf(call: Call, around: Surroundings): Promise<EndingRequest | null> {
  const [given, force] = [call.text('confirm'), call.has('force') ? { force: true } : {}];
  const confirm = given === undefined ? {} : { confirm: given };
  if (!call.has('purge')) return (await isDownAlready(around)) ? null : { ...confirm, ...force };
  const { id } = await around.admin.get<ClusterMessage>('/v1/cluster');
  const what = 'All hosts of the cluster lose their volumes and all data of these, and all that is recorded.';
  return { purge: true, confirm: await confirmed(call, around, { what, id }), ...force };
}

async function isDownAlready(around: Surroundings): Promise<boolean> {
  try {
    await around.admin.get<ClusterMessage>('/v1/cluster');
    return false;
  } catch (reason) {
    const plugin = await findPlugin(around.engine).catch(() => null);
    if (plugin === null || plugin.Enabled) throw reason;
    around.print('the plugin on this host is disabled: nothing of it is left to take down here\n');
    return true;
  }
}
