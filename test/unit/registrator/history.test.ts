/**
 * Random histories of one to three hosts on one state, against what a few lines say must be in it: what happens to
 * containers and volumes, to the events and looks that tell of it, to policies, and to the registrators themselves.
 *
 * HISTORY_SEED=N repeats one history, HISTORY_RUNS=N makes so many.
 */
import { describe, expect, it } from 'vitest';
import type { ObjectKind } from '../../../src/docker/objects.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';
import type { Farewell, RegistryBackend } from '../../../src/registrator/backends/backend.js';
import { createClaimKeeper } from '../../../src/registrator/claims/keeper.js';
import type { MergeRule } from '../../../src/registrator/claims/merge.js';
import { Evaluation } from '../../../src/registrator/evaluation.js';
import {
  createObservedObjects,
  type ObservedObjects,
} from '../../../src/registrator/objects/observed-objects.js';
import type { Policy } from '../../../src/registrator/policies/policy.js';
import { createRegistry, parseSource } from '../../../src/registrator/registry.js';
import { keys } from '../../../src/state/keys.js';
import { createMemoryState } from '../../../src/state/memory-state.js';
import { records } from '../../../src/state/records.js';
import type { State } from '../../../src/state/state.js';
import { split, type Thing, turn, UntoldEngine } from '../../fakes/untold-engine.js';
import { randomOf } from '../../support/random.js';

const log = createLog('silent');
const ctx = { log, signal: new AbortController().signal, requestId: 'test' };
const runs = Number(process.env['HISTORY_RUNS'] ?? '2000');
const onlySeed = process.env['HISTORY_SEED'];

const objects = ['container c1', 'container c2', 'container c3', 'volume v1', 'volume v2'];
const names = ['n1', 'n2', 'n3', 'n4'];

interface Rule {
  readonly merge: MergeRule;
  readonly keys: (
    thing: Thing,
    where: { host: string; id: string; version: number },
  ) => Record<string, string>;
}
/** What policies give for an object, by version. */
const rules: Record<string, Rule> = {
  state: {
    merge: 'min',
    keys: ({ name, running }, { version }) =>
      running ? { [`/state/${name}`]: `up${String(version)}`, '/any/up': String(version) } : {},
  },
  roll: { merge: 'union', keys: ({ name, running }) => ({ [running ? '/roll/up' : '/roll/down']: name }) },
  who: { merge: 'first', keys: ({ name }, { host, id }) => ({ [`/who/${id}`]: `${host} ${name}` }) },
  own: {
    merge: 'min',
    keys: ({ name }, { host, id }) => ({ [`/own/${host}/${id}`]: name, [`/own/${name}`]: id }),
  },
};
const policyNames = Object.keys(rules);
/** A version may have no function any more for a kind that the one before it had. */
const kindsOf = (version: number): ObjectKind[] =>
  version % 2 === 1 ? ['container'] : ['container', 'volume'];

interface Registrator {
  readonly observed: ObservedObjects;
  readonly evaluation: Evaluation;
  readonly keeper: RegistryBackend;
  /** Those that it keeps alive. */
  readonly leases: Set<string>;
  complete(): void;
}

/** Its engine and its policies stay, its registrator comes and goes. */
class Host {
  readonly name: string;
  readonly engine: UntoldEngine;
  readonly policies = new Map<string, { readonly version: number; readonly policy: Policy }>();
  registrator: Registrator | null = null;
  readonly #state: State;

  constructor(name: string, state: State, random: () => number) {
    this.name = name;
    this.#state = state;
    this.engine = new UntoldEngine(random);
  }

  /** @param refusals so often it cannot be asked: few enough that it is not left out */
  add(name: string, version: number, refusals = 0): void {
    const { merge, keys: give } = rules[name]!;
    let left = refusals;
    const policy: Policy = {
      ...{ name: `${name}/${name}`, merge, overwrite: false, kinds: new Set(kindsOf(version)) },
      run: async ({ id, name: called, inspect }) => {
        await turn();
        if ((left -= 1) >= 0) throw new AppError('unavailable', 'the sandbox is away');
        const { Running: running } = inspect['State'] as { Running: boolean };
        return give({ name: called, running }, { host: this.name, id, version });
      },
    };
    this.policies.set(name, { version, policy });
    this.registrator?.evaluation.add(policy);
    this.registrator?.observed.retell();
  }

