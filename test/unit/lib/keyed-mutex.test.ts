import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KeyedMutex } from '../../../src/lib/keyed-mutex.js';

const never = new AbortController().signal;

/** An operation that runs until it is let go, and says when it has begun. */
function held() {
  const begun = Promise.withResolvers<undefined>();
  const release = Promise.withResolvers<undefined>();
  const operation = async () => {
    begun.resolve(undefined);
    await release.promise;
  };
  return { operation, begun: begun.promise, release: release.resolve as () => void };
}

const turns = async (count = 5) => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

describe('a keyed mutex', () => {
  it('runs operations of one key one after the other, in order of arrival', async () => {
    const mutex = new KeyedMutex();
    const seen: string[] = [];
    const operation = (name: string) => async () => {
      seen.push(`${name} begins`);
      await turns(2);
      seen.push(`${name} ends`);
    };
    await Promise.all(['a', 'b', 'c'].map((name) => mutex.run('db', never, operation(name))));
    expect(seen).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
  });

  it('runs different keys side by side', async () => {
    const mutex = new KeyedMutex();
    const one = held();
    const other = held();
    const both = [mutex.run('one', never, one.operation), mutex.run('other', never, other.operation)];
    await Promise.all([one.begun, other.begun]);
    one.release();
    other.release();
    await Promise.all(both);
  });

  it('hands on the result and the failure, and goes on after a failure', async () => {
    const mutex = new KeyedMutex();
    const failing = mutex.run('db', never, () => Promise.reject(new Error('no')));
    const after = mutex.run('db', never, () => Promise.resolve(7));
    await expect(failing).rejects.toThrow('no');
    await expect(after).resolves.toBe(7);
  });

  it('lets a waiter that gives up leave at once, without having run', async () => {
    const mutex = new KeyedMutex();
    const first = held();
    const holding = mutex.run('db', never, first.operation);
    const patience = new AbortController();
    let ran = false;
    const waiting = mutex.run('db', patience.signal, () => Promise.resolve((ran = true)));
    patience.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    first.release();
    await holding;
    expect(ran).toBe(false);
  });

  it('does not run what is aborted already, also when the key is free', async () => {
    let ran = false;
    const run = new KeyedMutex().run('db', AbortSignal.abort(new Error('gone')), () =>
      Promise.resolve((ran = true)),
    );
    await expect(run).rejects.toThrow('gone');
    expect(ran).toBe(false);
  });

  it('keeps the key for its holder when the last waiter gives up and another comes', async () => {
    const mutex = new KeyedMutex();
    const first = held();
    const holding = mutex.run('db', never, first.operation);
    await first.begun;
    const patience = new AbortController();
    const waiting = mutex.run('db', patience.signal, () => Promise.resolve());
    patience.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await turns();

    let overlapped = false;
    const third = mutex.run('db', never, () => Promise.resolve((overlapped = true)));
    await turns();
    expect(overlapped).toBe(false);
    first.release();
    await holding;
    await third;
    expect(overlapped).toBe(true);
  });

  it('never runs two at once, whoever gives up when', async () => {
    const step = fc.record({ patience: fc.option(fc.nat(12)), work: fc.nat(6), pause: fc.nat(4) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
        const mutex = new KeyedMutex();
        let running = 0;
        let most = 0;
        const calls: Promise<void>[] = [];
        for (const { patience, work, pause } of steps) {
          const giveUp = new AbortController();
          if (patience !== null) {
            void turns(patience).then(() => {
              giveUp.abort(new Error('gone'));
            });
          }
          calls.push(
            mutex
              .run('db', giveUp.signal, async () => {
                most = Math.max(most, ++running);
                await turns(work);
                running--;
              })
              .catch(() => undefined),
          );
          await turns(pause);
        }
        await Promise.all(calls);
        expect(most).toBeLessThanOrEqual(1);
      }),
      { numRuns: 60 },
    );
  });
});
