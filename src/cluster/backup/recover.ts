/** Carries a recovery out: the old member's data is put aside, a new one is formed and filled. */
import path from 'node:path';
import type { Ctx } from '../../context.js';
import { failPoint } from '../../lib/fail-points.js';
import type { Log } from '../../log.js';
import { createEtcdState } from '../../state/etcd-state.js';
import type { State } from '../../state/state.js';
import type { Certificates } from '../certificates.js';
import { putAside } from '../formation/incarnation.js';
import { urlOf } from '../formation/membership.js';
import type { Recovery } from '../formation/transition.js';
import {
  ensureOwnEtcd,
  ETCD_CONTAINER,
  type OwnEtcdOptions,
  RESCUE_CONTAINER,
  runAlone,
} from '../own-etcd.js';
import { BACKUP_SUFFIX, readBackup } from './backups.js';
import { load, rescue } from './recovery.js';

export interface RecoverParts extends OwnEtcdOptions {
  readonly certificates: Certificates;
  readonly log: Log;
  /** Of the cluster's record, as this host knows it. */
  readonly incarnation: number;
}

/** @returns the incarnation that the cluster has from now on */
export async function recover(
  ctx: Ctx,
  { backup, rescue: name }: Recovery,
  parts: RecoverParts,
): Promise<number> {
  const { paths, roles, certificates } = parts;
  ctx.log.warn({ backup: backup ?? 'what the member on this host had' }, 'etcd is formed anew');
  await failPoint('before transition');
  await roles.remove(ctx, ETCD_CONTAINER, 0);
  await failPoint('after transition engine');
  const file =
    backup ??
    (await rescue(ctx, name, { paths, runAlone: (caller, copy) => answerAlone(caller, copy, parts) }));
  const found = await readBackup(paths, file);
  // Each try begins here: it is what was there before the first that is kept.
  await putAside(paths, path.basename(name, BACKUP_SUFFIX));
  await failPoint('after transition files');
  await ensureOwnEtcd(ctx, parts, certificates);
  const state = connect(parts);
  try {
    return await load(ctx, found, state, parts.incarnation);
  } finally {
    await state.close();
  }
}

async function answerAlone(ctx: Ctx, copy: string, parts: RecoverParts) {
  const end = () => parts.roles.remove(ctx, RESCUE_CONTAINER, 0);
  try {
    await runAlone(ctx, parts, parts.certificates, copy);
  } catch (reason) {
    await end();
    throw reason;
  }
  const state = connect(parts);
  return {
    state,
    async end() {
      await state.close();
      await end();
    },
  };
}

function connect({ port, certificates: { ca, client }, log }: RecoverParts): State {
  const tls = { ca, certificate: client.certificate, key: client.key, serverName: 'localhost' };
  return createEtcdState({ endpoints: [urlOf('127.0.0.1', port)], tls, log });
}
