/** A file system that the kernel made read-only after an I/O error, while containers have it mounted. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createVolumeHost, ctx, type VolumeHost, type VolumeProcess } from '../../fakes/volume-host.js';

let host: VolumeHost;
let plugin: VolumeProcess;
let id: string;

const mount = (mountId: string) => plugin.call(() => plugin.service.mount(ctx, 'db', mountId));
const unmount = (mountId: string) => plugin.call(() => plugin.service.unmount(ctx, 'db', mountId));
const reconcile = () => plugin.call(() => plugin.upkeep.reconcile(ctx));
const status = async () => (await plugin.call(() => plugin.service.get(ctx, 'db'))).status;

/** Its initiator's; it has another one, or none, once that was killed. */
const device = () => host.plane.world.initiators.get(id)?.device ?? '';

beforeEach(async () => {
  host = createVolumeHost();
  host.users = () => ['app'];
  plugin = await host.start();
  await plugin.call(() => plugin.service.create(ctx, 'db', {}));
  await mount('a');
  id = [...host.plane.world.initiators.keys()][0] ?? '';
  host.plane.world.readOnlyDevices.add(device());
  host.plane.effects.length = 0;
});

afterEach(async () => {
  await host.close();
});

it.each([
  ['whose initiator has another device by now', 'up'],
  ['whose initiator is gone', 'gone'],
] as const)('on a dead device, %s: the volume is mounted beside it', async (_what, initiator) => {
  const { world, effects } = host.plane;
  const attached = world.initiators.get(id);
  if (attached && initiator === 'up') world.initiators.set(id, { ...attached, device: '/dev/loop7' });
  else world.initiators.delete(id);
  await mount('b');
  const anew = [expect.stringContaining('unmount'), expect.stringContaining('mount')] as string[];
  const attach = initiator === 'gone' ? [`attach ${id}`] : [];
  expect(effects).toEqual([...attach, ...anew]);
  expect([...world.mounts.values()]).toEqual([device()]);
});

it('on a dead device: the timer does so too', async () => {
  host.plane.world.initiators.delete(id);
  await reconcile();
  expect([...host.plane.world.mounts.values()]).toEqual([device()]);
});

it('on the device that the initiator has: refused while others have it, with what to do; the next mount is anew', async () => {
  const broken =
    /^the file system of volume db went read-only, or shut down, after an I\/O error .*stop all containers/;
  await expect(mount('b')).rejects.toThrow(broken);
  expect(host.plane.effects).toEqual([]);
  await reconcile();
  expect(host.plane.effects).toEqual([]);
  expect((await status()).error).toMatch(broken);
  await unmount('a');
  host.plane.world.readOnlyDevices.clear();
  await mount('b');
  expect(await status()).toMatchObject({ error: '', mountsHere: 1 });
});

it('on a device that was asked to stop: its file system is given up, so that it can end', async () => {
  host.plane.world.draining.add(id);
  await plugin.call(() => plugin.upkeep.yieldDevices(ctx));
  expect(host.plane.effects).toEqual([expect.stringContaining('unmount')]);
});
