/**
 * Changes the members of etcd step by step, as plan.ts says, while this host holds the lock. Nothing is remembered between
 * two steps but since when a member has not answered: a manager that dies anywhere is followed by another that goes on
 * from what it finds.
 */
import type { Ctx } from '../../context.js';
import { AppError, hasCode } from '../../errors.js';
import { failPoint } from '../../lib/fail-points.js';
import { keys } from '../../state/keys.js';
import type { Member, MemberCare, MemberList, Members } from '../../state/members.js';
import { records } from '../../state/records.js';
import type { Operation, State } from '../../state/state.js';
import type { ManagerLock } from './manager-lock.js';
import type { Observation, Observed } from './observation.js';
import { type HostView, plan, type Step } from './plan.js';

export interface ManagerDeps {
  readonly state: Pick<State, 'get'>;
  readonly members: Members & MemberCare;
  readonly lock: ManagerLock;
  readonly observation: Observation;
  readonly graceMs: number;
  readonly stallMs: number;
}

/** @returns whether something was done, so that there may be more to do at once */
export async function manage(ctx: Ctx, deps: ManagerDeps, observed: Observed): Promise<boolean> {
  if (!(await deps.lock.hold(ctx))) return false;
  const { graceMs, stallMs } = deps;
  const wanted = { voters: observed.voters, graceMs, stallMs };
  const step = plan({ ...observed, wanted });
  // Told before it is done; who has lost the lock meanwhile does nothing.
  if (step.kind === 'none') {
    if (await deps.lock.write(ctx, step.why)) await tidy(ctx, deps, { why: step.why, observed });
    return false;
  }
  if (!(await deps.lock.begin(ctx, step.why))) return false;
  ctx.log.info({ step: step.kind, why: step.why }, 'changing the members of etcd');
  try {
    await carryOut(ctx, deps, { step, observed });
    return true;
  } catch (reason) {
    // As after each change for some seconds; or somebody else was faster. The next look tells.
    if (!hasCode(reason, 'unavailable', 'conflict')) throw reason;
    await deps.lock.write(ctx, `${step.why}: ${AppError.from(reason).message}`);
    return false;
  }
}

interface Turn {
  readonly step: Exclude<Step, { kind: 'none' }>;
  readonly observed: Observed;
}

async function carryOut(ctx: Ctx, deps: ManagerDeps, { step, observed }: Turn): Promise<void> {
  const { members } = deps;
  switch (step.kind) {
    case 'add': {
      await failPoint('before member add');
      const added = await members.addLearner(ctx, step.host.peerUrl);
      await failPoint('after member add');
      return assign(ctx, deps, { host: step.host, member: added.id });
    }
    case 'assign':
      return assign(ctx, deps, { host: step.host, member: step.member.id });
    case 'promote':
      await failPoint('before member promote');
      if (!(await members.promote(ctx, step.member.id)))
        throw new AppError('unavailable', 'it has not caught up yet');
      await failPoint('after member promote');
      return;
    case 'remove':
      await failPoint('before member remove');
      await members.remove(ctx, step.member.id);
      await failPoint('after member remove');
      return forget(ctx, deps, step);
    case 'hand over': {
      const [url = ''] = memberOf(observed.list, step.from.id)?.clientUrls ?? [];
      return members.moveLeader(ctx, url, step.to.id);
    }
  }
}

/** The host starts it as soon as it reads this. */
async function assign(
  ctx: Ctx,
  { lock, members, state }: ManagerDeps,
  { host, member }: { host: HostView; member: string },
): Promise<void> {
  const list = await members.list(ctx);
  const name = `openebs-${member}`;
  const key = keys.duty(host.node);
  const before = await state.get(ctx, key);
  const value = records.duty.encode({
    schema: 1,
    node: host.node,
    member,
    name,
    initialCluster: initialCluster(list, member, name),
    clusterId: list.clusterId,
  });
  const put: Operation = { put: key, value };
  if (before !== null && records.duty.decode(key, before.value).member === member) return;
  await lock.write(ctx, `${host.name} is told to run a member`, [put]);
}

/** etcd wants all members named, and the list to be exactly theirs. */
function initialCluster({ members }: MemberList, id: string, name: string): string {
  return members
    .flatMap((member) =>
      member.peerUrls.map(
        (url) => `${member.id === id ? name : member.name || `openebs-${member.id}`}=${url}`,
      ),
    )
    .join(',');
}

async function forget(
  ctx: Ctx,
  { lock, observation, state }: ManagerDeps,
  { host, member, why }: Extract<Step, { kind: 'remove' }>,
): Promise<void> {
  if (!host) return;
  if (member.learner) observation.rest(host.node);
  const key = keys.duty(host.node);
  const entry = await state.get(ctx, key);
  if (entry && records.duty.decode(key, entry.value).member === member.id)
    await lock.write(ctx, why, [{ delete: key }]);
}

/** Whoever removed a member may have died before its host's duty was taken back. */
async function tidy(
  ctx: Ctx,
  { lock }: ManagerDeps,
  { why, observed: { hosts, members } }: { why: string; observed: Observed },
): Promise<void> {
  const over = hosts.filter(({ duty }) => duty !== null && !members.some(({ id }) => id === duty));
  if (over.length === 0) return;
  await lock.write(
    ctx,
    why,
    over.map(({ node }): Operation => ({ delete: keys.duty(node) })),
  );
}

function memberOf({ members }: MemberList, id: string): Member | undefined {
  return members.find((member) => member.id === id);
}
