import { expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createLog } from '../../../src/log.js';
import { createMemoryState } from '../../../src/state/memory-state.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };

it('a lease that is revoked after somebody has taken it over is lost for them too', async () => {
  const state = createMemoryState();
  const first = await state.lease(ctx, 5000);
  const taking = state.lease(ctx, 5000, first.id);
  const revoking = first.revoke(ctx);
  const second = await taking;
  await revoking;
  expect(second.lost.aborted).toBe(true);
  await expect(
    state.transact(ctx, { if: [], then: [{ put: '/x', value: 'y', lease: { id: second.id } }] }),
  ).rejects.toMatchObject({ code: 'conflict' });
  await state.close();
});
