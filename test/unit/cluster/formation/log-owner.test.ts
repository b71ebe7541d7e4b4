import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { refuseStranger } from '../../../../src/cluster/formation/copies.js';
import { readLogOwner } from '../../../../src/cluster/formation/log-owner.js';
import { createHostPaths } from '../../../../src/dataplane/host-paths.js';

/** The head of a log as etcd 3.4 wrote it: a checksum, the numbers, a snapshot, and the beginning of an entry. */
const written = Buffer.from(
  '04000000000000840804100000000000' +
    '1e00000000000082080110dab9a0d4031a14088c8aceaf87fcc9891e10ac8eb6edd0aaeec30a0000' +
    '0e00000000000082080510bf83f09a031a04080010000000' +
    '6e00000000000082080210cfa091d1021a640801100118',
  'hex',
);
const owner = { member: '2167119690700391692', clusterId: '758778837188052780' };

let root: string;
let data: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'log-owner-'));
  data = join(root, 'var/lib/openebs/etcd');
  mkdirSync(join(data, 'member/wal'), { recursive: true });
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

const log = (name: string, content: Buffer) => {
  writeFileSync(join(data, 'member/wal', name), content);
};

describe('the owner of a log', () => {
  it('is told by its oldest file', async () => {
    log('0.tmp', Buffer.alloc(64));
    log('0000000000000001-0000000000000009.wal', Buffer.alloc(64, 1));
    log('0000000000000000-0000000000000000.wal', written);
    expect(await readLogOwner(data)).toEqual(owner);
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['zeros', Buffer.alloc(200)],
    ['noise', Buffer.from('no log of etcd, and long enough to look like one'.repeat(9))],
    ['the first record', written.subarray(0, 16)],
    ['a part of the second', written.subarray(0, 40)],
  ])('is not known where there is %s', async (_, content) => {
    log('0000000000000000-0000000000000000.wal', content);
    expect(await readLogOwner(data)).toBeNull();
  });

  it('is not known where there is no log', async () => {
    expect(await readLogOwner(data)).toBeNull();
    expect(await readLogOwner(join(root, 'nowhere'))).toBeNull();
  });
});

describe('data in the place of a member', () => {
  const paths = () => createHostPaths(root, '/mnt');

  it('is refused when it is of another member, or of another cluster', async () => {
    log('0000000000000000-0000000000000000.wal', written);
    await expect(refuseStranger(paths(), { ...owner, member: '7' })).rejects.toThrow(
      'the etcd data on this host is of member 2167119690700391692 of etcd cluster 758778837188052780, but by ' +
        '/var/lib/openebs/etcd-incarnation.json this host is member 7 of 758778837188052780',
    );
    await expect(refuseStranger(paths(), { ...owner, clusterId: '7' })).rejects.toMatchObject({
      code: 'conflict',
    });
  });

  it('is taken when it is its own, and when nobody can tell', async () => {
    log('0000000000000000-0000000000000000.wal', written);
    await refuseStranger(paths(), owner);
    await refuseStranger(paths(), { member: owner.member });
    await refuseStranger(paths(), {});
    log('0000000000000000-0000000000000000.wal', Buffer.alloc(64));
    await refuseStranger(paths(), { ...owner, member: '7' });
  });
});
