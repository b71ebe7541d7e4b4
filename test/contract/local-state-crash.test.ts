/** A process that keeps its state itself is killed: what it had acknowledged is there, and all else whole or not at all. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FailPoint } from '../../src/lib/fail-points.js';
import { createLog } from '../../src/log.js';
import { openLocalState } from '../../src/state/local-state.js';
import { randomOf } from '../support/random.js';

const KILLS = Number(process.env['STATE_KILLS'] ?? '12');
const SEED = Number(process.env['STATE_SEED'] ?? String(Date.now() % 1_000_000));
const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let home: string;
let directory: string;
let order: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'openebs-crash-'));
  directory = join(home, 'state');
  order = join(home, 'order');
  mkdirSync(directory);
});

afterEach(() => {
  rmSync(home, { recursive: true });
});

interface Acknowledged {
  readonly number: number;
  readonly revision: number;
}

/** Runs a writer until it is killed; answers the last write of each key that it was told of, and how many there were. */
async function runUntilKilled(kill: (ready: Promise<unknown>, end: () => void) => Promise<void>) {
  const args = ['--import', 'tsx', 'test/support/state-writer.ts', directory, order];
  const writer = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  const ready = Promise.withResolvers<undefined>();
  writer.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    ready.resolve(undefined);
  });
  const ended = once(writer, 'close');
  void ended.then(() => {
    ready.reject(new Error('it ended before it was ready'));
  });
  await kill(ready.promise, () => writer.kill('SIGKILL'));
  await ended;
  expect(writer.signalCode).toBe('SIGKILL');
  const last = new Map<string, Acknowledged>();
  const acks = [...output.matchAll(/^ack (\S+) (\d+) (\d+)$/gm)];
  for (const [, key = '', number, revision] of acks) {
    last.set(key, { number: Number(number), revision: Number(revision) });
  }
  return { last, count: acks.length };
}

/** Each key has what was acknowledged last, or the write that was under way when the process died. */
async function expectNothingLost(last: ReadonlyMap<string, Acknowledged>): Promise<void> {
  const state = await openLocalState({ directory, shown: directory, log: ctx.log, leastBytes: 4000 });
  const { entries, revision } = await state.range(ctx, '');
  await state.close();
  const found = new Map(entries.map((entry) => [entry.key, entry]));
  for (const [key, acknowledged] of last) {
    const pair = found.get(`${key}/pair`);
    const number = Number(pair?.value);
    expect([acknowledged.number, acknowledged.number + 1], key).toContain(number);
    const value = number % 7 === 6 ? undefined : `${String(number)}-${'.'.repeat(number % 700)}`;
    expect(found.get(key)?.value, key).toBe(value);
    if (number === acknowledged.number) expect(pair?.modRevision).toBe(acknowledged.revision);
    expect(revision).toBeGreaterThanOrEqual(acknowledged.revision);
  }
  // Of what died, sockets and unfinished files, the next process takes all away.
  expect(readdirSync(directory)).toEqual(['state']);
}

describe('a process that keeps its state itself', () => {
  it(
    'loses nothing acknowledged when it is killed at random, again and again',
    async () => {
      console.log(`STATE_SEED=${String(SEED)} STATE_KILLS=${String(KILLS)}`);
      const random = randomOf(SEED);
      let total = 0;
      for (let round = 0; round < KILLS; round += 1) {
        const { last, count } = await runUntilKilled(async (ready, end) => {
          await ready;
          await delay(random() * 400);
          end();
        });
        await expectNothingLost(last);
        total += count;
      }
      console.log(`${String(total)} acknowledged writes, 0 lost`);
      expect(total).toBeGreaterThan(KILLS * 10);
    },
    60_000 + KILLS * 5000,
  );

  const points: readonly (readonly [FailPoint, number])[] = (
    [
      'before state write',
      'before state flush',
      'after state flush',
      'before file rename',
      'after file rename',
    ] as const
  ).flatMap((point) => [1, 2, 9].map((hit) => [point, hit] as const));

  it.each(points)('loses nothing acknowledged when it dies %s, at hit %i', async (point, hit) => {
    for (const round of [1, 2]) {
      writeFileSync(order, JSON.stringify({ action: 'kill', point, hit }));
      // Nobody ends it but the point itself.
      const { last } = await runUntilKilled(() => Promise.resolve());
      await expectNothingLost(last);
      expect(readdirSync(home), String(round)).toContain('order.fired');
      rmSync(join(home, 'order.fired'));
    }
  });
});
