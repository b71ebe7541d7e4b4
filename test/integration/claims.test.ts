import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createLog } from '../../src/log.js';
import type { RegistryBackend } from '../../src/registrator/backends/backend.js';
import { createClaimKeeper } from '../../src/registrator/claims/keeper.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { keys } from '../../src/state/keys.js';
import type { State } from '../../src/state/state.js';
import { startEtcd, type TestEtcd } from '../support/etcd.js';
import { createLogLines } from '../support/log-lines.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const LEASE_MS = 3_000;

interface Owner {
  readonly state: State;
  readonly keeper: RegistryBackend;
}

let etcd: TestEtcd;
let look: State;
let owners: Owner[];
let prefix: string;
let next = 0;

beforeAll(async () => {
  etcd = await startEtcd();
  look = createEtcdState({ endpoints: [etcd.endpoint], log });
}, 60_000);

afterAll(async () => {
  await look.close();
  await etcd[Symbol.asyncDispose]();
});

beforeEach(() => {
  owners = [];
  next += 1;
  prefix = `/reg${String(next)}`;
});

afterEach(async () => {
  for (const { keeper, state } of owners) {
    await keeper.close('withdraw');
    await state.close();
  }
});

function start(name: string, ownLog = log): Owner {
  const state = createEtcdState({ endpoints: [etcd.endpoint], log });
  const owner = {
    state,
    keeper: createClaimKeeper({ state, owner: `${name}-${String(next)}`, log: ownLog, leaseMs: LEASE_MS }),
  };
  owners.push(owner);
  return owner;
}

/** As kill -9 does: nothing is said, and no lease is kept alive any more. */
async function kill(owner: Owner): Promise<void> {
  owners = owners.filter((other) => other !== owner);
  await owner.state.close();
  void owner.keeper.close('hand-over');
}

function wanted(value: string) {
  return { value, merge: 'min' as const, overwrite: false, source: 'test' };
}

async function valueOf(key: string): Promise<string | undefined> {
  return (await look.get(ctx, key))?.value;
}

/** All that happens to the keys below the prefix. */
function follow(): string[] {
  const seen: string[] = [];
  look.watch(`${prefix}/`, (event) => {
    if (event.type === 'snapshot') return;
    for (const change of event.changes) {
      seen.push(change.type === 'put' ? `${change.entry.key}=${change.entry.value}` : `-${change.key}`);
    }
  });
  return seen;
}

/** etcd removes all keys of a lease at once, and looks at each of them at a put where it has users. */
async function expectFewKeysPerLease(): Promise<void> {
  const counts = new Map<string, number>();
  for (const { key, leaseId } of (await look.range(ctx, '/')).entries) {
    expect(leaseId, `the lease of ${key}`).toBeDefined();
    counts.set(leaseId ?? '', (counts.get(leaseId ?? '') ?? 0) + 1);
  }
  expect(Math.max(...counts.values())).toBeLessThanOrEqual(1000);
}

async function revision(): Promise<number> {
  return (await look.range(ctx, '/none')).revision;
}

