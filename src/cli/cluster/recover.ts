/** `recover` and `restore`: a new etcd of one member, after which the other hosts follow this one. */
import path from 'node:path';
import type { BackupsMessage, ClusterMessage, RecoverRequest } from '../../admin/messages.js';
import { quote } from '../../lib/quote.js';
import type { Call, Run, Surroundings } from '../command.js';
import { type ExitCode, Failure } from '../failure.js';
import { changeCluster, tellEtcd } from './change.js';
import { confirmed } from './confirm.js';
import { showMembership } from './membership.js';

export const recoverCluster: Run = async (call, around) => {
  const { id } = await around.admin.get<ClusterMessage>('/v1/cluster');
  const what =
    "etcd begins anew with the data of this host's member: what the other members had written and this one had not " +
    'got is lost, and their hosts must not go on with the old one.';
  return recover(call, around, { confirm: await confirmed(call, around, { what, id: textOrNull(id) }) });
};

export const restoreCluster: Run = async (call, around) => {
  const file = path.resolve(call.names[0] ?? '');
  const id = await idOfBackup(around, file);
  const what =
    `etcd begins anew with the backup ${quote(file, 200)}: all that was recorded since it was made is lost; data of ` +
    'volumes that it does not know stays on the hosts.';
  return recover(call, around, { backup: file, confirm: await confirmed(call, around, { what, id }) });
};

/** A host that has lost everything does not know its cluster, but the backup does; of one from elsewhere the plugin knows. */
async function idOfBackup({ admin }: Surroundings, file: string): Promise<string | null> {
  const { id } = await admin.get<ClusterMessage>('/v1/cluster');
  if (typeof id === 'string') return id;
  const shape = { backups: 'array' } as const;
  const { backups } = await admin.get<BackupsMessage>('/v1/cluster/backups', {}, { shape }).catch(none);
  return backups.find((backup) => backup.file === file)?.cluster ?? null;
}

function none(reason: unknown): BackupsMessage {
  if (reason instanceof Failure) return { backups: [] };
  throw reason;
}

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

async function recover(call: Call, around: Surroundings, body: RecoverRequest): Promise<ExitCode> {
  const cluster = await changeCluster(call, around, {
    path: '/v1/cluster/recover',
    body,
    // What is there before may look like what is wanted.
    missing: ({ id, startedAnew }, answer) => {
      if (answer?.change === undefined && !startedAnew) return 'the plugin has not started anew yet';
      return id === (answer?.cluster ?? id) ? null : `this host is not in ${answer?.cluster ?? ''} yet`;
    },
  });
  tellEtcd(around, cluster);
  return showMembership(call, around, cluster);
}
