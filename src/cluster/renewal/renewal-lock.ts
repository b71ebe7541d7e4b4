/**
 * Who makes its member anew: the host that holds the key `renewal`, with a lease. It is taken only while the manager of the
 * members does nothing, in a transaction that compares what the manager says of itself; and the manager begins no change
 * but in one that compares that nobody holds this key. So of the two whoever is first goes first.
 */
import type { Ctx } from '../../context.js';
import { renewing } from '../formation/plan.js';
import { keys } from '../../state/keys.js';
import { records } from '../../state/records.js';
import type { Comparison, Lease, State } from '../../state/state.js';

export interface RenewalLock {
  /** What keeps this host from taking it; null: nothing. */
  busy(ctx: Ctx): Promise<string | null>;
  /** The same, with the lock taken where nothing does. */
  take(ctx: Ctx, hostname: string): Promise<string | null>;
  /** Whether it is held, and sure to be. */
  readonly held: boolean;
  release(ctx: Ctx): Promise<void>;
}

/** Longer than the client needs to find another member when the one of this host ends. */
const TTL_MS = 30_000;

export function createRenewalLock(
  node: string,
  state: Pick<State, 'get' | 'transact' | 'lease'>,
): RenewalLock {
  let lease: Lease | null = null;

  async function look(ctx: Ctx): Promise<{ busy: string | null; same: Comparison }> {
    const [renewal, manager] = await Promise.all([
      state.get(ctx, keys.renewal),
      state.get(ctx, keys.manager),
    ]);
    const same: Comparison = manager
      ? { key: keys.manager, modRevision: manager.modRevision }
      : { key: keys.manager, absent: true };
    if (renewal) {
      const { hostname } = records.renewal.decode(renewal.key, renewal.value);
      return { busy: renewing(hostname), same };
    }
    const doing = manager ? records.manager.decode(manager.key, manager.value).doing : '';
    return { busy: doing === '' ? null : doing, same };
  }

  return {
    busy: async (ctx) => (await look(ctx)).busy,
    async take(ctx, hostname) {
      const { busy, same } = await look(ctx);
      if (busy !== null) return busy;
      const granted = await state.lease(ctx, TTL_MS);
      const value = records.renewal.encode({ schema: 1, node, hostname });
      const { ok } = await state.transact(ctx, {
        if: [{ key: keys.renewal, absent: true }, same],
        then: [{ put: keys.renewal, value, lease: granted }],
      });
      if (ok) lease = granted;
      else await granted.revoke(ctx);
      return ok ? null : 'another host was faster';
    },
    get held() {
      return lease?.lost.aborted === false;
    },
    async release(ctx) {
      const before = lease;
      lease = null;
      await before?.revoke(ctx);
    },
  };
}
