import { describe, expect, it } from 'vitest';
import { records, type VolumeRecord } from '../../../src/state/records.js';

const volume: VolumeRecord = {
  schema: 1,
  name: 'db',
  id: 'v1',
  sizeBytes: 10 * 2 ** 30,
  fs: 'ext4',
  mkfsOptions: [],
  mountOptions: ['noatime'],
  uid: 0,
  gid: 0,
  mode: 0o755,
  pool: 'default',
  status: 'ready',
  formatted: true,
  epoch: 3,
  createdAt: '2020-01-01T00:00:00Z',
};
const key = '/openebs/volumes/db';
const reread = (record: VolumeRecord) => records.volume.decode(key, records.volume.encode(record));

describe('records', () => {
  it('read back as they were written', () => {
    expect(reread(volume)).toMatchObject(volume);
  });

  it('are never encoded alike twice, also after they were read', () => {
    const first = records.volume.encode(volume);
    expect(records.volume.encode(volume)).not.toBe(first);
    expect(records.volume.encode(records.volume.decode(key, first))).not.toBe(first);
  });

  it('keep fields of a newer version of the same schema through a rewrite', () => {
    const newer = JSON.stringify({ ...volume, encryption: { cipher: 'aes' }, tags: ['a'] });
    const rewritten = records.volume.encode({ ...records.volume.decode(key, newer), status: 'removing' });
    expect(JSON.parse(rewritten)).toMatchObject({
      status: 'removing',
      encryption: { cipher: 'aes' },
      tags: ['a'],
    });
  });

  it('of a newer schema are refused with the way out, whatever else is in them', () => {
    const decode = () => records.volume.decode(key, JSON.stringify({ schema: 2, shape: 'unknown' }));
    expect(decode).toThrow(expect.objectContaining({ code: 'conflict' }) as Error);
    expect(decode).toThrow(
      /volume record at \/openebs\/volumes\/db was written by a newer version.*schema 2.*upgrade the plugin/,
    );
  });

  it.each([
    ['empty', ''],
    ['cut off', JSON.stringify(volume).slice(0, 50)],
    ['not an object', '[]'],
    ['null', 'null'],
    ['without a schema', JSON.stringify({ ...volume, schema: undefined })],
    ['of schema zero', JSON.stringify({ ...volume, schema: 0 })],
    ['without its id', JSON.stringify({ ...volume, id: undefined })],
    ['of size zero', JSON.stringify({ ...volume, sizeBytes: 0 })],
    ['with an unknown file system', JSON.stringify({ ...volume, fs: 'fat' })],
    ['of another kind', JSON.stringify({ schema: 1, node: 'n', since: 'x' })],
  ])('that are %s are refused as damaged, by key', (_what, value) => {
    const decode = () => records.volume.decode(key, value);
    expect(decode).toThrow(expect.objectContaining({ code: 'internal' }) as Error);
    expect(decode).toThrow(/volume record at \/openebs\/volumes\/db is damaged/);
  });

  it('exist for each kind of key and know each other apart', () => {
    const value = JSON.stringify({ schema: 1, node: 'n', since: 'x' });
    expect(records.alive.decode('/openebs/alive/n', value)).toMatchObject({ node: 'n' });
    for (const kind of ['volume', 'target', 'attachment', 'node', 'cluster', 'event'] as const) {
      expect(() => records[kind].decode('/k', value)).toThrow(/damaged/);
    }
  });
});
