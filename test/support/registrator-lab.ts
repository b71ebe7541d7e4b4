/** What tests of the registrator that runs alone share: an engine of their own, etcds, registrators, and what is compared. */
import { afterAll, beforeAll, expect, type TestContext } from 'vitest';
import type { Random } from '../soak/random.js';
import { type EtcdOptions, startMembers, type TestEtcd } from './etcd.js';
import { sleep, waitFor } from './exec.js';
import { type LabHost, startLabHost } from './lab.js';
import {
  askEngine,
  createRegistrator,
  type EngineAnswer,
  keyIn,
  keysIn,
  type Registrator,
  type RegistratorProcess,
  type Settings,
  untilTrue,
} from './registrator.js';

export interface Begun {
  /** The first of the members. */
  readonly etcd: TestEtcd;
  readonly members: readonly TestEtcd[];
  readonly registrator: (settings?: Settings, env?: Readonly<Record<string, string>>) => Registrator;
}

export interface RegistratorLab {
  readonly host: LabHost;
  readonly engineId: string;
  /** An etcd of its own, so that no test meets what another has left. */
  readonly begin: (
    context: TestContext,
    options?: EtcdOptions & { readonly members?: number },
  ) => Promise<Begun>;
  readonly ownerOf: (instance?: string) => string;
  /** Until all of etcd is what the engine has. */
  readonly isTrue: (etcd: TestEtcd, process?: RegistratorProcess) => Promise<void>;
  readonly up: (name: string, ...options: string[]) => Promise<string>;
  readonly createVolume: (name: string) => Promise<EngineAnswer>;
  readonly removeVolume: (name: string) => Promise<EngineAnswer>;
  /** Containers, volumes and networks. */
  readonly removeAll: () => Promise<void>;
  readonly churn: (random: Random) => Churn;
}

/** A few containers that come, change and go at random, whether or not the engine carries it out. */
export interface Churn {
  readonly carriedOut: number;
  stop(): Promise<void>;
}

/** Starts with the first test of the file, ends with the last one. `told` is added to what is said of a failure. */
export function registratorLab(name: string, told = ''): RegistratorLab {
  let host: LabHost;
  let engineId: string;

  beforeAll(async () => {
    host = await startLabHost({ name });
    engineId = await host.ok('info', '--format', '{{.ID}}');
  });

  afterAll(async () => {
    await host.close();
  });

  const ownerOf = (instance = 'registrator') => `${engineId}.${instance}`;
  const removeVolume = (volume: string) => askEngine(host.socket, 'DELETE', `/volumes/${volume}`);
  return {
    get host() {
      return host;
    },
    get engineId() {
      return engineId;
    },
    async begin({ onTestFinished }, { members: count = 1, ...options } = {}) {
      const members = await startMembers(count, options);
      const all: Registrator[] = [];
      onTestFinished(async () => {
        await Promise.all(all.map((one) => one.end()));
        await Promise.all(members.map((member) => member[Symbol.asyncDispose]()));
      });
      return {
        etcd: members[0]!,
        members,
        registrator(settings = {}, env = {}) {
          const endpoints = members.map(({ endpoint }) => endpoint).join(',');
          const ours = { DOCKER_SOCKET: host.socket, ETCD_ENDPOINTS: endpoints };
          const one = createRegistrator({ ...ours, ...settings }, env);
          all.push(one);
          return one;
        },
      };
    },
    ownerOf,
    async isTrue(etcd, process) {
      await untilTrue(host.socket, etcd, ownerOf(), {
        told: () => `${told}, the registrator said:\n${process?.output().slice(-3000) ?? ''}`,
      });
    },
    up: (container, ...options) => host.ok('run', '-d', '--name', container, ...options, 'lab'),
    createVolume: (volume) =>
      askEngine(host.socket, 'POST', '/volumes/create', { Name: volume, Driver: 'local' }),
    removeVolume,
    async removeAll() {
      const ids = await host.ok('ps', '-aq');
      if (ids !== '') await host.ok('rm', '-f', '-v', ...ids.split('\n'));
      for (const volume of (await host.ok('volume', 'ls', '-q')).split('\n').filter((line) => line !== ''))
        await removeVolume(volume);
      await host.ok('network', 'prune', '-f');
    },
    churn: (random) => startChurn(host, random),
  };
}

export const published = (name: string) => ['-p', '80', '-e', `SERVICE_NAME=${name}`];

function startChurn(host: LabHost, random: Random): Churn {
  let carriedOut = 0;
  const over = new AbortController();
  const change = async () => {
    const name = `c${String(random.below(6))}`;
    const other = `c${String(random.below(6))}`;
    const choices: string[][] = [
      ['run', '-d', '--name', name, ...published(name), 'lab'],
      ['run', '-d', '--name', name, ...published(name), 'lab'],
      ['stop', '-t', '1', name],
      ['start', name],
      ['kill', name],
      ['rm', '-f', name],
      ['rename', name, other],
      ['network', 'connect', 'net1', name],
      ['network', 'disconnect', 'net1', name],
      ['pause', name],
      ['unpause', name],
    ];
    const { code, stderr } = await host.docker(...choices[random.below(choices.length)]!);
    if (code === 0) carriedOut += 1;
    else if (stderr.includes('Cannot connect')) await sleep(100);
  };
  const changing = (async () => {
    while (!over.signal.aborted) await change();
  })();
  return {
    get carriedOut() {
      return carriedOut;
    },
    async stop() {
      over.abort();
      await changing;
    },
  };
}

export async function isEmpty(etcd: TestEtcd, timeoutMs = 30_000): Promise<void> {
  let left: string[] = [];
  await waitFor(
    'etcd is empty',
    async () => {
      left = [...(await keysIn(etcd)).keys()];
      return left.length === 0;
    },
    { timeoutMs },
  ).catch((reason: unknown) => {
    throw new Error(`${String(reason)}\nleft: ${left.slice(0, 20).join('\n')}`);
  });
}

export async function becomes(etcd: TestEtcd, key: string, value: string | undefined): Promise<void> {
  let now: string | undefined;
  await waitFor(
    `${key} is ${String(value)}`,
    async () => {
      now = (await keyIn(etcd, key))?.value;
      return now === value;
    },
    { everyMs: 50 },
  ).catch((reason: unknown) => {
    throw new Error(`${String(reason)}: it is ${String(now)}`);
  });
}

/** Keys that are to stay, each with the revision at which it was made. */
export type Staying = ReadonlyMap<string, number>;

/** Keys of services of this name, and of objects that are called so. */
export async function stayingOf(etcd: TestEtcd, name: string): Promise<Staying> {
  const found = [...(await keysIn(etcd))].filter(
    ([key, { value }]) => !key.includes('/registry/') && value.includes(`"${name}"`),
  );
  expect(found.length).toBeGreaterThanOrEqual(1);
  return new Map(found.map(([key, { created }]) => [key, created]));
}

/**
 * That no watcher has seen one of them vanish: a key that was away, even between two revisions, was made anew. Unlike
 * the history of a key this is there after a compaction, too.
 */
export async function wereNeverAway(etcd: TestEtcd, staying: Staying): Promise<void> {
  const now = await keysIn(etcd);
  expect(new Map([...staying.keys()].map((key) => [key, now.get(key)?.created]))).toEqual(staying);
}

/** All of them, so many at a time. */
export async function sideBySide(
  count: number,
  many: number,
  one: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await one(next++);
  };
  await Promise.all(Array.from({ length: many }, worker));
}
