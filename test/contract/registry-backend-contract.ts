import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createLog, type Log } from '../../src/log.js';
import type { Farewell, RegistryBackend } from '../../src/registrator/backends/backend.js';
import type { Wanted } from '../../src/registrator/claims/step.js';

/** A store, and what is done to it behind the backend's back. Keys and values are in the store's own form. */
export interface BackendWorld {
  /** The key of that name; tests keep apart by their names. */
  key(name: string): string;
  value(text: string): string;
  /** What the store has there, each the text that its value was made of, or undefined. */
  read(keys: readonly string[]): Promise<(string | undefined)[]>;
  /** One process of that owner. */
  start: (owner: string, log: Log) => BackendProcess;
  /** Written by somebody who is no owner. */
  putByStranger(key: string, text: string): Promise<void>;
  removeByStranger(key: string): Promise<void>;
  /** As kill -9 of the store. */
  stopStore(): Promise<void>;
  startStore(): Promise<void>;
  end(): Promise<void>;
}

export interface BackendProcess {
  readonly backend: RegistryBackend;
  /** As kill -9 does: nothing is said. */
  kill(): Promise<void>;
  /** After the backend was closed. */
  end(): Promise<void>;
}

export const silent = createLog('silent');

/** What every backend of the registry promises. */
export function describeRegistryBackend(name: string, factory: () => Promise<BackendWorld>): void {
  describe(`the registry in ${name}`, () => {
    let world: BackendWorld;
    let processes: BackendProcess[];
    let next = 0;
    beforeAll(async () => {
      world = await factory();
    }, 60_000);
    afterAll(async () => {
      await world.end();
    });
    beforeEach(() => {
      processes = [];
      next += 1;
    });
    afterEach(async () => {
      for (const process of processes) {
        await process.backend.close('withdraw');
        await process.end();
      }
    });

    const start = (owner: string, log = silent): BackendProcess => {
      const process = world.start(`${owner}-${String(next)}`, log);
      processes.push(process);
      return process;
    };
    const kill = async (process: BackendProcess): Promise<void> => {
      processes = processes.filter((one) => one !== process);
      await process.kill();
    };
    const close = async (process: BackendProcess, how: Farewell): Promise<void> => {
      processes = processes.filter((one) => one !== process);
      await process.backend.close(how);
      await process.end();
    };
    const key = (text: string) => world.key(`t${String(next)}-${text}`);
    const wanted = (text: string, more: Partial<Wanted> = {}): Wanted => ({
      value: world.value(text),
      merge: 'min',
      overwrite: false,
      source: 'policy container one',
      ...more,
    });
    const read = (...names: string[]) => world.read(names.map(key));

    it('has what is wanted, as it is wanted last, for as long as it is', async () => {
      const { backend } = start('one');
      backend.want(key('a'), wanted('1'));
      backend.want(key('b'), wanted('2'));
      await backend.settled();
      expect(await read('a', 'b')).toEqual(['1', '2']);
      backend.want(key('a'), wanted('3'));
      backend.want(key('b'), null);
      await backend.settled();
      expect(await read('a', 'b')).toEqual(['3', undefined]);
      expect(backend.stats()).toMatchObject({ pending: 0, failures: 0, conflicts: [], foreign: [] });
    });

    it('is settled when nothing is wanted, and after complete', async () => {
      const { backend } = start('one');
      await backend.settled();
      backend.complete();
      await backend.settled();
      expect(backend.stats()).toMatchObject({ wanted: 0, writes: 0 });
    });

    it('makes the last of many quick wishes true', async () => {
      const { backend } = start('one');
      for (let round = 0; round < 200; round += 1) {
        backend.want(key('a'), round % 3 === 0 ? null : wanted(String(round)));
        backend.want(key('b'), round % 2 === 0 ? null : wanted(String(round)));
        backend.want(key('c'), round % 2 === 1 ? null : wanted(String(round)));
        if (round % 20 === 0) await delay(3);
      }
      await backend.settled();
      expect(await read('a', 'b', 'c')).toEqual(['199', '199', undefined]);
    });

    it('writes nothing for what is wanted again as it is', async () => {
      const { backend } = start('one');
      backend.want(key('a'), wanted('1'));
      await backend.settled();
      const { writes } = backend.stats();
      expect(writes).toBeGreaterThan(0);
      backend.want(key('a'), wanted('1'));
      backend.complete();
      await backend.settled();
      expect(backend.stats().writes).toBe(writes);
    });

    it('is taken over by the next process of an owner with no write, and then without what nobody wants', async () => {
      const first = start('one');
      for (const one of ['a', 'b', 'c']) first.backend.want(key(one), wanted(one));
      await first.backend.settled();
      await kill(first);
      const { backend } = start('one');
      backend.want(key('a'), wanted('a'));
      backend.want(key('b'), wanted('b'));
      await backend.settled();
      expect(backend.stats().writes).toBe(0);
      expect(await read('a', 'b', 'c')).toEqual(['a', 'b', 'c']);
      backend.complete();
      await backend.settled();
      expect(await read('a', 'b', 'c')).toEqual(['a', 'b', undefined]);
    });

    it('withdraws what a process before has left, when that is said before all is known', async () => {
      const first = start('one');
      first.backend.want(key('a'), wanted('a'));
      await first.backend.settled();
      await kill(first);
      const { backend } = start('one');
      backend.want(key('a'), null);
      await backend.settled();
      expect(await read('a')).toEqual([undefined]);
    });

    it('lets be what other owners and strangers have there', async () => {
      const [one, two] = [start('one'), start('two')];
      one.backend.want(key('a'), wanted('a'));
      two.backend.want(key('b'), wanted('b'));
      await world.putByStranger(key('c'), 'c');
      await Promise.all([one.backend.settled(), two.backend.settled()]);
      one.backend.want(key('c'), null);
      one.backend.complete();
      await one.backend.settled();
      await close(one, 'withdraw');
      expect(await read('a', 'b', 'c')).toEqual([undefined, 'b', 'c']);
      await world.removeByStranger(key('c'));
    });

    it('leaves a stranger a key, tells of it once, and takes it when it is free', async () => {
      const told: string[] = [];
      const log = createLog('warn', { write: (line: string) => void told.push(line) });
      const { backend } = start('one', log);
      await world.putByStranger(key('a'), 'theirs');
      backend.want(key('a'), wanted('ours'));
      backend.want(key('b'), wanted('b'));
      await backend.settled();
      backend.want(key('a'), wanted('ours again'));
      await backend.settled();
      expect(await read('a', 'b')).toEqual(['theirs', 'b']);
      expect(backend.stats().foreign).toEqual([key('a')]);
      expect(told.filter((line) => line.includes(key('a')))).toHaveLength(1);
      await world.removeByStranger(key('a'));
      await expect.poll(() => read('a'), { timeout: 10_000 }).toEqual(['ours again']);
      await backend.settled();
      expect(backend.stats().foreign).toEqual([]);
    });

    it('does not withdraw a key that a stranger has, and forgets that it was wanted', async () => {
      const { backend } = start('one');
      await world.putByStranger(key('a'), 'theirs');
      backend.want(key('a'), wanted('ours'));
      await backend.settled();
      backend.want(key('a'), null);
      await backend.settled();
      expect(await read('a')).toEqual(['theirs']);
      expect(backend.stats().foreign).toEqual([]);
      await world.removeByStranger(key('a'));
    });

    it('takes the key of a stranger when the wish says so', async () => {
      const { backend } = start('one');
      await world.putByStranger(key('a'), 'theirs');
      backend.want(key('a'), wanted('ours', { overwrite: true }));
      await backend.settled();
      expect(await read('a')).toEqual(['ours']);
      expect(backend.stats().foreign).toEqual([]);
      backend.want(key('a'), null);
      await backend.settled();
      expect(await read('a')).toEqual([undefined]);
    });

    it('withdraws all at the end, also what is left from before', async () => {
      const first = start('one');
      first.backend.want(key('a'), wanted('a'));
      await first.backend.settled();
      await kill(first);
      const second = start('one');
      second.backend.want(key('b'), wanted('b'));
      await second.backend.settled();
      await close(second, 'withdraw');
      expect(await read('a', 'b')).toEqual([undefined, undefined]);
      second.backend.want(key('c'), wanted('c'));
      await delay(100);
      expect(await read('c')).toEqual([undefined]);
    });

    it('leaves all for the next process when it hands over', async () => {
      const first = start('one');
      first.backend.want(key('a'), wanted('a'));
      await first.backend.settled();
      await close(first, 'hand-over');
      expect(await read('a')).toEqual(['a']);
      const { backend } = start('one');
      backend.want(key('a'), wanted('a'));
      await backend.settled();
      expect(backend.stats().writes).toBe(0);
    });

    it('has hundreds of keys', async () => {
      const names = Array.from({ length: 500 }, (_, index) => `n${String(index)}`);
      const first = start('one');
      for (const one of names) first.backend.want(key(one), wanted(one));
      expect(first.backend.stats()).toMatchObject({ wanted: 500 });
      await first.backend.settled();
      expect(await read(...names)).toEqual(names);
      await kill(first);
      const second = start('one');
      for (const one of names.slice(1)) second.backend.want(key(one), wanted(one));
      second.backend.complete();
      await second.backend.settled();
      expect(second.backend.stats().writes).toBe(1);
      await close(second, 'withdraw');
      expect(await read(...names)).toEqual(names.map(() => undefined));
    });

    it('has all that is wanted when the store comes later', async () => {
      await world.stopStore();
      const { backend } = start('one');
      backend.want(key('a'), wanted('a'));
      let isSettled = false;
      const settled = backend.settled().then(() => (isSettled = true));
      await delay(600);
      expect(isSettled).toBe(false);
      await world.startStore();
      await settled;
      expect(await read('a')).toEqual(['a']);
    });

    it('has all that was wanted when the store was away', async () => {
      const { backend } = start('one');
      for (const one of ['a', 'b', 'c']) backend.want(key(one), wanted(one));
      await backend.settled();
      await world.stopStore();
      backend.want(key('b'), wanted('changed'));
      backend.want(key('c'), null);
      backend.want(key('d'), wanted('d'));
      await delay(600);
      await world.startStore();
      await backend.settled();
      await expect
        .poll(() => read('a', 'b', 'c', 'd'), { timeout: 10_000 })
        .toEqual(['a', 'changed', undefined, 'd']);
    });

    it('ends in time while the store is away', async () => {
      const first = start('one');
      first.backend.want(key('a'), wanted('a'));
      await first.backend.settled();
      await world.stopStore();
      const startMs = performance.now();
      await close(first, 'withdraw');
      // It gives up after five seconds; this is no measurement.
      expect(performance.now() - startMs).toBeLessThan(20_000);
      await world.startStore();
      const { backend: again } = start('one');
      again.complete();
      await expect.poll(() => read('a'), { timeout: 10_000 }).toEqual([undefined]);
    });
  });
}
