import { describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createLog } from '../../../src/log.js';
import { StartingService } from '../../../src/volumes/starting-service.js';
import type { VolumeService, VolumeView } from '../../../src/volumes/volume-service.js';

const caller = (signal = new AbortController().signal): Ctx => ({
  log: createLog('silent'),
  signal,
  requestId: 'test',
});
const view: VolumeView = { name: 'db', mountpoint: '', createdAt: '2026-01-01T00:00:00Z', status: {} };

function realService(): { service: VolumeService; calls: string[] } {
  const calls: string[] = [];
  const note = <T>(call: string, answer: T): Promise<T> => {
    calls.push(call);
    return Promise.resolve(answer);
  };
  const service: VolumeService = {
    create: (_ctx, name) => note(`create ${name}`, undefined),
    remove: (_ctx, name) => note(`remove ${name}`, undefined),
    mount: (_ctx, name, id) => note(`mount ${name} ${id}`, '/mnt/data'),
    unmount: (_ctx, name, id) => note(`unmount ${name} ${id}`, undefined),
    get: (_ctx, name) => note(`get ${name}`, view),
    list: () => [view],
  };
  return { service, calls };
}

describe('the service that stands in at the start', () => {
  it('lets calls wait for the real one, in order, and passes them on as they are', async () => {
    const starting = new StartingService();
    const { service, calls } = realService();
    const waiting = Promise.all([
      starting.create(caller(), 'db', {}),
      starting.mount(caller(), 'db', 'a'),
      starting.get(caller(), 'db'),
      starting.unmount(caller(), 'db', 'a'),
      starting.remove(caller(), 'db'),
    ]);
    expect(calls).toEqual([]);
    starting.ready(service);
    expect(await waiting).toEqual([undefined, '/mnt/data', view, undefined, undefined]);
    expect(calls).toEqual(['create db', 'mount db a', 'get db', 'unmount db a', 'remove db']);
    expect(starting.list()).toEqual([view]);
    expect(starting.waitingFor).toBeNull();
  });

  it('answers a list at once, and says what it waits for', () => {
    const starting = new StartingService();
    starting.waitsFor('the Docker engine to answer');
    expect(() => starting.list()).toThrow('it waits for the Docker engine to answer');
    expect(starting.waitingFor).toBe('the Docker engine to answer');
  });

  it.each([
    ['goes away', () => AbortSignal.timeout(20)],
    ['had gone before', () => AbortSignal.abort()],
  ])('lets go of a caller that %s, and its call never reaches the real one', async (_what, signal) => {
    const starting = new StartingService();
    const { service, calls } = realService();
    starting.waitsFor('its certificates');
    await expect(starting.mount(caller(signal()), 'db', 'a')).rejects.toMatchObject({
      code: 'unavailable',
      message: 'the driver is still starting: it waits for its certificates',
    });
    starting.ready(service);
    await new Promise((resolve) => setImmediate(resolve));
    expect(calls).toEqual([]);
  });
});
