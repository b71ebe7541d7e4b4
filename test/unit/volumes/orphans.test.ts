import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
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

const all = { initiators: 1, mounts: 1, counted: true };

it('nothing is taken from a volume that has its records', async () => {
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(all);
});

it('nothing is taken while etcd cannot be asked: the replica may be an old one', async () => {
  await host.removeRecords();
  host.stateAway = true;
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(all);
  host.stateAway = false;
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(nothing);
});

it('one that does not answer is left alone as long as the engine has its container', async () => {
  const [id = ''] = host.plane.world.initiators.keys();
  host.plane.world.silent.add(id);
  await host.removeRecords();
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(all);
  host.plane.world.removedByHand.add(id);
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual(nothing);
});

it('an eviction of an earlier attachment is forgotten, and takes nothing from the one that followed', async () => {
  await host.removeRecords('evicted');
  await process.upkeep.reconcile(ctx);
  await process.upkeep.reconcile(ctx);
  await process.service.create(ctx, 'db', {});
  await process.service.mount(ctx, 'db', 'm1');
  await process.service.unmount(ctx, 'db', 'm1');
  await process.service.mount(ctx, 'db', 'm1');
  const [attached] = host.plane.world.initiators.values();
  host.plane.world.heldDevices.add(attached?.device ?? '');
  await host.removeRecords('evicted before');
  await process.upkeep.reconcile(ctx);
  expect(left()).toEqual({ initiators: 1, mounts: 0, counted: true });
  expect(await host.storedKeys()).toEqual([]);
});

it('of an empty mountpoint, only that of a volume without a record goes', async () => {
  const [id = ''] = host.plane.world.initiators.keys();
  const mountpoints = path.join(host.directory, 'mnt');
  const used = path.join(mountpoints, 'vfffffffff', 'file');
  for (const name of [id, 'vaaaaaaaaa', 'vfffffffff', 'of-somebody'])
    await mkdir(path.join(mountpoints, name), { recursive: true });
  await writeFile(used, '');
  await process.upkeep.reconcile(ctx);
  expect((await readdir(mountpoints)).sort()).toEqual(['of-somebody', 'vfffffffff', id].sort());
});
