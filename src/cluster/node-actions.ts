/** What people ask for about one host of the cluster. */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { keys } from '../state/keys.js';
import { type NodeSettingsRecord, records } from '../state/records.js';
import type { Operation, State } from '../state/state.js';
import { refuseDuties } from './remaining-duties.js';

export interface NodeActionsDeps {
  /** This host. */
  readonly node: string;
  readonly state: State;
}

export interface NodeWish {
  /** Null takes a label away. */
  readonly labels?: Readonly<Record<string, string | null>> | undefined;
  readonly drained?: boolean | undefined;
}

/** Until it tells of itself again. */
export async function forgetNode(ctx: Ctx, state: State, node: string): Promise<void> {
  const gone = [keys.peer(node), keys.duty(node), keys.node(node), keys.nodeSettings(node), keys.alive(node)];
  await state.transact(ctx, { if: [], then: gone.map((key): Operation => ({ delete: key })) });
}

export async function removeNode(
  ctx: Ctx,
  { node: self, state }: NodeActionsDeps,
  node: string,
  { force }: { force: boolean },
): Promise<void> {
  if (node === self)
    throw new AppError('conflict', 'this is this host itself: "docker openebs cluster leave" takes it out');
  const [known, alive] = await Promise.all([
    Promise.all([state.get(ctx, keys.peer(node)), state.get(ctx, keys.node(node))]),
    state.get(ctx, keys.alive(node)),
  ]);
  if (known.every((entry) => entry === null)) throw new AppError('not_found', `there is no node ${node}`);
  if (alive !== null && !force)
    throw new AppError(
      'in_use',
      `node ${node} is alive: run "docker openebs cluster leave" there; --force removes it all the same, but it will be back`,
    );
  if (!force) await refuseDuties(ctx, state, node);
  await forgetNode(ctx, state, node);
}

export async function setNode(
  ctx: Ctx,
  { state }: NodeActionsDeps,
  node: string,
  wish: NodeWish,
): Promise<NodeSettingsRecord> {
  const key = keys.nodeSettings(node);
  const [entry, known] = await Promise.all([state.get(ctx, key), state.get(ctx, keys.node(node))]);
  if (known === null) throw new AppError('not_found', `there is no node ${node}`);
  const before = entry
    ? records.nodeSettings.decode(key, entry.value)
    : { schema: 1 as const, labels: {}, drained: false };
  const merged = Object.entries({ ...before.labels, ...wish.labels });
  const labels = Object.fromEntries(merged.filter((pair): pair is [string, string] => pair[1] !== null));
  const after = { ...before, labels, drained: wish.drained ?? before.drained };
  const same = entry ? { key, modRevision: entry.modRevision } : ({ key, absent: true } as const);
  const { ok } = await state.transact(ctx, {
    if: [same],
    then: [{ put: key, value: records.nodeSettings.encode(after) }],
  });
  if (!ok) throw new AppError('conflict', `somebody else has just changed node ${node}: look, and try again`);
  return after;
}
