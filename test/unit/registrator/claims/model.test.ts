/**
 * Random histories of one to three owners, against what a few lines say must come out of them.
 *
 * CLAIM_SEED=N repeats one history, CLAIM_RUNS=N makes so many.
 */
import { describe, expect, it } from 'vitest';
import { createLog } from '../../../../src/log.js';
import type { RegistryBackend } from '../../../../src/registrator/backends/backend.js';
import { createClaimKeeper } from '../../../../src/registrator/claims/keeper.js';
import { sharedLeaseOf } from '../../../../src/registrator/claims/leases.js';
import { isConflict, mergedValue, type MergeRule } from '../../../../src/registrator/claims/merge.js';
import { keys } from '../../../../src/state/keys.js';
import { createMemoryState } from '../../../../src/state/memory-state.js';
import { records } from '../../../../src/state/records.js';
import type { Entry, State } from '../../../../src/state/state.js';
import { AppError } from '../../../../src/errors.js';
import { randomOf } from '../../../support/random.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const runs = Number(process.env['CLAIM_RUNS'] ?? '2500');
const onlySeed = process.env['CLAIM_SEED'];

const names = ['a', 'b', 'c'].map((name) => `/reg/${name}`);
const rules: Record<string, MergeRule> = { '/reg/a': 'min', '/reg/b': 'first', '/reg/c': 'union' };

const shared = new Set(names.map(sharedLeaseOf));

interface Process {
  readonly keeper: RegistryBackend;
  readonly leases: Set<string>;
}

/** Owners on one state that fails, loses answers, and tells of each revision. */
class World {
  readonly state: State = createMemoryState();
  readonly store = new Map<string, Entry>();
  readonly wanted = new Map<string, Map<string, string>>();
  readonly processes = new Map<string, Process>();
  readonly foreign = new Map<string, string>();
  readonly foreignRevisions = new Set<number>();
  readonly violations: string[] = [];
  /** Shared leases that those have kept alive who have ended since. */
  readonly left = new Set<string>();
  readonly random: () => number;
  trouble = 0;

  constructor(random: () => number) {
    this.random = random;
    this.state.watch('/', (event) => {
      if (event.type === 'snapshot') return;
      const gone: string[] = [];
      for (const change of event.changes) {
        if (change.type === 'put') this.store.set(change.entry.key, change.entry);
        else {
          this.store.delete(change.key);
          gone.push(change.key);
        }
      }
      for (const key of gone.filter((name) => names.includes(name))) {
        if (this.foreignRevisions.has(event.revision)) continue;
        if (this.claimsOf(key).length > 0)
          this.violations.push(`${key} vanished at ${String(event.revision)}`);
      }
    });
  }

  claimsOf(key: string) {
    return [...this.store.values()]
      .filter((entry) => entry.key.startsWith(keys.claimsOf(key)))
      .map((entry) => ({
        ...records.claim.decode(entry.key, entry.value),
        createRevision: entry.createRevision,
      }));
  }

  start(owner: string): void {
    const leases = new Set<string>();
    const { state: carriedOut } = this;
    const fails = () => {
      if (this.trouble > 0 && this.random() < this.trouble)
        throw new AppError('unavailable', 'away for a test');
    };
    const state: State = {
      get: async (...args) => (fails(), this.state.get(...args)),
      range: async (...args) => (fails(), this.state.range(...args)),
      async transact(...args) {
        fails();
        const result = await carriedOut.transact(...args);
        // Carried out, and the answer lost.
        fails();
        return result;
      },
      watch: (...args) => this.state.watch(...args),
      lease: async (...args) => {
        fails();
        if (args[2] !== undefined) leases.add(args[2]);
        return this.state.lease(...args);
      },
      close: () => Promise.resolve(),
    };
    const keeper = createClaimKeeper({ state, owner, log, retryMinMs: 1 });
    this.processes.set(owner, { keeper, leases });
    const wanted = this.wanted.get(owner) ?? new Map<string, string>();
    this.wanted.set(owner, wanted);
    for (const [key, value] of wanted) this.want(owner, key, value);
    keeper.complete();
  }

  want(owner: string, key: string, value: string | null): void {
    if (value === null) this.wanted.get(owner)?.delete(key);
    else this.wanted.get(owner)?.set(key, value);
    const wanted = value === null ? null : { value, merge: rules[key]!, overwrite: false, source: 'test' };
    this.processes.get(owner)?.keeper.want(key, wanted);
  }

  /** kill -9, and all that nobody keeps alive any more has run out. */
  async crash(owner: string): Promise<void> {
    const process = this.processes.get(owner)!;
    this.processes.delete(owner);
    await process.keeper.close('hand-over');
    for (const id of process.leases) if (!shared.has(id)) await this.#expire(id);
    // A lease lasts far longer than the others take to notice, and to keep it alive themselves.
    const { trouble } = this;
    this.trouble = 0;
    await this.settle();
    this.trouble = trouble;
    for (const id of process.leases) if (shared.has(id)) this.left.add(id);
    await this.#expireLeft();
  }

