import type { BackupMessage, BackupsMessage } from '../../admin/messages.js';
import type { Run, Surroundings } from '../command.js';
import { exitCodes, Failure } from '../failure.js';
import { count, json, plain, size, table } from '../table.js';

const PATH = '/v1/cluster/backups';
const shape = { backups: 'array' } as const;
/** Of a large etcd on a slow disk. */
const BACKUP_MS = 300_000;

export const makeBackup: Run = async (call, around) => {
  const { backups } = await around.admin.post<BackupsMessage>(PATH, {}, { shape, timeoutMs: BACKUP_MS });
  const [made] = backups;
  if (made === undefined)
    throw new Failure(exitCodes.wrong, 'the plugin made no backup, and does not say why: see its log');
  if (call.json) around.print(json(made));
  else tellMade(around, made);
  return exitCodes.ok;
};

/** The path alone on the output: it is what `cluster restore` takes. */
function tellMade(around: Surroundings, { file, keys, bytes, revision }: BackupMessage): void {
  around.complain(
    `${count(keys, 'key')} of revision ${String(revision)}, ${size(bytes)}, on this host alone:\n`,
  );
  around.print(`${plain(file)}\n`);
}

export const listBackups: Run = async (call, around) => {
  const { backups } = await around.admin.get<BackupsMessage>(PATH, {}, { shape });
  if (call.json) around.print(json({ backups }));
  else if (call.has('quiet')) around.print(backups.map(({ file }) => `${plain(file)}\n`).join(''));
  else around.print(table(['FILE', 'CREATED', 'CLUSTER', 'KEYS', 'SIZE', 'REVISION'], backups.map(row)));
  return exitCodes.ok;
};

function row({ file, createdAt, cluster, keys, bytes, revision }: BackupMessage): readonly string[] {
  return [file, createdAt, cluster, String(keys), size(bytes), String(revision)];
}