  remove(name: string): void {
    this.policies.delete(name);
    this.registrator?.evaluation.remove(`${name}/${name}`);
    this.registrator?.observed.retell();
  }

  begin(): void {
    const leases = new Set<string>();
    const all = this.#state;
    const state: State = {
      get: (...args) => all.get(...args),
      range: (...args) => all.range(...args),
      transact: (...args) => all.transact(...args),
      watch: (...args) => all.watch(...args),
      lease(...[given, ttlMs, id]) {
        if (id !== undefined) leases.add(id);
        return all.lease(given, ttlMs, id);
      },
      close: () => Promise.resolve(),
    };
    const keeper = createClaimKeeper({ state, owner: this.name, log, retryMinMs: 1 });
    const node = { id: this.name, hostname: this.name, address: '192.0.2.7' };
    const evaluation = new Evaluation({ registry: createRegistry(keeper, log), node, log });
    for (const { policy } of this.policies.values()) evaluation.add(policy);
    const observed = createObservedObjects({
      ...{ stream: this.engine.stream, objects: this.engine, log },
      onChange: (kind, id, object) => evaluation.onChange(kind, id, object),
      limits: { debounceMs: 0, passersByMs: 2, retryMinMs: 1, retryMaxMs: 2 },
    });
    const complete = () => {
      keeper.complete((source) => observed.isUnknown(parseSource(source).kind, parseSource(source).id));
    };
    const registrator: Registrator = { observed, evaluation, keeper, leases, complete };
    this.registrator = registrator;
    void observed.complete.then(() => {
      if (this.registrator === registrator) complete();
    });
  }

  async end(how: Farewell): Promise<void> {
    const ended = this.registrator;
    this.registrator = null;
    await ended?.observed.close();
    await ended?.keeper.close(how);
  }

  get isBusy(): boolean {
    if (!this.registrator) return false;
    const { observed, keeper } = this.registrator;
    if (this.engine.isAsked || observed.stats().pending > 0 || keeper.stats().pending > 0) return true;
    return objects.some((key) => observed.isUnknown(...split(key)));
  }
}

/** The keys that must be there, each with the values it may have. */
function reference(hosts: readonly Host[]): Map<string, string[]> {
  const all = new Map<string, { values: string[]; merge: MergeRule }>();
  for (const { name: host, engine, policies } of hosts.filter(({ registrator }) => registrator))
    for (const [policy, { version }] of policies)
      for (const [key, thing] of engine.things) {
        const [kind, id] = split(key);
        const { merge, keys: give } = rules[policy]!;
        const given = kindsOf(version).includes(kind) ? give(thing, { host, id, version }) : {};
        for (const [name, value] of Object.entries(given))
          all.set(name, { merge, values: [...(all.get(name)?.values ?? []), value].sort() });
      }
  const may: Record<MergeRule, (values: string[]) => string[]> = {
    min: (values) => values.slice(0, 1),
    union: (values) => [JSON.stringify([...new Set(values)])],
    first: (values) => values,
  };
  return new Map([...all].map(([name, { merge, values }]) => [name, may[merge](values)]));
}

class World {
  readonly state = createMemoryState();
  readonly told: string[] = [];
  readonly hosts: Host[];
  /** Leases that were kept alive by registrators that have ended. */
  readonly #left = new Set<string>();

  constructor(count: number, random: () => number) {
    this.hosts = ['one', 'two', 'three'].slice(0, count).map((name) => new Host(name, this.state, random));
  }

  async end(host: Host, how: Farewell): Promise<void> {
    const leases = host.registrator?.leases ?? [];
    await host.end(how);
    for (const id of leases) this.#left.add(id);
  }

  /** All that nobody keeps alive runs out. */
  async expire(): Promise<void> {
    for (const id of this.#left) {
      const isKept = this.hosts.some(({ registrator }) => registrator?.leases.has(id));
      if (!isKept) await (await this.state.lease(ctx, 5_000, id)).revoke(ctx);
    }
    this.#left.clear();
  }

  async settle(): Promise<void> {
    const until = performance.now() + 10_000;
    for (const { engine, registrator } of this.hosts) {
      engine.trouble = 0;
      if (registrator) engine.deliverAll();
    }
    for (let quiet = 0; quiet < 10; quiet += 1) {
      await turn();
      if (this.hosts.some(({ isBusy }) => isBusy)) quiet = 0;
      // As each minute: what could not be known at first is known now.
      else if (quiet === 5) for (const { registrator } of this.hosts) registrator?.complete();
      if (performance.now() > until) throw new Error('it does not come to rest');
    }
  }

