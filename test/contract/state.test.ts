import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { createMemoryState } from '../../src/state/memory-state.js';
import { startEtcd } from '../support/etcd.js';
import { describeState } from './state-contract.js';

const log = createLog('silent');

describeState('memory', () => {
  const state = createMemoryState();
  return Promise.resolve({ state, second: state, end: () => state.close() });
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
