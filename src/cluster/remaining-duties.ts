/** What the cluster still needs a host for. */
import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import { keys } from '../state/keys.js';
import { records } from '../state/records.js';
import type { State } from '../state/state.js';

/** @throws `in_use` with the list of what is in the way */
export async function refuseDuties(ctx: Ctx, state: Pick<State, 'range'>, node: string): Promise<void> {
  const [targets, attachments] = await Promise.all([
    state.range(ctx, keys.targets),
    state.range(ctx, keys.attachments),
  ]);
  const kept = targets.entries
    .map(({ key, value }) => records.target.decode(key, value))
    .filter((target) => target.node === node)
    .map(({ volume }) => volume);
  const held = attachments.entries
    .map(({ key, value }) => records.attachment.decode(key, value))
    .filter((attachment) => attachment.node === node)
    .map(({ volume }) => volume);
  const reasons = [
    ...(kept.length > 0 ? [`the data of ${String(kept.length)} volume(s) is there: ${all(kept)}`] : []),
    ...(held.length > 0 ? [`containers there use ${String(held.length)} volume(s): ${all(held)}`] : []),
  ];
  if (reasons.length === 0) return;
  throw new AppError(
    'in_use',
    `node ${node} is still needed: ${reasons.join('; ')}. Stop the containers, and copy the data to a volume of another ` +
      'host or remove the volumes; --force leaves them behind, and their data with them',
  );
}

function all(names: readonly string[]): string {
  return names.toSorted().slice(0, 50).join(', ') + (names.length > 50 ? ', ...' : '');
}
