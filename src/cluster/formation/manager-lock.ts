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
  /** The same before a change of the members, and only while no host makes its member anew. */
  begin(ctx: Ctx, doing: string): Promise<boolean>;
  /** Who holds it, and what they do. */
  read(ctx: Ctx): Promise<ManagerRecord | null>;
  release(ctx: Ctx): Promise<void>;
}

const TTL_MS = 10_000;

type Fence = Extract<Comparison, { readonly createRevision: number }>;

export function createManagerLock(node: string, state: State): ManagerLock {
  let held: { readonly lease: Lease; readonly fence: Fence } | null = null;
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

  async function write(ctx: Ctx, doing: string, { unless = [], then = [] }: More): Promise<boolean> {
    if (held === null || held.lease.lost.aborted) return false;
    const { fence, lease } = held;
    const put = { put: keys.manager, value: valueOf(doing), lease };
    const { ok } = await state.transact(ctx, { if: [fence, ...unless], then: [put, ...then] });
    if (ok) told = doing;
    else if (unless.length === 0 || !(await stands(ctx, state, fence))) held = null;
    return ok;
  }

  return {
    async hold(ctx) {
      if (held?.lease.lost.aborted === true) held = null;
      return held !== null || take(ctx);
    },
    async write(ctx, doing, then = []) {
      const isTold = held?.lease.lost.aborted === false && doing === told && then.length === 0;
      return isTold || write(ctx, doing, { then });
    },
    begin: (ctx, doing) => write(ctx, doing, { unless: [{ key: keys.renewal, absent: true }] }),
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

interface More {
  readonly unless?: readonly Comparison[];
  readonly then?: readonly Operation[];
}

async function stands(ctx: Ctx, state: State, { key, createRevision }: Fence): Promise<boolean> {
  return (await state.get(ctx, key))?.createRevision === createRevision;
}
