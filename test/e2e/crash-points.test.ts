/**
 * The plugin dies at each named point of create, mount, unmount and remove, and at random. What is there afterwards
 * is compared with what a volume has that met nothing: the same containers, files, keys, ports and devices after
 * each operation, and nothing at all after its removal.
 *
 * CRASH_POINTS=all kills at every hit of every point, which takes minutes: without it at a part of them, which the
 * seed says (test/unit/volumes/crash-model.test.ts goes through all of them on a host in memory). CRASH_SECONDS and
 * CRASH_SEED say how long and how it is killed at random.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { FailPoint } from '../../src/lib/fail-points.js';
import { arm, diesThere, disarm, recorded, restarted, startCrashHost } from '../support/crash.js';
import type { Result } from '../support/exec.js';
import { sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { type Call, describeCalls, linearize, type PlannedCall, runClients } from '../support/linearize.js';
import { createRandom } from '../soak/random.js';
import {
  driverCall,
  driverSocket,
  inside,
  statusOf,
  tidy,
  tracesOf,
  type Traces,
} from '../support/product.js';

const operations = ['create', 'mount', 'unmount', 'remove'] as const;
type Operation = (typeof operations)[number];
/** What is there after each. */
type Model = Record<Operation, Traces>;

interface Hit {
  readonly operation: Operation;
  readonly point: FailPoint;
  readonly hit: number;
}

let host: LabHost;
let socket: string;
let model: Model;
const hits: Record<Operation, Hit[]> = { create: [], mount: [], unmount: [], remove: [] };

const run: Record<Operation, (name: string) => Promise<Result>> = {
  create: (name) => host.docker('volume', 'create', '-d', 'openebs', '-o', 'size=64M', name),
  mount: (name) => host.docker('start', `c-${name}`),
  unmount: (name) => host.docker('kill', `c-${name}`),
  remove: (name) => host.docker('volume', 'rm', name),
};

const makeContainer = (name: string) =>
  host.ok('create', '--name', `c-${name}`, '--network', 'none', '-v', `${name}:/data`, 'lab');
const write = (name: string) => inside(host, `c-${name}`, 'echo kept >/data/file; sync /data/file');
const read = (name: string) => inside(host, `c-${name}`, 'cat /data/file');

/** The traces of a volume, whatever its id, its container's name, its epoch and the number of its loop device. */
async function seen(): Promise<Traces> {
  const traces = await tracesOf(host);
  const text = JSON.stringify({ ...traces, loops: traces.loops.map(() => 'loop') });
  const id = /"\/openebs\/targets\/([^/"]+)\//.exec(text)?.[1];
  const same = id === undefined ? text : text.replaceAll(id, 'ID');
  return JSON.parse(
    same.replaceAll(/(c-)?life-[a-z]+-\d+/g, '$1NAME').replaceAll(/secret-\d+/g, 'secret-EPOCH'),
  ) as Traces;
}

async function expectModel(operation: Operation, what: string, timeoutMs = 15_000): Promise<void> {
  let now: Traces | undefined;
  await waitFor(
    what,
    async () => {
      now = await seen();
      return JSON.stringify(now) === JSON.stringify(model[operation]);
    },
    { timeoutMs, everyMs: 300 },
  ).catch(() => undefined);
  expect(now, what).toEqual(model[operation]);
}

/** In the middle of a step, which has acted before. */
const within: readonly FailPoint[] = [
  'before file rename',
  'before backing size',
  'before mount',
  'before data directory',
  'before mountpoint remove',
];

/** What the plugin mounts for a look of the engine, once after its start, is part of no operation. */
const isProbe = (before: FailPoint | undefined, point: FailPoint): boolean =>
  point === 'before mountpoint remove' && before !== 'before unmountFileSystem';

/** Nothing acts between two points like these: to die at the one or at the other leaves the same. */
function isSame(before: FailPoint | undefined, point: FailPoint): boolean {
  if (before === undefined || before === 'after container create' || before === 'after container remove')
    return false;
  if (before === 'before makeFileSystem') return false;
  if (within.includes(point)) return false;
  return before.startsWith('after') || point.startsWith('before');
}

const all = process.env['CRASH_POINTS'] === 'all';
const seed = Number(process.env['CRASH_SEED'] ?? Date.now() % 1_000_000);
const randomSeconds = Number(process.env['CRASH_SECONDS'] ?? '15');
/** Lives with a kill in create, mount and remove each, lives with one in unmount, and of those the ones that wait. */
const livesInCi = { up: 6, down: 4, givenBack: 2 };
/**
 * The engine does not repeat an unmount: what is counted without a container is found by the plugin's timer, and an
 * initiator that was just told to stop is left alone for 150 s (src/volumes/detachable.ts).
 */
const GIVEN_BACK_MS = 200_000;

function hitsOf(operation: Operation, points: readonly FailPoint[]): Hit[] {
  const count = new Map<FailPoint, number>();
  return points.flatMap((point, index) => {
    if (isProbe(points[index - 1], point)) return [];
    const hit = (count.get(point) ?? 0) + 1;
    count.set(point, hit);
    return isSame(points[index - 1], point) ? [] : [{ operation, point, hit }];
  });
}

