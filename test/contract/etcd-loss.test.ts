/** Many writes at once while a member of three goes: each is settled within its time, by the members that are left. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { leaderOf, startMembers } from '../support/etcd.js';
import { waitFor } from '../support/exec.js';
import { context, freshPrefix } from './state-contract.js';

it('settles all writes that meet the loss of a leader that says nothing', async () => {
  const members = await startMembers(3);
  const state = createEtcdState({
    endpoints: members.map(({ endpoint }) => endpoint),
    log: createLog('silent'),
  });
  const prefix = freshPrefix();
  const write = async (number: number): Promise<string> => {
    const key = `${prefix}${String(number)}`;
    const transaction = { if: [{ key, absent: true }], then: [{ put: key, value: randomUUID() }] } as const;
    return (await state.transact(context(), transaction)).ok ? key : '';
  };
  const leader = await waitFor('one leads', () => leaderOf(members));
  const writes: Promise<string>[] = [];
  for (let number = 0; number < 200; number += 1) {
    if (number === 50) leader.kill('SIGSTOP');
    writes.push(write(number));
    await delay(10);
  }
  const ended = await Promise.allSettled(writes);
  expect(ended.flatMap((one) => (one.status === 'rejected' ? [String(one.reason)] : []))).toEqual([]);
  const { entries } = await state.range(context(), prefix);
  expect(entries.map(({ key }) => key)).toEqual((await Promise.all(writes)).toSorted());
  await state.close();
  for (const member of members) await member[Symbol.asyncDispose]();
});
