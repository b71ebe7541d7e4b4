import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../src/context.js';
import { type Address, type Discovery, findLimits } from '../../src/cluster/discovery/discovery.js';
import { formatAddress } from '../../src/cluster/discovery/address.js';
import { createLog } from '../../src/log.js';

/** What a discovery asks, and what it knows. */
export interface DiscoveryWorld {
  /** As errors and peers say it: `dns:example.org`. */
  readonly name: string;
  readonly discovery: Discovery;
  /** From now on these are all that are to be found. */
  publish(peers: readonly Address[]): Promise<void>;
  /** Whoever is asked takes questions and answers none. */
  readonly silence?: Trouble;
  /** Whoever is asked is gone, or refuses. */
  readonly absence?: Trouble;
  end(): Promise<void>;
}

export interface Trouble {
  begin(): Promise<void>;
  end(): Promise<void>;
}

export interface Traits {
  /** What nobody's answer means: to who asks whoever may be there, that there is nobody. never: nobody is asked. */
  readonly silence: 'fails' | 'none' | 'never';
  /** Whether somebody has to be there. */
  readonly absence: 'fails' | 'never';
}

/** Of the join server, where nothing else is said. */
export const DEFAULT_PORT = 23_792;
/** Of a search of a silent source, in these tests. */
export const LIMIT_MS = 2_500;

export function newCtx(signal = new AbortController().signal): Ctx {
  return { log: createLog('silent'), signal, requestId: 'test' };
}

const peer = (number: number): Address => ({ host: `10.9.0.${String(number)}`, port: DEFAULT_PORT });
const three = [peer(1), peer(2), peer(3)];

/** What every discovery promises. */
export function describeDiscovery(
  kind: string,
  traits: Traits,
  factory: () => Promise<DiscoveryWorld>,
): void {
  describe(`discovery by ${kind}`, () => {
    let world: DiscoveryWorld;
    beforeEach(async () => {
      world = await factory();
    });
    afterEach(async () => {
      await world.end();
    });

    const find = async (ctx = newCtx()) => (await world.discovery.find(ctx)).map(formatAddress).toSorted();
    const refusal = async (ctx = newCtx()): Promise<unknown> =>
      world.discovery.find(ctx).then(
        (found) => found,
        (reason: unknown) => reason,
      );
    const failsNaming = (code: string) => ({
      name: 'AppError',
      code,
      message: expect.stringMatching(new RegExp(`^discovery ${escape(world.name)}: [a-z]`)) as string,
    });

    it('finds what is there, and says who has found it', async () => {
      await world.publish(three);
      expect(await find()).toEqual(three.map(formatAddress));
      expect((await world.discovery.find(newCtx()))[0]).toEqual({
        host: expect.stringContaining('10.9.0.') as string,
        port: DEFAULT_PORT,
        from: world.name,
      });
    });

    it('finds what is there now', async () => {
      await world.publish([peer(1)]);
      expect(await find()).toEqual([formatAddress(peer(1))]);
      await world.publish([peer(2)]);
      expect(await find()).toEqual([formatAddress(peer(2))]);
    });

    it('names each once', async () => {
      await world.publish([peer(1), peer(2), peer(1)]);
      expect(await find()).toEqual([peer(1), peer(2)].map(formatAddress));
    });

    it('answers that there are none', async () => {
      await world.publish([]);
      expect(await find()).toEqual([]);
    });

    it('names no more than a joiner would try', async () => {
      const many = Array.from({ length: findLimits.peers + 6 }, (_, index) => peer(index + 1));
      await world.publish(many);
      const found = await find();
      expect(found).toHaveLength(findLimits.peers);
      expect(many.map(formatAddress)).toEqual(expect.arrayContaining(found));
    });

    it('is asked by several at once', async () => {
      await world.publish(three);
      expect(await Promise.all([find(), find(), find()])).toEqual(Array(3).fill(three.map(formatAddress)));
    });

    it('does not begin for a caller that is gone', async () => {
      await world.publish(three);
      expect(await refusal(newCtx(AbortSignal.abort()))).toMatchObject(failsNaming('canceled'));
    });

    if (traits.silence !== 'never')
      it('ends with its caller, and goes on for the next', async () => {
        await world.publish(three);
        await world.silence?.begin();
        const caller = new AbortController();
        const ended = refusal(newCtx(caller.signal));
        setTimeout(() => {
          caller.abort();
        }, 100);
        expect(await ended).toMatchObject(failsNaming('canceled'));
        await world.silence?.end();
        expect(await find()).toEqual(three.map(formatAddress));
      });

    if (traits.silence !== 'never')
      it('does not wait for ever', async () => {
        await world.publish(three);
        await world.silence?.begin();
        if (traits.silence === 'none') expect(await refusal()).toEqual([]);
        else expect(await refusal()).toMatchObject(failsNaming('unavailable'));
        await world.silence?.end();
        expect(await find()).toEqual(three.map(formatAddress));
      });

    if (traits.absence === 'fails')
      it('says whom it could not ask', async () => {
        await world.publish(three);
        await world.absence?.begin();
        expect(await refusal()).toMatchObject(failsNaming('unavailable'));
        await world.absence?.end();
        expect(await find()).toEqual(three.map(formatAddress));
      });
  });
}

function escape(text: string): string {
  return text.replaceAll('.', '\\.');
}
