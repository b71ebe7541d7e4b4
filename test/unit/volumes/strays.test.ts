import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import { findStrays } from '../../../src/volumes/strays.js';
import { newVolumeId, VOLUME_ID } from '../../../src/volumes/volume.js';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'strays-'));
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

const look = (containers: string[]) =>
  findStrays({
    paths: createHostPaths(root, '/mnt'),
    roles: { list: () => Promise.resolve(containers) },
    known: (id) => id === 'vknown0000',
  });

it('tells data and containers that no record speaks of, with what to do', async () => {
  for (const name of ['default/vknown0000', 'default/vstray0000', 'default/lost+found', 'fast/vstray1111']) {
    mkdirSync(join(root, 'var/lib/openebs/pools', name), { recursive: true });
  }
  const found = await look(['openebs-etcd', 'openebs-target-vknown0000', 'openebs-initiator-vstray0000']);
  expect(found.map(({ what }) => what)).toEqual([
    '/var/lib/openebs/pools/default/vstray0000',
    '/var/lib/openebs/pools/fast/vstray1111',
    'openebs-initiator-vstray0000',
  ]);
  const hints = new Map(found.map(({ what, hint }) => [what, hint]));
  // Its device may be in use: who followed a "docker rm -f" would take it from live containers.
  expect(hints.get('openebs-initiator-vstray0000')).toMatch(/containers use the device.*restore the record/);
  expect(hints.get('openebs-initiator-vstray0000')).not.toContain('docker rm');
});

it('finds nothing on a host that has no pool yet', async () => {
  expect(await look([])).toEqual([]);
});

it('knows every id that is given to a volume', () => {
  for (let count = 0; count < 100; count += 1) expect(newVolumeId()).toMatch(VOLUME_ID);
});
