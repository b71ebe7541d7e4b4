import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { keepNodeIdentity, loadNodeIdentity } from '../../src/node-identity.js';

let directory: string;
let file: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'identity-'));
  file = join(directory, 'node.json');
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

const engine = (id: string) => () => Promise.resolve(id);
const nobody = () => Promise.reject(new TypeError('asked without need'));

describe('the identity of a node', () => {
  it("is the engine's ID, asked once and kept", async () => {
    const first = await loadNodeIdentity(file, '', engine('ABCD'));
    expect(first.node).toBe('ABCD');
    expect(await loadNodeIdentity(file, '', nobody)).toEqual(first);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('is the setting if there is one, and asks nobody', async () => {
    expect((await loadNodeIdentity(file, 'rack-7', nobody)).node).toBe('rack-7');
  });

  it('keeps its cluster when its name is changed', async () => {
    const before = await loadNodeIdentity(file, '', engine('ABCD'));
    const after = await loadNodeIdentity(file, 'rack-7', nobody);
    expect(after).toEqual({ node: 'rack-7', cluster: before.cluster, former: 'ABCD' });
    expect(await loadNodeIdentity(file, '', nobody)).toEqual(before); // until somebody keeps the new name
    await keepNodeIdentity(file, after);
    expect(await loadNodeIdentity(file, 'rack-7', nobody)).toEqual({ ...after, former: null });
  });

  it.each(['', '{', '{"node":""}', '{"node":"a"}', 'null'])(
    'is not guessed anew when its file is damaged: %j',
    async (content) => {
      writeFileSync(file, content);
      await expect(loadNodeIdentity(file, '', engine('OTHER'))).rejects.toThrow('is damaged: restore it');
      expect(readFileSync(file, 'utf8')).toBe(content);
    },
  );

  it('is not kept when the engine does not tell it', async () => {
    const failing = loadNodeIdentity(file, '', () => Promise.reject(new TypeError('no engine')));
    await expect(failing).rejects.toThrow('no engine');
    await expect(loadNodeIdentity(file, '', engine('ABCD'))).resolves.toMatchObject({ node: 'ABCD' });
  });
});