describe('claims in etcd', () => {
  it('of a thousand keys are written, and withdrawn, and nothing is written for what is so already', async () => {
    const first = start('one');
    const names = Array.from({ length: 1000 }, (_, index) => `${prefix}/${String(index)}`);
    for (const name of names) first.keeper.want(name, wanted(name));
    await first.keeper.settled();
    expect((await look.range(ctx, `${prefix}/`)).entries.map(({ value }) => value)).toEqual(names.toSorted());
    await expectFewKeysPerLease();

    // The next process of this owner takes over what it finds.
    await kill(first);
    const before = await revision();
    const second = start('one');
    for (const name of names.slice(1)) second.keeper.want(name, wanted(name));
    await second.keeper.settled();
    expect(await revision()).toBe(before);
    second.keeper.complete();
    await second.keeper.settled();
    expect(await valueOf(names[0]!)).toBeUndefined();
    await delay(LEASE_MS + 1_500);
    expect((await look.range(ctx, `${prefix}/`)).entries).toHaveLength(999);
    await second.keeper.close('withdraw');
    expect((await look.range(ctx, `${prefix}/`)).entries).toEqual([]);
    expect((await look.range(ctx, keys.registry)).entries).toEqual([]);
  });

  it('keep a key that two want, whoever of them leaves, and however', async () => {
    const key = `${prefix}/shared`;
    const [one, two] = [start('one'), start('two')];
    one.keeper.want(key, wanted('v'));
    await one.keeper.settled();
    const seen = follow();
    two.keeper.want(key, wanted('v'));
    await two.keeper.settled();
    await kill(one);
    await delay(LEASE_MS + 1_500);
    expect(await valueOf(key)).toBe('v');
    const again = start('one');
    again.keeper.want(key, wanted('v'));
    await again.keeper.settled();
    two.keeper.want(key, null);
    await two.keeper.settled();
    await delay(LEASE_MS + 1_500);
    expect(await valueOf(key)).toBe('v');
    await kill(again);
    await kill(two);
    await delay(LEASE_MS + 2_500);
    expect(await valueOf(key)).toBeUndefined();
    expect(seen.filter((change) => change.startsWith('-'))).toEqual([`-${key}`]);
  }, 30_000);

  it('of three thousand keys, two thirds of them shared, are below leases of at most a thousand keys', async () => {
    const names = Array.from({ length: 3000 }, (_, index) => `${prefix}/${String(index)}`);
    const [one, two] = [start('one'), start('two')];
    for (const name of names.slice(0, 2500)) one.keeper.want(name, wanted('v'));
    for (const name of names.slice(500)) two.keeper.want(name, wanted('v'));
    await Promise.all([one.keeper.settled(), two.keeper.settled()]);
    expect((await look.range(ctx, `${prefix}/`)).entries).toHaveLength(3000);
    expect((await look.range(ctx, keys.claims)).entries).toHaveLength(5000);
    await expectFewKeysPerLease();
  }, 60_000);

  it('settle on the smaller of two values, once, with one warning of each owner', async () => {
    const key = `${prefix}/both`;
    const logs = [createLogLines(), createLogLines()] as const;
    const [one, two] = [start('one', logs[0].log), start('two', logs[1].log)];
    const warnings = () =>
      logs.map(({ lines }) => lines.filter(({ msg }) => msg.startsWith('others want another value')).length);
    const seen = follow();
    one.keeper.want(key, wanted('b'));
    await one.keeper.settled();
    two.keeper.want(key, wanted('a'));
    await two.keeper.settled();
    await delay(2_000);
    expect(seen).toEqual([`${key}=b`, `${key}=a`]);
    expect([one.keeper.stats().conflicts, two.keeper.stats().conflicts]).toEqual([[key], [key]]);
    expect(warnings()).toEqual([1, 1]);
    // Neither for a third value, nor for a new lease.
    two.keeper.want(key, wanted('c'));
    await two.keeper.settled();
    await expect.poll(() => valueOf(key)).toBe('b');
    expect(warnings()).toEqual([1, 1]);
    two.keeper.want(key, null);
    await two.keeper.settled();
    await delay(200);
    expect(await valueOf(key)).toBe('b');
    expect(one.keeper.stats().conflicts).toEqual([]);
  });

  it('are kept of all keys but the one that etcd does not take', async () => {
    const { keeper } = start('a');
    const want = (key: string, value: string) => {
      keeper.want(`${prefix}/${key}`, { value, merge: 'min', overwrite: false, source: 'test' });
    };
    for (let index = 0; index < 60; index += 1) want(`large-${String(index)}`, 'x'.repeat(60_000));
    want('too-large', 'x'.repeat(2_000_000));
    for (let index = 0; index < 60; index += 1) want(`small-${String(index)}`, 'x');
    keeper.complete();
    await keeper.settled();
    const { entries } = await look.range(ctx, `${prefix}/`);
    expect(entries).toHaveLength(120);
    expect(keeper.stats().failures).toBeGreaterThan(0);
  });

  it('of before are let be while it is not known whether they are wanted', async () => {
    const before = start('a');
    for (const source of ['p/known container 1', 'p/unknown container 2'])
      before.keeper.want(`${prefix}/${source.split(' ')[2]!}`, {
        value: 'v',
        merge: 'min',
        overwrite: false,
        source,
      });
    await before.keeper.settled();
    await kill(before);
    const { keeper } = start('a');
    keeper.complete((source) => source.startsWith('p/unknown'));
    await keeper.settled();
    const left = async () => (await look.range(ctx, `${prefix}/`)).entries.map(({ key }) => key);
    expect(await left()).toEqual([`${prefix}/2`]);
    keeper.complete();
    await keeper.settled();
    expect(await left()).toEqual([]);
  });

  it('come back when etcd was away for longer than their lease', async () => {
    const key = `${prefix}/back`;
    const one = start('one');
    one.keeper.want(key, wanted('v'));
    await one.keeper.settled();
    etcd.kill('SIGSTOP');
    await delay(LEASE_MS + 2_000);
    one.keeper.want(`${key}2`, wanted('w'));
    etcd.kill('SIGCONT');
    await expect.poll(() => valueOf(`${key}2`), { timeout: 15_000 }).toBe('w');
    await delay(LEASE_MS + 1_500);
    expect(await valueOf(key)).toBe('v');
  }, 40_000);
});
