import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FailPoint } from '../../../src/lib/fail-points.js';
import { createVolumeHost, ctx, type VolumeHost, type VolumeProcess } from '../../fakes/volume-host.js';

let host: VolumeHost;

beforeEach(() => {
  host = createVolumeHost();
});

afterEach(async () => {
  await host.close();
});

/** A life of the volume: what is done in order. */
const operations = ['create', 'mount', 'second mount', 'unmount', 'last unmount', 'remove'] as const;
type Operation = (typeof operations)[number];

const run: Record<Operation, (process: VolumeProcess) => Promise<unknown>> = {
  create: ({ service }) => service.create(ctx, 'db', { size: '1G' }),
  mount: ({ service }) => service.mount(ctx, 'db', 'm1'),
  'second mount': ({ service }) => service.mount(ctx, 'db', 'm2'),
  unmount: ({ service }) => service.unmount(ctx, 'db', 'm1'),
  'last unmount': ({ service }) => service.unmount(ctx, 'db', 'm2'),
  remove: ({ service }) => service.remove(ctx, 'db'),
};

/** Points without which an operation would not be the one that is meant. */
const expected: Record<Operation, readonly FailPoint[]> = {
  create: ['before createBacking', 'before serveTarget', 'before markReady'],
  mount: ['before claimAttachment', 'before attachDevice', 'before makeFileSystem', 'before mountFileSystem'],
  'second mount': ['before count add'],
  unmount: ['before count drop'],
  'last unmount': [
    'before unmountFileSystem',
    'before detachDevice',
    'before closeTarget',
    'before releaseAttachment',
  ],
  remove: ['before stopTarget', 'before deleteBacking', 'before deleteRecords'],
};

async function pointsOf(operation: Operation): Promise<FailPoint[]> {
  const other = createVolumeHost();
  try {
    const process = await other.start();
    const points: FailPoint[] = [];
    for (const step of operations) {
      other.atPoint = (point) => {
        if (step === operation) points.push(point);
        return false;
      };
      await process.call(() => run[step](process));
      if (step === operation) break;
    }
    return points;
  } finally {
    await other.close();
  }
}

/** Lets the process die at its n-th point from now, and answers when it did, or when the call ended before. */
async function dies(process: VolumeProcess, operation: Operation, at: number): Promise<'died' | 'ended'> {
  let left = at;
  host.atPoint = () => left-- === 0;
  const ended = process.call(() => run[operation](process)).then(() => 'ended' as const);
  const result = await Promise.race([ended, process.died.then(() => 'died' as const)]);
  host.atPoint = null;
  return result;
}

function expectNothing(keys: readonly string[]): void {
  const { backing, targets, initiators, mounts } = host.plane.world;
  expect([backing.size, targets.size, initiators.size, mounts.size]).toEqual([0, 0, 0, 0]);
  expect(keys).toEqual([]);
}

/** The engine does not repeat an unmount whose answer it did not get. */
const isSentOnce = (operation: Operation) => operation === 'unmount' || operation === 'last unmount';

const idOf = async (process: VolumeProcess) => (await process.service.get(ctx, 'db')).status.id;

/**
 * Goes through a life in which the process dies at the given points. Each operation is tried again until it succeeds,
 * but for unmounts.
 */
async function live(deaths: ReadonlyMap<Operation, readonly number[]>): Promise<void> {
  let process = await host.start();
  let id: unknown;
  const held = new Set<string>();
  host.users = () => [...held];
  const doIt = async (operation: Operation): Promise<void> => {
    let done = false;
    for (const at of deaths.get(operation) ?? []) {
      done = (await dies(process, operation, at)) === 'ended';
      if (done) break;
      process = await host.start();
      const { upkeep } = process;
      await process.call(() => upkeep.reconcile(ctx));
      done = isSentOnce(operation);
      if (done) break;
    }
    if (!done) await process.call(() => run[operation](process));
    if (operation === 'create') id = await idOf(process);
    if (operation !== 'remove') {
      expect(await idOf(process), `after ${operation}`).toBe(id);
      expect(host.plane.world.backing.size).toBe(1);
      if (operation !== 'create') expect(host.plane.world.formatted.get(String(id))).toBe('ext4');
    }
    if (held.size > 0) expect(host.plane.world.mounts.size, `mounted after ${operation}`).toBe(1);
  };
  await doIt('create');
  await doIt('mount');
  held.add('m1');
  await doIt('second mount');
  held.add('m2');
  held.delete('m1');
  await doIt('unmount');
  expect(host.plane.world.mounts.size).toBe(1);
  held.delete('m2');
  await doIt('last unmount');
  // Of a mount that was counted, died and was repeated, or of an unmount that died, a count is left to the timer.
  const { upkeep } = process;
  await process.call(() => upkeep.reconcile(ctx));
  const { mounts, initiators, targets } = host.plane.world;
  expect([mounts.size, initiators.size, targets.get(String(id))?.admit]).toEqual([0, 0, null]);
  expect((await process.service.get(ctx, 'db')).status.attachedTo).toBe('');
  await doIt('remove');
  const last = process;
  await last.call(() => last.upkeep.reconcile(ctx));
  expectNothing(await host.storedKeys());
}

describe('a process that dies', () => {
  it.each(operations)(
    'at any point of %s is taken up by the next: the same again succeeds, nothing is left',
    async (operation) => {
      const points = await pointsOf(operation);
      expect(points).toEqual(expect.arrayContaining([...expected[operation]]));
      for (const [at, point] of points.entries()) {
        await live(new Map([[operation, [at]]])).catch((reason: unknown) => {
          throw new Error(`killed ${point} (the ${String(at)}th of ${operation})`, { cause: reason });
        });
        // A dead one whose file the kernel was just making has made it after the next one cleaned up: the one after that
        // finds it. And the living process may just be replacing its cache.
        await host.start();
        await vi.waitFor(() => {
          expect(host.leftFiles(), `killed ${point} of ${operation}`).toEqual([]);
        });
        await host.close();
        host = createVolumeHost();
      }
    },
  );

  it.each([
    ['create', 'after record cache', 'ready'],
    ['remove', 'before stopTarget', null],
  ] as const)(
    'in a %s (%s) leaves the rest to the next start, without another call',
    async (operation, point, state) => {
      const first = await host.start();
      if (operation === 'remove') await first.call(() => run.create(first));
      host.atPoint = (reached) => reached === point;
      void first.call(() => run[operation](first));
      await first.died;
      host.atPoint = null;
      const next = await host.start();
      await next.call(() => next.upkeep.reconcile(ctx, 'urgent'));
      const found = next.service.list().map(({ status }) => status.state);
      expect(found).toEqual(state === null ? [] : [state]);
      if (state === null) expectNothing(await host.storedKeys());
    },
  );

  it('again and again, wherever it is, does not keep the next from finishing', async () => {
    const deaths = fc.array(
      fc.tuple(fc.constantFrom(...operations), fc.array(fc.nat(40), { maxLength: 3 })),
      {
        maxLength: 5,
      },
    );
    await fc.assert(
      fc.asyncProperty(deaths, async (where) => {
        await live(new Map(where));
        await host.close();
        host = createVolumeHost();
      }),
      { numRuns: 40 },
    );
  });
});
