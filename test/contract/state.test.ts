import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { openLocalState } from '../../src/state/local-state.js';
import { createMemoryState } from '../../src/state/memory-state.js';
import { createSqliteState, openSharedSqlite } from '../fixtures/example-state-adapter.js';
import { startEtcd } from '../support/etcd.js';
import { describeState } from './state-contract.js';

const log = createLog('silent');

describeState('memory', () => {
  const state = createMemoryState();
  return Promise.resolve({ state, second: state, end: () => state.close() });
});

describeState('a file of this host', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'openebs-state-'));
  const state = await openLocalState({ directory, shown: '/var/lib/openebs/local', log });
  return {
    state,
    second: state,
    async end() {
      await state.close();
      rmSync(directory, { recursive: true });
    },
  };
});

/** What the documentation points to as an example must be one. */
describeState('the example adapter, on SQLite', () => {
  const directory = mkdtempSync(join(tmpdir(), 'openebs-example-'));
  const shared = openSharedSqlite(join(directory, 'state.db'));
  const state = createSqliteState(shared);
  const second = createSqliteState(shared);
  return Promise.resolve({
    state,
    second,
    async end() {
      await state.close();
      shared.database.close();
      rmSync(directory, { recursive: true });
    },
  });
});

describeState('etcd', async () => {
  const etcd = await startEtcd();
  const state = createEtcdState({ endpoints: [etcd.endpoint], log });
  const second = createEtcdState({ endpoints: [etcd.endpoint], log });
  return {
    state,
    second,
    async end() {
      await state.close();
      await second.close();
      await etcd[Symbol.asyncDispose]();
    },
  };
});
