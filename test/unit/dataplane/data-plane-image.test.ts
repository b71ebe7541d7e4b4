import { describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { withImage } from '../../../src/dataplane/data-plane-image.js';
import type { ContainerSpec, Engine, Ensured } from '../../../src/docker/engine.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const spec = {} as ContainerSpec;

/** An engine without the image for so many attempts; afterwards it answers what `last` does. */
function engineWithout(attempts: number, last = (): Promise<Ensured> => Promise.resolve('created')) {
  const calls: string[] = [];
  const ensureContainer = (): Promise<Ensured> => {
    calls.push('container');
    const missing = calls.filter((call) => call === 'container').length <= attempts;
    return missing ? Promise.reject(new AppError('not_found', 'cannot create x: no such image')) : last();
  };
  const image = {
    reference: 'openebs/data-plane:1',
    ensure: () => Promise.resolve(void calls.push('import')),
    removeOlder: () => Promise.reject(new Error('not asked for')),
  };
  const engine: Partial<Engine> = { ensureContainer };
  return { calls, engine: withImage(engine as Engine, image) };
}

describe('an engine whose image was removed', () => {
  it('has it imported once, and its container made', async () => {
    const { calls, engine } = engineWithout(1);
    await engine.ensureContainer(ctx, spec);
    expect(calls).toEqual(['container', 'import', 'container']);
  });

  it('is never the reason to call a volume absent', async () => {
    const { calls, engine } = engineWithout(2);
    await expect(engine.ensureContainer(ctx, spec)).rejects.toMatchObject({ code: 'unavailable' });
    expect(calls).toEqual(['container', 'import', 'container']);
  });

  it('keeps the reason of any other failure', async () => {
    const refused = new AppError('conflict', 'the name is taken');
    const { engine } = engineWithout(1, () => Promise.reject(refused));
    await expect(engine.ensureContainer(ctx, spec)).rejects.toBe(refused);
  });
});
