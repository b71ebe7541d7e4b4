import { describe, expect, it } from 'vitest';
import { bounded } from '../../../../src/cluster/discovery/bounded.js';
import type { Address } from '../../../../src/cluster/discovery/discovery.js';
import type { Ctx } from '../../../../src/context.js';
import { AppError } from '../../../../src/errors.js';
import { createLog } from '../../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const search = (find: (ctx: Ctx) => Promise<readonly Address[]>) =>
  bounded({ name: 'x', wayOut: 'look for it', find, limitMs: 30 });

describe('a discovery, whatever is behind it,', () => {
  it('ends where that takes no notice of its signal', async () => {
    await expect(search(() => new Promise(() => undefined)).find(ctx)).rejects.toMatchObject({
      code: 'unavailable',
      message: 'discovery x: no answer within 0.03 s: look for it',
    });
  });

  it('says that the time was over, whatever that makes of it', async () => {
    const late = search(async ({ signal }) => {
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve);
      });
      throw new TypeError('aborted somewhere');
    });
    await expect(late.find(ctx)).rejects.toMatchObject({
      message: expect.stringContaining('no answer within') as string,
    });
  });

  it('has an error of our own for what it throws', async () => {
    const failing = [
      search(() => Promise.reject(new TypeError('boom'))),
      search(() => {
        throw new TypeError('boom');
      }),
    ];
    for (const one of failing)
      await expect(one.find(ctx)).rejects.toMatchObject({
        code: 'unavailable',
        message: 'discovery x: boom',
      });
    const wrong = search(() => Promise.reject(new AppError('invalid_argument', 'never')));
    await expect(wrong.find(ctx)).rejects.toMatchObject({
      code: 'invalid_argument',
      message: 'discovery x: never',
    });
  });

  it('keeps the order, without doubles', async () => {
    const [a, b] = [
      { host: 'a', port: 1 },
      { host: 'a', port: 2 },
    ];
    expect(await search(() => Promise.resolve([b, a, b])).find(ctx)).toEqual([
      { ...b, from: 'x' },
      { ...a, from: 'x' },
    ]);
  });
});
