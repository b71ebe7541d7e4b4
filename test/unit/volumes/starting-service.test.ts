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

describe('a pause', () => {
  it('waits for what is being made or mounted, refuses what comes then, and lets the rest through', async () => {
    const starting = new StartingService();
    const { service, calls } = realService();
    const held = Promise.withResolvers<string>();
    starting.ready({ ...service, mount: () => held.promise });
    const mounting = starting.mount(caller(), 'db', 'a');
    await new Promise((resolve) => setImmediate(resolve));
    let isPaused = false;
    const pausing = starting.pause(caller(), 'this host leaves').then((resume) => {
      isPaused = true;
      return resume;
    });
    await expect(starting.create(caller(), 'web', {})).rejects.toThrow(
      'volume web cannot be had: this host leaves; try again in a moment',
    );
    await expect(starting.pause(caller(), 'another')).rejects.toMatchObject({ code: 'conflict' });
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(isPaused).toBe(false);
    held.resolve('/mnt/data');
    expect(await mounting).toBe('/mnt/data');
    const resume = await pausing;
    await expect(starting.mount(caller(), 'db', 'b')).rejects.toMatchObject({ code: 'unavailable' });
    await starting.unmount(caller(), 'db', 'a');
    await starting.get(caller(), 'db');
    await starting.remove(caller(), 'db');
    resume();
    await starting.create(caller(), 'web', {});
    expect(calls).toEqual(['unmount db a', 'get db', 'remove db', 'create web']);
  });

  it('is given up with the names of what takes too long, and nothing is refused any more', async () => {
    const starting = new StartingService();
    const { service } = realService();
    starting.ready({ ...service, create: () => new Promise(() => undefined) });
    void starting.create(caller(), 'big', {});
    await new Promise((resolve) => setImmediate(resolve));
    await expect(starting.pause(caller(AbortSignal.timeout(50)), 'this host leaves')).rejects.toThrow(
      'volumes are being made or mounted here: big; try again',
    );
    expect(await starting.mount(caller(), 'db', 'a')).toBe('/mnt/data');
  });
});
