/**
 * Who changes the members: the host that holds the key `manager`, with a lease. Each intent is written in a transaction
 * that compares the revision at which the key was made, so one that has lost it, and does not know yet, writes nothing.
 */
import type { Ctx } from '../../context.js';
import { keys } from '../../state/keys.js';
import { type ManagerRecord, records } from '../../state/records.js';
import type { Comparison, Lease, Operation, State } from '../../state/state.js';

export interface ManagerLock {
  /** Takes it when it is free. Whether this host holds it now. */
  hold(ctx: Ctx): Promise<boolean>;
  /** Writes what is being done, and more, if this host holds it still. */
  write(ctx: Ctx, doing: string, then?: readonly Operation[]): Promise<boolean>;
  /** Who holds it, and what they do. */
  read(ctx: Ctx): Promise<ManagerRecord | null>;
  release(ctx: Ctx): Promise<void>;
}

const TTL_MS = 10_000;

export function createManagerLock(node: string, state: State): ManagerLock {
  let held: { readonly lease: Lease; readonly fence: Comparison } | null = null;
  let told = '';
  const valueOf = (doing: string) => records.manager.encode({ schema: 1, node, doing });

  async function take(ctx: Ctx): Promise<boolean> {
    if ((await state.get(ctx, keys.manager)) !== null) return false;
    const lease = await state.lease(ctx, TTL_MS);
    const { ok } = await state.transact(ctx, {
      if: [{ key: keys.manager, absent: true }],
      then: [{ put: keys.manager, value: valueOf(''), lease }],
    });
    const entry = ok ? await state.get(ctx, keys.manager) : null;
    if (entry?.leaseId !== lease.id) {
      await lease.revoke(ctx);
      return false;
    }
    held = { lease, fence: { key: keys.manager, createRevision: entry.createRevision } };
    told = '';
    return true;
  }

  return {
    async hold(ctx) {
      if (held?.lease.lost.aborted === true) held = null;
      return held !== null || take(ctx);
    },
    async write(ctx, doing, then = []) {
      if (held === null || held.lease.lost.aborted) return false;
      if (doing === told && then.length === 0) return true;
      const put = { put: keys.manager, value: valueOf(doing), lease: held.lease };
      const { ok } = await state.transact(ctx, { if: [held.fence], then: [put, ...then] });
      if (ok) told = doing;
      else held = null;
      return ok;
    },
    async read(ctx) {
      const entry = await state.get(ctx, keys.manager);
      return entry && records.manager.decode(entry.key, entry.value);
    },
    async release(ctx) {
      const { lease } = held ?? {};
      held = null;
      await lease?.revoke(ctx);
    },
  };
}