/** So many of them, evenly spread, from where the seed says. */
function choose<T>(items: readonly T[], count: number): T[] {
  if (all || items.length <= count) return [...items];
  return Array.from({ length: count }, (_, index) => {
    const at = Math.floor((index * items.length) / count) + seed;
    return items[at % items.length]!;
  });
}

const givenBack = (name: string, timeoutMs = 30_000) =>
  waitFor(`${name} is given back`, async () => (await statusOf(host, name)).attachedTo === '', { timeoutMs });

/** One life of a volume that meets nothing: which points there are, and what is there after each operation. */
async function learn(): Promise<Model> {
  const after: Partial<Model> = {};
  const name = 'life-model-0';
  for (const operation of operations) {
    if (operation === 'mount') await makeContainer(name);
    const points = await recorded(host, async () => {
      const result = await run[operation](name);
      expect(result.code, result.stderr).toBe(0);
      // Behind the answer to `docker kill` the volume is still given back.
      if (operation === 'unmount') await givenBack(name);
    });
    hits[operation] = choose(
      hitsOf(operation, points),
      operation === 'unmount' ? livesInCi.down : livesInCi.up,
    );
    if (operation === 'unmount') await host.ok('rm', '-v', `c-${name}`);
    after[operation] = await seen();
  }
  return after as Model;
}

beforeAll(async () => {
  host = await startCrashHost({ name: 'crash' });
  socket = await driverSocket(host);
  // The first volume makes directories that stay.
  await run.create('first');
  await run.remove('first');
  model = await learn();
});

afterEach(async () => {
  disarm(host);
  await tidy(host);
});

afterAll(async () => {
  await host.close();
});

/** Does it with the plugin dying on the way, waits until it is back, and does it again. */
async function killedAt({ operation, point, hit }: Hit, name: string): Promise<void> {
  const what = `${operation}, killed ${point} (${String(hit)})`;
  const killed = await host.pluginPid();
  arm(host, { action: 'kill', point, hit });
  const [first] = await Promise.all([
    run[operation](name),
    diesThere(host).catch((reason: unknown) => {
      throw new Error(what, { cause: reason });
    }),
  ]);
  await restarted(host, killed, socket);
  if (first.code === 0 || operation === 'unmount') return;
  const second = await run[operation](name);
  // The next process has finished the removal before it was asked again.
  if (operation === 'remove' && second.stderr.includes('no such volume')) return;
  expect(second.code, `${what}, tried again: ${second.stderr}`).toBe(0);
}

interface Life {
  readonly kill: Partial<Record<Operation, Hit>>;
  /** What an unmount that was cut off means: the next start at once, or a look at what it leaves before. */
  readonly afterUnmount?: 'next start' | 'look';
}

async function live(name: string, { kill, afterUnmount = 'next start' }: Life): Promise<void> {
  const told = Object.values(kill)
    .map(({ operation, point, hit }) => `${operation} ${point} (${String(hit)})`)
    .join(', ');
  const step = async (operation: Operation): Promise<void> => {
    const hit = kill[operation];
    if (hit) return killedAt(hit, name);
    const result = await run[operation](name);
    expect(result.code, `${told}: ${operation}: ${result.stderr}`).toBe(0);
  };
  const since = Date.now();
  await step('create');
  await expectModel('create', `after create: ${told}`);
  await makeContainer(name);
  await step('mount');
  await write(name);
  if (kill.unmount) {
    await step('unmount');
    if (afterUnmount === 'look') {
      await host.ok('rm', '-v', `c-${name}`);
      await expectModel('unmount', `after unmount: ${told}`, GIVEN_BACK_MS);
      await makeContainer(name);
    }
    await host.ok('start', `c-${name}`);
  } else await host.ok('restart', '-t', '0', `c-${name}`);
  expect(await read(name), told).toBe('kept');
  await expectModel('mount', `after mount: ${told}`);
  await host.ok('rm', '-f', `c-${name}`);
  await step('remove');
  await expectModel('remove', `after remove: ${told}`);
  console.log(`${String(Date.now() - since)} ms  ${told}${kill.unmount ? `, ${afterUnmount}` : ''}`);
}

