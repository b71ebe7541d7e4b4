import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLog } from '../../../src/log.js';
import { loadMountCounts } from '../../../src/volumes/mount-counts.js';

const log = createLog('silent');
let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'counts-'));
  file = join(directory, 'run', 'mounts.json');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('mount counts', () => {
  it('count each id as often as it was mounted', async () => {
    const counts = await loadMountCounts(file, 'boot-1', log);
    await counts.add('v', 'a');
    await counts.add('v', 'a');
    await counts.add('v', 'b');
    expect(counts.total('v')).toBe(3);
    expect(await counts.drop('v', 'a')).toBe(true);
    expect(await counts.drop('v', 'unknown')).toBe(false);
    expect(counts.total('v')).toBe(2);
    await counts.drop('v', 'a');
    await counts.drop('v', 'b');
    expect(counts.total('v')).toBe(0);
    expect(counts.volumes()).toEqual([]);
  });

  it('outlive the process, not the boot', async () => {
    const before = await loadMountCounts(file, 'boot-1', log);
    await Promise.all(['a', 'b', 'c'].map((id) => before.add('v', id)));
    expect((await loadMountCounts(file, 'boot-1', log)).total('v')).toBe(3);
    expect((await loadMountCounts(file, 'boot-2', log)).total('v')).toBe(0);
  });

  it('do not count a mount that cannot be noted, and drop one all the same', async () => {
    const counts = await loadMountCounts(file, 'boot-1', log);
    await counts.add('v', 'a');
    rmSync(join(directory, 'run'), { recursive: true });
    writeFileSync(join(directory, 'run'), 'a file in the way');
    await expect(counts.add('v', 'b')).rejects.toMatchObject({ code: 'unavailable' });
    await expect(counts.add('v', 'a')).rejects.toThrow('cannot note the mount');
    expect(counts.total('v')).toBe(1);
    expect(await counts.drop('v', 'a')).toBe(true);
    expect(counts.total('v')).toBe(0);
  });

  it('make their directory again when somebody took it away', async () => {
    const counts = await loadMountCounts(file, 'boot-1', log);
    rmSync(join(directory, 'run'), { recursive: true });
    await counts.add('v', 'a');
    expect((await loadMountCounts(file, 'boot-1', log)).total('v')).toBe(1);
  });

  it('tell mounts of this process from those of an earlier one', async () => {
    await (await loadMountCounts(file, 'boot-1', log)).add('v', 'a');
    const counts = await loadMountCounts(file, 'boot-1', log);
    expect(counts.hasOwn('v')).toBe(false);
    await counts.add('v', 'a');
    expect([counts.hasOwn('v'), counts.total('v')]).toEqual([true, 2]);
    await counts.drop('v', 'a');
    expect([counts.hasOwn('v'), counts.total('v')]).toEqual([false, 1]);
  });

  it('forget of ids that were mounted again what earlier processes counted', async () => {
    const earlier = await loadMountCounts(file, 'boot-1', log);
    for (const id of ['a', 'b']) await earlier.add('v', id);
    const counts = await loadMountCounts(file, 'boot-1', log);
    await counts.add('v', 'a');
    await counts.clearEarlier('v', 2);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ volumes: { v: { a: 1, b: 1 } } });
    await counts.drop('v', 'a');
    expect([counts.total('v'), counts.hasOwn('v')]).toEqual([1, false]);
  });

  it('forget all that earlier processes counted when mounts of this one are as many as containers hold', async () => {
    const earlier = await loadMountCounts(file, 'boot-1', log);
    for (const id of ['a', 'b']) await earlier.add('v', id);
    const counts = await loadMountCounts(file, 'boot-1', log);
    await counts.clearEarlier('v', 0);
    expect(counts.total('v')).toBe(2);
    await counts.add('v', 'c');
    await counts.clearEarlier('v', 2);
    expect(counts.total('v')).toBe(3);
    await counts.clearEarlier('v', 1);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ volumes: { v: { c: 1 } } });
    expect(await counts.drop('v', 'a')).toBe(false);
    await counts.drop('v', 'c');
    expect([counts.total('v'), counts.volumes()]).toEqual([0, []]);
  });

  it('take over holders that nobody counted, and let each go with an unmount of an unknown id', async () => {
    const counts = await loadMountCounts(file, 'boot-1', log);
    await counts.add('v', 'a');
    counts.adopt('v', 3);
    expect([counts.total('v'), counts.volumes()]).toEqual([3, ['v']]);
    expect(await counts.drop('v', 'unknown')).toBe(true);
    await counts.drop('v', 'a');
    expect(counts.total('v')).toBe(1);
    expect(await counts.drop('v', 'unknown')).toBe(true);
    expect(await counts.drop('v', 'unknown')).toBe(false);
    expect(counts.total('v')).toBe(0);
    counts.adopt('v', 2);
    counts.adopt('v', 1);
    expect(counts.total('v')).toBe(1);
    await counts.clear('v');
    expect([counts.total('v'), counts.volumes()]).toEqual([0, []]);
    expect((await loadMountCounts(file, 'boot-1', log)).total('v')).toBe(0);
  });

  it.each(['', '{', '{"bootId":"boot-1","volumes":{"v":{"a":-1}}}', 'null'])(
    'start empty on the damaged file %j',
    async (content) => {
      await (await loadMountCounts(file, 'boot-1', log)).add('v', 'a');
      writeFileSync(file, content);
      const counts = await loadMountCounts(file, 'boot-1', log);
      expect(counts.total('v')).toBe(0);
      await counts.add('v', 'b');
      expect(readFileSync(file, 'utf8')).toContain('"b":1');
    },
  );
});
