import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { createVolumeHost, ctx, type VolumeHost } from '../../fakes/volume-host.js';
import {
  type Call,
  describeCalls,
  linearize,
  type Operation,
  nobody,
  type PlannedCall,
  runClients,
} from '../../support/linearize.js';

let host: VolumeHost;

beforeEach(() => {
  host = createVolumeHost();
});

afterEach(async () => {
  await host.close();
});

const call = (operation: Operation, outcome: string, begin: number, end: number): Call => ({
  operation,
  mountId: 'm',
  begin,
  end,
  outcome,
});

describe('the judge of calls', () => {
  it('accepts what overlapping calls can have seen, in whatever order', () => {
    expect(linearize([call('mount', 'ok', 0, 3), call('create', 'ok', 1, 2)])).not.toBeNull();
    expect(linearize([call('mount', 'not_found', 0, 3), call('create', 'ok', 1, 2)])).not.toBeNull();
  });

  it.each<[string, Call[]]>([
    ['a mount of what nobody has made', [call('mount', 'ok', 0, 1)]],
    [
      'a volume that is there after its removal',
      [call('create', 'ok', 0, 1), call('remove', 'ok', 2, 3), call('get', '0', 4, 5)],
    ],
    [
      'a removal under a mount',
      [call('create', 'ok', 0, 1), call('mount', 'ok', 2, 3), call('remove', 'ok', 4, 5)],
    ],
    [
      'a mount that is not counted',
      [call('create', 'ok', 0, 1), call('mount', 'ok', 2, 3), call('get', '0', 4, 5)],
    ],
  ])('refuses %s', (_what, calls) => {
    expect(linearize(calls)).toBeNull();
  });
});

const planned = (volumes: number): fc.Arbitrary<PlannedCall> =>
  fc.record({
    volume: fc.nat(volumes - 1).map((index) => `db${String(index)}`),
    operation: fc.constantFrom<Operation>(
      'create',
      'create',
      'mount',
      'mount',
      'unmount',
      'unmount',
      'remove',
      'get',
    ),
    mountId: fc.constantFrom('m1', 'm2'),
  });

/** Runs them on a fresh host whose effects take a random time, and judges. */
async function judge(clients: readonly PlannedCall[][], waits: fc.Stream<number>): Promise<void> {
  await host.close();
  host = createVolumeHost();
  const process = await host.start();
  const { service } = process;
  host.pause = async () => {
    const ticks = Number(waits.next().value);
    for (let tick = 0; tick < ticks; tick++) await new Promise((resolve) => setImmediate(resolve));
  };
  /** By mountpoint: mounts that were answered and whose unmount has not begun. */
  const held = new Map<string, number>();
  const mountpoints = new Map<string, string>();
  const lost: string[] = [];
  const { fileSystems } = host.plane;
  const unmount = fileSystems.unmount.bind(fileSystems);
  fileSystems.unmount = (caller, mountpoint) => {
    if ((held.get(mountpoint) ?? 0) > 0) lost.push(mountpoint);
    return unmount(caller, mountpoint);
  };
  const hold = (volume: string, change: number) => {
    const mountpoint = mountpoints.get(volume) ?? '';
    held.set(mountpoint, (held.get(mountpoint) ?? 0) + change);
  };
  const ask = async ({ volume, operation, mountId }: PlannedCall): Promise<string> => {
    try {
      switch (operation) {
        case 'create':
          await service.create(ctx, volume, { size: '1G' });
          return 'ok';
        case 'mount':
          mountpoints.set(volume, (await service.mount(ctx, volume, mountId)).replace(/\/data$/, ''));
          hold(volume, 1);
          return 'ok';
        case 'unmount':
          if (mountId !== nobody) hold(volume, -1);
          await service.unmount(ctx, volume, mountId);
          return 'ok';
        case 'remove':
          await service.remove(ctx, volume);
          return 'ok';
        case 'get':
          return String((await service.get(ctx, volume)).status.mountsHere);
      }
    } catch (reason) {
      const { code } = AppError.from(reason);
      return operation === 'get' && code === 'not_found' ? 'absent' : code;
    }
  };
  const history = await process.call(() => runClients(clients, ask));
  for (const [volume, calls] of history) {
    expect(linearize(calls), `no order explains ${volume}:\n${describeCalls(calls)}`).not.toBeNull();
  }
  expect(lost, 'unmounted under a holder').toEqual([]);
}

describe('calls at once', () => {
  it.each([
    ['two on one volume', 2, 1, 6],
    ['two on many volumes', 2, 4, 10],
    ['ten on one volume', 10, 1, 2],
    ['ten on many volumes', 10, 4, 5],
  ])(
    '%s have outcomes that some order explains, and no mount ends under its holder',
    async (_what, count, volumes, most) => {
      const clients = fc.array(fc.array(planned(volumes), { minLength: 1, maxLength: most }), {
        minLength: count,
        maxLength: count,
      });
      await fc.assert(fc.asyncProperty(clients, fc.infiniteStream(fc.nat(3)), judge), { numRuns: 60 });
    },
  );
});
