/**
 * Decides that the whole cluster is taken down: never below containers that use volumes, nor, unless that is forced, without
 * a host that could have told of some. Asked first with a lease, then looked once more, then decided: an attachment is made only where
 * nobody has asked, so none can come between.
 */
import { randomUUID } from 'node:crypto';
import type { Ctx } from '../../context.js';
import { AppError } from '../../errors.js';
import { keys } from '../../state/keys.js';
import { type EndingRecord, records } from '../../state/records.js';
import type { Comparison, State } from '../../state/state.js';
import { readEnding, waitingFor } from './progress.js';

export interface EndingWish {
  readonly purge: boolean;
  /** The cluster's id; needed to purge. */
  readonly confirm?: string | undefined;
  /** Though hosts are away: what they have stays. */
  readonly force: boolean;
}

export interface Ending {
  readonly cluster: string;
  readonly purge: boolean;
  /** Hosts that have not carried out their part yet, by ID. */
  readonly waitingFor: readonly string[];
}

const ASK_TTL_MS = 15_000;

/**
 * Once decided the same is answered again, with what is still missing.
 * @throws `in_use` with the volumes that containers use, `unavailable` with the hosts that are away
 */
export async function decideEnding(ctx: Ctx, state: State, wish: EndingWish): Promise<Ending> {
  const entry = await state.get(ctx, keys.cluster);
  if (entry === null) throw new AppError('not_found', 'the cluster has no record yet: try again in a moment');
  const { id: cluster } = records.cluster.decode(entry.key, entry.value);
  checkConfirmed(cluster, wish);
  const before = await readEnding(ctx, state);
  const ending = before?.decided === true ? before : await decide(ctx, state, cluster, wish);
  if (ending.purge !== wish.purge)
    throw new AppError(
      'conflict',
      `the cluster is being taken down already, ${ending.purge ? 'and its data removed' : 'its data is kept'}`,
    );
  return { cluster, purge: ending.purge, waitingFor: await waitingFor(ctx, state, ending) };
}

function checkConfirmed(cluster: string, { purge, confirm }: EndingWish): void {
  if (confirm === undefined ? !purge : confirm === cluster) return;
  throw new AppError(
    'invalid_argument',
    purge
      ? `this removes all volumes of cluster ${cluster} and their data: confirm it with this ID`
      : `${JSON.stringify(confirm?.slice(0, 64))} is not the cluster's ID, which is ${cluster}: nothing was done`,
  );
}

async function decide(
  ctx: Ctx,
  state: State,
  cluster: string,
  { purge, force }: EndingWish,
): Promise<EndingRecord> {
  const { alive, away } = await lookForHosts(ctx, state);
  if (away.length > 0 && !force)
    throw new AppError(
      'unavailable',
      `${named(away)} ${away.length > 1 ? 'are' : 'is'} away: bring them back, or take them out with "docker openebs ` +
        'cluster remove-node". With --force the others are taken down, and what these have stays',
    );
  // What hosts that are away or were removed have in use stays as it is.
  const asks = force ? (node: string) => alive.includes(node) : () => true;
  await refuseUsed(ctx, state, asks);
  const asked = { schema: 1, id: randomUUID(), cluster, purge, nodes: alive, decided: false } as const;
  const lease = await state.lease(ctx, ASK_TTL_MS);
  const put = { put: keys.ending, value: records.ending.encode(asked), lease };
  const { ok } = await state.transact(ctx, { if: [{ key: keys.ending, absent: true }], then: [put] });
  if (!ok) throw askedTwice();
  try {
    await refuseUsed(ctx, state, asks);
    const decided: EndingRecord = { ...asked, decided: true };
    const value = records.ending.encode(decided);
    const same = await unchanged(ctx, state, asked.id);
    if (same === null) throw askedTwice();
    const done = await state.transact(ctx, { if: [same], then: [{ put: keys.ending, value }] });
    if (!done.ok) throw askedTwice();
    return decided;
  } finally {
    // What was decided is bound to it no more.
    await lease.revoke(ctx).catch(() => undefined);
  }
}

function askedTwice(): AppError {
  return new AppError('conflict', 'somebody else takes the cluster down just now: look, and try again');
}

async function unchanged(ctx: Ctx, state: State, id: string): Promise<Comparison | null> {
  const entry = await state.get(ctx, keys.ending);
  if (entry === null || records.ending.decode(entry.key, entry.value).id !== id) return null;
  return { key: entry.key, modRevision: entry.modRevision };
}

interface Host {
  readonly node: string;
  readonly hostname: string;
}

async function lookForHosts(ctx: Ctx, state: State): Promise<{ alive: string[]; away: Host[] }> {
  const [nodes, alive] = await Promise.all([state.range(ctx, keys.nodes), state.range(ctx, keys.allAlive)]);
  const living = new Set(alive.entries.map(({ key }) => key.slice(keys.allAlive.length)));
  const hosts = nodes.entries.map(({ key, value }) => {
    const { id, hostname } = records.node.decode(key, value);
    return { node: id, hostname };
  });
  return {
    alive: hosts.filter(({ node }) => living.has(node)).map(({ node }) => node),
    away: hosts.filter(({ node }) => !living.has(node)),
  };
}

function named(hosts: readonly Host[]): string {
  return hosts.map(({ node, hostname }) => `node ${hostname} (${node})`).join(', ');
}

/** @throws `in_use` */
async function refuseUsed(ctx: Ctx, state: State, asks: (node: string) => boolean): Promise<void> {
  const { entries } = await state.range(ctx, keys.attachments);
  const used = entries
    .map(({ key, value }) => records.attachment.decode(key, value))
    .filter(({ node }) => asks(node));
  if (used.length === 0) return;
  const names = used.map(({ volume, node }) => `${volume} (on node ${node})`).toSorted();
  throw new AppError(
    'in_use',
    `containers use ${String(used.length)} volume(s): ${names.slice(0, 20).join(', ')}` +
      `${names.length > 20 ? ', ...' : ''}. Stop them first; nothing was done`,
  );
}
