import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import { removeLeftContainers } from '../../../src/dataplane/left-containers.js';
import { createLog } from '../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let root: string;
/** Never started, by the engine's word. */
let created: string[];
let removed: string[];
let answers: boolean;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'left-'));
  [created, removed, answers] = [[], [], true];
});

afterEach(() => {
  rmSync(root, { recursive: true });
});

const sweep = () =>
  removeLeftContainers(
    ctx,
    {
      answers: () => Promise.resolve(answers),
      async removeEnded(_ctx, label, isLeft) {
        expect(label).toBe('openebs.role');
        for (const name of created) if (await isLeft(name)) removed.push(name);
        return removed;
      },
    },
    createHostPaths(root, '/mnt'),
  );

it('containers of volumes whose directory is gone are removed, and no others', async () => {
  mkdirSync(join(root, 'var/lib/openebs/containers/openebs-target-v000000001'), { recursive: true });
  created = [
    'openebs-target-v000000001',
    'openebs-target-v000000002',
    'openebs-initiator-v000000002',
    'openebs-etcd',
    'renamed-by-somebody',
  ];
  await sweep();
  expect(removed).toEqual(['openebs-target-v000000002', 'openebs-initiator-v000000002']);
});

it('nothing is asked of an engine that does not answer', async () => {
  answers = false;
  created = ['openebs-target-v000000002'];
  await sweep();
  expect(removed).toEqual([]);
});
