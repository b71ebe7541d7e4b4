import { afterEach, beforeEach, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { createVolumeHost, ctx, type VolumeHost, type VolumeProcess } from '../../fakes/volume-host.js';

let host: VolumeHost;
let process: VolumeProcess;
let device: string;

/** A volume that is mounted here, whose records another host then removes. */
beforeEach(async () => {
  host = createVolumeHost();
  process = await host.start();
  await process.service.create(ctx, 'db', {});
  await process.service.mount(ctx, 'db', 'm1');
  const attached = [...host.plane.world.initiators.values()][0];
  if (!attached) throw new Error('nothing is attached');
  device = attached.device;
  host.users = () => ['user'];
});

afterEach(async () => {
  await host.close();
});

const left = () => ({
  initiators: host.plane.world.initiators.size,
  mounts: host.plane.world.mounts.size,
  counted: process.upkeep.hasMounts(),
});
const nothing = { initiators: 0, mounts: 0, counted: false };

it('initiator, mount and count of a volume that was removed elsewhere go with the next pass', async () => {
  await host.removeRecords();
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(nothing);
});

it('what containers still use is left to them until the last of them has ended', async () => {
  await host.removeRecords();
  host.plane.world.heldDevices.add(device);
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual({ initiators: 1, mounts: 0, counted: true });
  host.plane.world.heldDevices.clear();
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(nothing);
});

it('what was taken from this host before goes at once, whoever uses it: it hangs', async () => {
  host.plane.world.heldDevices.add(device);
  await host.removeRecords('evicted');
  expect(await host.storedKeys()).toEqual([expect.stringMatching(/^\/openebs\/evictions\/node-a\/v/)]);
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(nothing);
  expect(host.plane.effects.findLast((effect) => !effect.startsWith('unmount'))).toMatch(/^forfeit v/);
  await process.upkeep.reconcile(ctx);
  expect(await host.storedKeys()).toEqual([]);
});

it('an initiator that never got a device goes at once', async () => {
  await host.removeRecords();
  host.plane.world.mounts.clear();
  host.plane.world.starting.add([...host.plane.world.initiators.keys()][0] ?? '');
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(nothing);
});

it('nothing is taken from a volume that has its records, or while etcd cannot be asked', async () => {
  const all = { initiators: 1, mounts: 1, counted: true };
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(all);
  await host.removeRecords();
  host.pause = () => Promise.reject(new AppError('unavailable', 'etcd is away'));
  await process.upkeep.reconcile(ctx).catch(() => undefined);
  host.pause = null;
  expect(left()).toEqual(all);
});
