import { describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';
import { refuseRename, RenamedService } from '../../../src/volumes/renamed-service.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };

function refuse(names: readonly string[], complete = true, dataPlane = false) {
  const records = { complete, volumesOn: (node: string) => (node === 'old' ? [...names] : []) };
  return refuseRename(records, {
    former: 'old',
    node: 'new',
    hasDataPlane: () => Promise.resolve(dataPlane),
  });
}

describe('a changed NODE_ID', () => {
  it('is taken when no record names the former node', async () => {
    expect(await refuse([])).toBeNull();
    expect(await refuse([], true, true)).toBeNull();
  });

  it('is refused with both names, the volumes and the way back', async () => {
    const text = (await refuse(['a', 'b', 'c', 'd', 'e', 'f', 'g']))?.message;
    expect(text).toContain('NODE_ID says "new"');
    expect(text).toContain('volumes (a, b, c, d, e, and 2 more) know it as "old"');
    expect(text).toContain('docker plugin set NODE_ID=old');
  });

  it('is refused while the records are not known, if anything of a volume is on this host', async () => {
    expect((await refuse([], false, true))?.message).toContain('volumes know it as "old"');
    expect(await refuse([], false, false)).toBeNull();
  });

  it('that is refused leaves volumes to be seen, with the reason, and nothing else', async () => {
    const view = {
      name: 'db',
      mountpoint: '',
      createdAt: '',
      status: { state: 'ready' as const, error: '' },
    };
    const refusal = new AppError('conflict', 'set it back');
    const service = new RenamedService({ get: () => Promise.resolve(view), list: () => [view] }, refusal);
    const told = { ...view, status: { state: 'ready', error: 'set it back' } };
    expect(await service.get(ctx, 'db')).toEqual(told);
    expect(service.list()).toEqual([told]);
    for (const call of ['create', 'mount', 'unmount', 'remove'] as const) {
      await expect(service[call]()).rejects.toThrow('set it back');
    }
  });
});