describe('a plugin killed', () => {
  test('at points of create, mount and remove: the same again succeeds, the data is there, nothing is left', async () => {
    console.log(
      `CRASH_SEED=${String(seed)}`,
      operations.map((name) => `${name}: ${String(hits[name].length)} points`).join(', '),
    );
    const lives = Math.max(hits.create.length, hits.mount.length, hits.remove.length);
    for (let index = 0; index < lives; index += 1) {
      const kill: Partial<Record<Operation, Hit>> = {};
      for (const operation of ['create', 'mount', 'remove'] as const) {
        const hit = hits[operation][index];
        if (hit) kill[operation] = hit;
      }
      await live(`life-up-${String(index)}`, { kill });
    }
  }, 1_800_000);

  test('at points of unmount: the volume mounts again with its data, and goes without a trace', async () => {
    for (const [index, hit] of hits.unmount.entries()) {
      if (!all && index < livesInCi.givenBack) continue;
      await live(`life-down-${String(index)}`, { kill: { unmount: hit } });
    }
  }, 1_800_000);

  test('at points of unmount: the volume is given back without another call, and mounts with its data', async () => {
    for (const [index, hit] of hits.unmount.entries()) {
      if (!all && index >= livesInCi.givenBack) break;
      await live(`life-back-${String(index)}`, { kill: { unmount: hit }, afterUnmount: 'look' });
    }
  }, 3_600_000);

  test(
    'at random, while volumes come and go: every call that is tried again succeeds, data is kept, nothing is left',
    async () => {
      const random = createRandom(seed);
      console.log(`CRASH_SEED=${String(seed)} CRASH_SECONDS=${String(randomSeconds)}`);
      const until = Date.now() + randomSeconds * 1000;
      const written: string[] = [];
      while (Date.now() < until) {
        const name = `life-random-${String(written.length)}`;
        await again('create', name);
        await makeContainer(name);
        const kills = killAfter(100 + random.below(3000));
        for (const operation of ['mount', 'unmount'] as const) await run[operation](name);
        await kills;
        await again('mount', name);
        await write(name);
        await host.ok('rm', '-f', `c-${name}`);
        written.push(name);
      }
      for (const name of written) {
        // A mount whose answer was lost is still counted: what was never unmounted would prove nothing.
        await givenBack(name, GIVEN_BACK_MS);
        await makeContainer(name);
        await again('mount', name);
        expect(await read(name), `CRASH_SEED=${String(seed)} ${name}`).toBe('kept');
        await host.ok('rm', '-f', `c-${name}`);
        const kills = killAfter(random.below(800));
        await run.remove(name);
        await kills;
        await again('remove', name);
      }
      await expectModel('remove', `CRASH_SEED=${String(seed)}`);
    },
    300_000 + randomSeconds * 3000,
  );
});

async function again(operation: Operation, name: string): Promise<void> {
  const { code, stderr } = await run[operation](name);
  if (operation === 'remove' && stderr.includes('no such volume')) return;
  expect(code, `CRASH_SEED=${String(seed)} ${operation} ${name}: ${stderr}`).toBe(0);
}

async function killAfter(delayMs: number): Promise<void> {
  await sleep(delayMs);
  await restarted(host, await host.killPlugin(), socket);
}

test.each([2, 10])(
  '%i clients at once, on one volume and on three, see what some order of their calls explains',
  async (count) => {
    const random = createRandom(seed);
    const oneOf = <T>(items: readonly T[]): T => items[random.below(items.length)]!;
    const kinds = ['create', 'create', 'mount', 'mount', 'unmount', 'unmount', 'remove', 'get'] as const;
    for (const volumes of [['one'], ['one', 'two', 'three']]) {
      const clients = Array.from({ length: count }, (_, client) =>
        Array.from({ length: (volumes.length === 1 ? 20 : 30) / count }, (): PlannedCall => ({
          volume: oneOf(volumes),
          operation: oneOf(kinds),
          mountId: oneOf(['shared', `m${String(client)}`]),
        })),
      );
      const history = await runClients(clients, askDriver);
      for (const [volume, calls] of history) {
        const told = `CRASH_SEED=${String(seed)}: no order explains ${volume}:\n${describeCalls(calls)}`;
        expect(linearize(calls), told).not.toBeNull();
      }
      await giveAllBack(history);
    }
    await expectModel('remove', `CRASH_SEED=${String(seed)}`);
  },
);

interface DriverAnswer {
  readonly Err?: string;
  readonly Volume?: { readonly Status: { readonly mountsHere: number } };
}

/** One call at the driver's socket, and its outcome in the model's words. */
async function askDriver({ volume, operation, mountId }: PlannedCall): Promise<string> {
  const method = operation.charAt(0).toUpperCase() + operation.slice(1);
  const body = { Name: volume, ID: mountId, ...(operation === 'create' ? { Opts: { size: '64M' } } : {}) };
  const answer = (await driverCall(host, method, body)) as DriverAnswer;
  const error = answer.Err ?? '';
  if (error.includes('does not exist')) return operation === 'get' ? 'absent' : 'not_found';
  if (/not unmounted since|is in use/.test(error)) return 'in_use';
  if (error !== '') return error;
  if (operation !== 'get') return 'ok';
  return String(answer.Volume?.Status.mountsHere);
}

/** Gives back each mount that was answered and not given back, and removes the volumes. */
async function giveAllBack(history: ReadonlyMap<string, readonly Call[]>): Promise<void> {
  for (const [volume, calls] of history) {
    for (const { operation, mountId } of calls) {
      if (operation === 'mount') await driverCall(host, 'Unmount', { Name: volume, ID: mountId });
    }
    const { Err } = await driverCall(host, 'Remove', { Name: volume });
    expect(Err, `${volume} is removed`).toBe('');
  }
}