  async check(): Promise<void> {
    await this.settle();
    await this.expire();
    await this.settle();
    const may = reference(this.hosts);
    const { entries } = await this.state.range(ctx, '/');
    const found = entries.filter(({ key }) => !key.startsWith(keys.registry));
    const allowed = found.map(({ key, value }) => [
      key,
      may.get(key)?.includes(value) ? value : may.get(key),
    ]);
    expect(Object.fromEntries(found.map(({ key, value }) => [key, value]))).toEqual({
      ...Object.fromEntries(may),
      ...Object.fromEntries(allowed),
    });
    const claims = entries.filter(({ key }) => key.startsWith(keys.claims));
    const owners = new Set(claims.map(({ key, value }) => records.claim.decode(key, value).owner));
    for (const { name, registrator } of this.hosts) if (registrator) owners.delete(name);
    expect([...owners], 'owners of claims that have ended').toEqual([]);
  }
}

const shares = {
  ...{ create: 12, start: 8, stop: 6, rename: 8, remove: 10, deliver: 25, wait: 20, trouble: 5 },
  ...{ policy: 12, 'policy that is away': 5, 'no policy': 4 },
  ...{ 'hand-over': 3, withdraw: 3, crash: 3, check: 2 },
};
type Action = keyof typeof shares;
const actions = Object.entries(shares).flatMap(([action, share]) =>
  Array<Action>(share).fill(action as Action),
);

async function turns(count: number): Promise<void> {
  for (let left = count; left > 0; left -= 1) await turn();
}

async function history(seed: number): Promise<void> {
  const random = randomOf(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  const pick = <T>(items: readonly T[]): T => items[below(items.length)]!;
  const world = new World(1 + below(3), random);

  async function act(action: Action, host: Host): Promise<void> {
    const { engine } = host;
    const [key, name, policy] = [pick(objects), pick(names), pick(policyNames)];
    const { running, name: called } = engine.things.get(key) ?? { running: false, name };
    world.told.push(`${host.name} ${action} ${key} ${name} ${policy}`);
    const changes: Partial<Record<Action, [Thing | null, ...string[]]>> = {
      create: [{ name, running: random() < 0.5 }, 'create'],
      start: [{ name: called, running: true }, 'start'],
      stop: [{ name: called, running: false }, 'kill', 'die', 'stop'],
      rename: [{ name, running }, 'rename'],
      remove: [null, 'destroy'],
    };
    const acts: Partial<Record<Action, () => unknown>> = {
      deliver: engine.deliver.bind(engine),
      wait: () => turns(below(12)),
      trouble: () => (engine.trouble = engine.trouble > 0 ? 0 : 4),
      policy: host.add.bind(host, policy, below(6), 0),
      'policy that is away': host.add.bind(host, policy, below(6), 1 + below(4)),
      'no policy': host.remove.bind(host, policy),
      'hand-over': () => world.end(host, 'hand-over'),
      withdraw: () => world.end(host, 'withdraw'),
      crash: () => world.end(host, 'hand-over').then(() => world.expire()),
      check: () => world.check(),
    };
    const change = changes[action];
    if (change) engine.change(key, ...change);
    await acts[action]?.();
  }

  try {
    for (const host of world.hosts) for (const name of policyNames) host.add(name, 2);
    for (let step = 0; step < 40; step += 1) {
      const [host, action] = [pick(world.hosts), pick(actions)];
      if (host.registrator || random() < 0.6) await act(action, host);
      else {
        world.told.push(`${host.name} begins`);
        host.begin();
      }
    }
    await world.check();
    for (const host of world.hosts) await world.end(host, 'withdraw');
    await world.expire();
    expect((await world.state.range(ctx, '/')).entries).toEqual([]);
  } catch (reason) {
    const what = `HISTORY_SEED=${String(seed)}: ${String(reason)}\n${world.told.join('; ')}`;
    throw new Error(what, { cause: reason });
  } finally {
    for (const host of world.hosts) await host.end('hand-over');
  }
}

describe('registrators of up to three hosts', () => {
  it(
    'end with what the policies say of the objects, whatever happens to events, policies and processes',
    { timeout: 300_000 },
    async () => {
      if (onlySeed !== undefined) return history(Number(onlySeed));
      const first = Date.now() % 1_000_000;
      for (let run = 0; run < runs; run += 1) await history(first + run);
    },
  );
});