  async #expireLeft(): Promise<void> {
    for (const id of this.left) await this.#expire(id);
    this.left.clear();
  }

  /** All is quiet, and for so long that no lease is left which nobody keeps alive. */
  async rest(): Promise<void> {
    this.trouble = 0;
    await this.settle();
    await this.#expireLeft();
    await this.settle();
  }

  async #expire(id: string): Promise<void> {
    const lease = await this.state.lease(ctx, 5_000, id);
    const isAlive = [...this.processes.values()].some(({ leases }) => leases.has(id));
    if (!isAlive) await lease.revoke(ctx);
  }

  async stop(owner: string): Promise<void> {
    const process = this.processes.get(owner)!;
    this.trouble = 0;
    await process.keeper.close('withdraw');
    this.processes.delete(owner);
    for (const id of process.leases) if (shared.has(id)) this.left.add(id);
    this.wanted.get(owner)?.clear();
  }

  async writeForeign(key: string, value: string | null): Promise<void> {
    if (value === null) this.foreign.delete(key);
    else this.foreign.set(key, value);
    const then = value === null ? [{ delete: key }] : [{ put: key, value }];
    const result = await this.state.transact(ctx, { if: [], then });
    if (result.ok) this.foreignRevisions.add(result.revision);
  }

  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 4; quiet += 1) {
      await new Promise((resolve) => setImmediate(resolve));
      for (const { keeper } of this.processes.values()) {
        if (keeper.stats().pending === 0) continue;
        await keeper.settled();
        quiet = 0;
      }
    }
  }

  check(what: string): void {
    expect(this.violations, what).toEqual([]);
    for (const key of names) {
      const alive = [...this.processes.keys()].filter((owner) => this.wanted.get(owner)?.has(key));
      const claims = this.claimsOf(key);
      expect(
        Object.fromEntries(claims.map(({ owner, value }) => [owner, value])),
        `${what}: claims of ${key}`,
      ).toEqual(Object.fromEntries(alive.map((owner) => [owner, this.wanted.get(owner)?.get(key)])));
      const merged = claims.length === 0 ? undefined : mergedValue(claims);
      expect(this.store.get(key)?.value, `${what}: ${key}`).toBe(this.foreign.get(key) ?? merged);
      for (const owner of alive) {
        const { conflicts, foreign } = this.processes.get(owner)!.keeper.stats();
        expect(foreign.includes(key), `${what}: ${owner} tells of ${key}`).toBe(this.foreign.has(key));
        expect(conflicts.includes(key), `${what}: ${owner} tells of ${key}`).toBe(isConflict(claims));
      }
      const marker = this.store.get(keys.sharedKey(key));
      if (claims.length !== 1)
        expect(marker !== undefined, `${what}: marker of ${key}`).toBe(claims.length > 1);
    }
  }
}

type Action = 'want' | 'unwant' | 'crash' | 'stop' | 'foreign' | 'clear' | 'trouble' | 'settle';
const shares: readonly (readonly [Action, number])[] = [
  ['want', 40],
  ['unwant', 15],
  ['crash', 10],
  ['stop', 7],
  ['foreign', 5],
  ['clear', 7],
  ['trouble', 6],
  ['settle', 10],
];
const actions = shares.flatMap(([action, share]) => Array.from({ length: share }, () => action));
const values = ['x', 'y', '"z"', '["z","y"]'];

async function history(seed: number): Promise<void> {
  const random = randomOf(seed);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  const world = new World(random);
  await new Promise((resolve) => setImmediate(resolve));
  const owners = ['one', 'two', 'three'].slice(0, 1 + Math.floor(random() * 3));
  for (const owner of owners) world.start(owner);
  const told: string[] = [];
  const act: Record<Action, (owner: string, key: string) => unknown> = {
    want: (owner, key) => {
      world.want(owner, key, pick(values));
    },
    unwant: (owner, key) => {
      world.want(owner, key, null);
    },
    crash: (owner) => world.crash(owner),
    stop: (owner) => world.stop(owner),
    foreign: (_owner, key) => world.writeForeign(key, 'theirs'),
    clear: (_owner, key) => world.writeForeign(key, null),
    trouble: () => (world.trouble = world.trouble > 0 ? 0 : 0.5),
    settle: async () => {
      await world.rest();
      world.check(`seed ${String(seed)}: ${told.join('; ')}`);
    },
  };
  for (let step = 0; step < 20; step += 1) {
    const [owner, key, action] = [pick(owners), pick(names), pick(actions)];
    if (!world.processes.has(owner)) {
      told.push(`${owner} starts`);
      world.start(owner);
    } else {
      told.push(`${action} ${owner} ${key}`);
      await act[action](owner, key);
    }
  }
  await world.rest();
  world.check(`seed ${String(seed)}, end: ${told.join('; ')}`);
  const { revision } = await world.state.range(ctx, '/none');
  for (const { keeper } of world.processes.values()) keeper.complete();
  await world.settle();
  expect((await world.state.range(ctx, '/none')).revision, `seed ${String(seed)}: written again`).toBe(
    revision,
  );
  for (const { keeper } of world.processes.values()) await keeper.close('hand-over');
}

describe('claims of up to three owners', () => {
  it(
    'come out as the model says, whatever happens to owners, keys and state',
    { timeout: 120_000 },
    async () => {
      if (onlySeed !== undefined) return history(Number(onlySeed));
      const first = Date.now() % 1_000_000;
      for (let run = 0; run < runs; run += 1) await history(first + run);
    },
  );
});
