import type { Etcd3 } from 'etcd3';
import { describe, expect, it } from 'vitest';
import type { Budget } from '../../../src/state/budget.js';
import { EtcdClient, type CallOptions } from '../../../src/state/etcd-client.js';
import { transact } from '../../../src/state/etcd-transact.js';
import { createLog } from '../../../src/log.js';

const key = '/openebs/a';
const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const claim = { if: [{ key, absent: true as const }], then: [{ put: key, value: 'mine' }] };

const lost = () => Promise.reject(new Error('14 UNAVAILABLE: Connection dropped'));
const answer = (succeeded: boolean, stored?: { value: string; revision: number }) => () =>
  Promise.resolve({
    header: { revision: '9' },
    succeeded,
    responses: [
      {
        response_range: {
          kvs: stored
            ? [
                {
                  key: Buffer.from(key),
                  value: Buffer.from(stored.value),
                  create_revision: String(stored.revision),
                  mod_revision: String(stored.revision),
                },
              ]
            : [],
        },
      },
    ],
  });

/** An etcd whose answers to transactions, in order, are given: the orders of arrival no wire can be made to have. */
class ScriptedClient extends EtcdClient {
  readonly answers: (() => Promise<unknown>)[];

  constructor(answers: (() => Promise<unknown>)[]) {
    super({ endpoints: ['http://scripted:1'] }, 2_000);
    this.answers = answers;
  }

  override attempt<T>(_budget: Budget, call: (etcd: Etcd3, options: CallOptions) => Promise<T>): Promise<T> {
    const next = this.answers.shift();
    if (!next) throw new Error('more calls than the script has');
    // A transaction uses this much of a client; the class has private members that no fake can have.
    return call({ kv: { txn: next } } as unknown as Etcd3, {});
  }
}

describe('a transaction in doubt', () => {
  it('has succeeded when its first copy arrived just before its second', async () => {
    const client = new ScriptedClient([
      lost,
      answer(true), // read back: nothing yet
      answer(false), // sent again: too late, because the first copy has landed
      answer(true, { value: 'mine', revision: 7 }),
    ]);
    expect(await transact(client, ctx, claim)).toEqual({ ok: true, revision: 7 });
    expect(client.answers).toEqual([]);
  });

  it('has failed when another came before its second copy', async () => {
    const client = new ScriptedClient([
      lost,
      answer(true),
      answer(false),
      answer(true, { value: 'theirs', revision: 7 }),
    ]);
    expect(await transact(client, ctx, claim)).toEqual({ ok: false, reason: 'compare_failed' });
    expect(client.answers).toEqual([]);
  });

  it('has not succeeded because a value that others put as well is there', async () => {
    const client = new ScriptedClient([
      lost,
      answer(true, { value: 'same', revision: 7 }),
      answer(true, { value: 'same', revision: 7 }),
    ]);
    const shared = {
      if: [{ key, absent: true as const }],
      then: [{ put: key, value: 'same', common: true as const }],
    };
    expect(await transact(client, ctx, shared)).toEqual({ ok: false, reason: 'compare_failed' });
    expect(client.answers).toEqual([]);
  });

  it('is not looked into when the first answer came through', async () => {
    const client = new ScriptedClient([answer(false)]);
    expect(await transact(client, ctx, claim)).toEqual({ ok: false, reason: 'compare_failed' });
  });
});
