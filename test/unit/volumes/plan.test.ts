import { describe, expect, it } from 'vitest';
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../../../src/state/records.js';
import { plan, type Observed, type Step, type Wanted } from '../../../src/volumes/plan.js';

const volume: VolumeRecord = {
  schema: 1,
  name: 'db',
  id: 'v1',
  sizeBytes: 2 ** 30,
  fs: 'ext4',
  mkfsOptions: [],
  mountOptions: [],
  uid: 0,
  gid: 0,
  mode: 0o755,
  pool: 'default',
  status: 'ready',
  formatted: true,
  epoch: 1,
  createdAt: '2026-01-01T00:00:00.000Z',
};
const target = { node: 'here' } as TargetRecord;
const ours = { node: 'here' } as AttachmentRecord;
const theirs = { node: 'there' } as AttachmentRecord;

const settled: Wanted = { node: 'here', volume, target, attachment: null, mounted: false };
const idle: Observed = {
  backing: true,
  target: { present: true, serving: true, renewable: false },
  initiator: { present: false, usable: false, draining: false, lost: false },
  detachable: true,
  mount: null,
};
const usable = { present: true, usable: true, draining: false, lost: false };
const lost = { ...usable, usable: false, lost: true };
const mount = { current: true, readOnly: false };

describe('a plan', () => {
  it.each<[what: string, wanted: Partial<Wanted>, observed: Partial<Observed>, steps: Step[]]>([
    ['nothing for what is as it should be', {}, {}, []],
    [
      'all of a new volume',
      { volume: { ...volume, status: 'creating' } },
      { backing: false },
      ['createBacking', 'serveTarget', 'markReady'],
    ],
    [
      'the rest of a volume whose making was cut off',
      { volume: { ...volume, status: 'creating' } },
      {},
      ['serveTarget', 'markReady'],
    ],
    [
      'nothing for a new volume of another node',
      { volume: { ...volume, status: 'creating' }, target: { node: 'there' } as TargetRecord },
      { backing: false },
      [],
    ],
    [
      'a target that is away',
      {},
      { target: { present: false, serving: false, renewable: false } },
      ['serveTarget'],
    ],
    [
      'no data file for a ready volume that has lost its own',
      {},
      { backing: false, target: { present: false, serving: false, renewable: false } },
      ['serveTarget'],
    ],
    [
      'a target of an older image made anew when nothing is attached',
      {},
      { target: { present: true, serving: true, renewable: true } },
      ['renewTarget'],
    ],
    [
      'the same before the next attach',
      { mounted: true, attachment: ours },
      { target: { present: true, serving: false, renewable: true } },
      ['renewTarget'],
    ],
    [
      'a target of an older image left alone below a device, though its session is away for now',
      { mounted: true, attachment: ours },
      { target: { present: true, serving: true, renewable: true }, initiator: usable, mount },
      [],
    ],
    [
      'a target of an older image left alone while another node is attached',
      { attachment: theirs },
      { target: { present: true, serving: true, renewable: true } },
      [],
    ],
    ['the attachment first', { mounted: true }, {}, ['claimAttachment']],
    [
      'the claim of what another node has, which is refused there',
      { mounted: true, attachment: theirs },
      {},
      ['claimAttachment'],
    ],
    [
      'the admission before the device',
      { mounted: true, attachment: ours },
      { target: { present: true, serving: false, renewable: false } },
      ['serveTarget'],
    ],
    ['the device', { mounted: true, attachment: ours }, {}, ['attachDevice']],
    ['the mount', { mounted: true, attachment: ours }, { initiator: usable }, ['mountFileSystem']],
    [
      'mkfs before the first mount only',
      { mounted: true, attachment: ours, volume: { ...volume, formatted: false } },
      { initiator: usable },
      ['makeFileSystem', 'mountFileSystem'],
    ],
    [
      'nothing for a mount that stands',
      { mounted: true, attachment: ours },
      { initiator: usable, mount },
      [],
    ],
    [
      'a dead mount away before a new one',
      { mounted: true, attachment: ours },
      { initiator: usable, mount: { ...mount, current: false } },
      ['unmountFileSystem'],
    ],
    [
      'the end of a device that is lost before anything else, though it is mounted',
      { mounted: true, attachment: theirs },
      { initiator: lost, mount },
      ['forfeitDevice'],
    ],
    ['the same when nothing here mounts it', { attachment: theirs }, { initiator: lost }, ['forfeitDevice']],
    [
      'the same while the engine starts: nobody could use it again',
      { attachment: theirs },
      { initiator: lost, mount, detachable: false },
      ['forfeitDevice'],
    ],
    [
      'the same for a volume that is being removed',
      { volume: { ...volume, status: 'removing' }, target: { node: 'there' } as TargetRecord },
      { initiator: lost },
      ['forfeitDevice'],
    ],
    [
      'the end of its file system after the device',
      { attachment: theirs },
      { mount: { ...mount, current: false } },
      ['unmountFileSystem'],
    ],
    [
      'a mount away from a device that is being stopped',
      { mounted: true, attachment: ours },
      { initiator: { present: true, usable: false, draining: true, lost: false }, mount },
      ['unmountFileSystem'],
    ],
    [
      'the file system first on the way down',
      { attachment: ours },
      { initiator: usable, mount },
      ['unmountFileSystem'],
    ],
    ['then the device', { attachment: ours }, { initiator: usable }, ['detachDevice']],
    ['then admission and attachment', { attachment: ours }, {}, ['closeTarget', 'releaseAttachment']],
    [
      'only the file system while the engine stops',
      { attachment: ours },
      { initiator: usable, detachable: false },
      [],
    ],
    ['no release while the engine stops', { attachment: ours }, { detachable: false }, []],
    [
      'a removal from the top down: the device',
      { volume: { ...volume, status: 'removing' }, attachment: ours },
      { initiator: usable },
      ['detachDevice'],
    ],
    ['then the target', { volume: { ...volume, status: 'removing' } }, {}, ['stopTarget']],
    [
      'then the data, and the records last',
      { volume: { ...volume, status: 'removing' } },
      { target: { present: false, serving: false, renewable: false } },
      ['deleteBacking', 'deleteRecords'],
    ],
    [
      'also the deletion of data that is not seen: a directory may be left',
      { volume: { ...volume, status: 'removing' } },
      { target: { present: false, serving: false, renewable: false }, backing: false },
      ['deleteBacking', 'deleteRecords'],
    ],
    [
      'no deletion of data on a node that does not host it',
      { volume: { ...volume, status: 'removing' }, target: { node: 'there' } as TargetRecord },
      {},
      [],
    ],
  ])('holds %s', (_what, wanted, observed, steps) => {
    expect(plan({ ...settled, ...wanted }, { ...idle, ...observed })).toEqual(steps);
  });
});
