import { describe, expect, it } from 'vitest';
import { parseMountInfo } from '../../../src/dataplane/mount-info.js';
import { prunable } from '../../../src/dataplane/prune-mounts.js';

const lines = (...all: string[]) => parseMountInfo(`${all.join('\n')}\n`);

describe('mountinfo', () => {
  it('is read with no, one and many optional fields', () => {
    const entries = lines(
      '22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw,errors=remount-ro',
      '23 22 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw',
      '24 22 7:3 / /mnt/openebs/v1 rw,noatime shared:9 master:2 propagate_from:1 - ext4 /dev/loop3 ro,stripe=4',
    );
    expect(entries.map((entry) => entry.propagation)).toEqual([
      [],
      ['shared:7'],
      ['shared:9', 'master:2', 'propagate_from:1'],
    ]);
    expect(entries[2]).toMatchObject({
      id: '24',
      parent: '22',
      mountpoint: '/mnt/openebs/v1',
      type: 'ext4',
      source: '/dev/loop3',
      superOptions: ['ro', 'stripe=4'],
    });
  });

  it('tells a read-only mount of a writable file system from a file system gone read-only', () => {
    const [entry] = lines('24 22 7:3 / /mnt ro,noatime - ext4 /dev/loop3 rw');
    expect(entry?.superOptions).not.toContain('ro');
  });

  it('undoes what the kernel escapes', () => {
    const [entry] = lines('24 22 7:3 / /a\\040b\\011c\\012d\\134e rw - ext4 /dev/my\\040disk rw');
    expect(entry).toMatchObject({ mountpoint: '/a b\tc\nd\\e', source: '/dev/my disk' });
  });

  it('takes a dash inside the fields before the separator for what it is', () => {
    const [entry] = lines('24 22 0:3 /- /- rw - tmpfs - rw');
    expect(entry).toMatchObject({ mountpoint: '/-', type: 'tmpfs', source: '-' });
  });

  it('of nothing is nothing', () => {
    expect(parseMountInfo('')).toEqual([]);
  });
});

describe('mounts to drop', () => {
  const root = '1 0 254:1 / / rw master:1 - ext4 /dev/vda1 rw';
  const below = (...all: string[]) =>
    prunable(lines(root, ...all), '/host/var/lib', '/host/var/lib/openebs').map((entry) => entry.mountpoint);

  it('are those of others, deepest first', () => {
    expect(
      below(
        '2 1 0:1 / /host/var/lib/docker rw master:2 - ext4 /dev/vdb rw',
        '3 2 0:2 / /host/var/lib/docker/overlay2/a/merged rw master:3 - overlay overlay rw',
        '4 1 0:3 / /host/var/lib/openebs/pools/fast rw master:4 - ext4 /dev/vdc rw',
        '5 1 0:4 / /host/var/library rw - tmpfs tmpfs rw',
        '6 1 0:5 / /host/var/lib/openebs rw - ext4 /dev/vdd rw',
        '7 1 0:6 / /host/var/lib/openebs-other rw - ext4 /dev/vde rw',
      ),
    ).toEqual([
      '/host/var/lib/docker/overlay2/a/merged',
      '/host/var/lib/openebs-other',
      '/host/var/lib/docker',
    ]);
  });

  it('are none whose parent is shared with the host', () => {
    expect(
      prunable(
        lines(
          '1 0 254:1 / / rw shared:1 - ext4 /dev/vda1 rw',
          '2 1 0:1 / /host/var/lib/docker rw - ext4 /dev/vdb rw',
        ),
        '/host/var/lib',
        '/host/var/lib/openebs',
      ),
    ).toEqual([]);
  });

  it('are none that would take along a mount whose parent is shared with the host', () => {
    expect(
      below(
        '2 1 0:1 / /host/var/lib/docker rw master:2 - ext4 /dev/vdb rw',
        '3 2 0:2 / /host/var/lib/docker/plugins rw shared:3 - ext4 /dev/vdb rw',
        '4 3 0:3 / /host/var/lib/docker/plugins/x/propagated-mount rw shared:4 - ext4 /dev/loop0 rw',
        '5 1 0:4 / /host/var/lib/lone rw shared:5 - tmpfs tmpfs rw',
      ),
    ).toEqual(['/host/var/lib/lone']);
  });
});
