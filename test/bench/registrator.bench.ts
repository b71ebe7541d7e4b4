/** The registrator's figures beside their bars, as those of the volumes in main.bench.ts. */
import { spawn } from 'node:child_process';
import { Agent, request } from 'node:http';
import { afterAll, afterEach, beforeAll, test } from 'vitest';
import type { Ctx } from '../../src/context.js';
import { createEventStream } from '../../src/docker/events.js';
import { createLog } from '../../src/log.js';
import { createClaimKeeper } from '../../src/registrator/claims/keeper.js';
import { loadUserPolicy } from '../../src/registrator/policies/library/user-policy.js';
import { createSandbox } from '../../src/registrator/policies/sandbox.js';
import { subjectOf } from '../../src/registrator/policies/subject.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { keys } from '../../src/state/keys.js';
import type { State } from '../../src/state/state.js';
import { startEtcd, type TestEtcd } from '../support/etcd.js';
import { sleep, waitFor } from '../support/exec.js';
import { startLabHost } from '../support/lab.js';
import { inspectionOf, startFakeContainers, type FakeContainers } from './fake-containers.js';
import { compile, startRegistrator, type Compiled, type RegistratorProcess } from './registrator-process.js';
import { atLeast, atMost, median, percentile, report, timedMs } from './table.js';

const log = createLog('silent');
const ctx: Ctx = { log, signal: new AbortController().signal, requestId: 'bench' };
const DEBOUNCE_MS = 50;
/** Made and removed, 50 of each in a second. */
const VOLUMES = 1000;
let compiled: Compiled;
let etcd: TestEtcd;
let state: State;
let cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  compiled = await compile();
  etcd = await startEtcd();
  state = createEtcdState({ endpoints: [etcd.endpoint], log });
});

afterAll(async () => {
  await state.close();
  await etcd[Symbol.asyncDispose]();
  compiled.remove();
  report('registrator');
});

afterEach(cleanUp);

/** Ends what a test has started, the last one first. */
async function cleanUp(): Promise<void> {
  for (const cleanup of cleanups.reverse()) await cleanup();
  cleanups = [];
}

async function fakeContainers(count: number): Promise<FakeContainers> {
  const world = await startFakeContainers(count);
  cleanups.push(() => world.engine.close());
  return world;
}

async function registrator(socket: string, node: string): Promise<RegistratorProcess> {
  const started = await startRegistrator(compiled, { socket, etcd: etcd.endpoint, node });
  cleanups.push(() => started.kill());
  return started;
}

const revision = async () => (await state.range(ctx, '/nothing/')).revision;

test('registrations in bulk', async () => {
  const count = 10_000;
  const puts = 60;
  const value = (index: number) => JSON.stringify({ address: '192.0.2.1', port: index, tags: ['a', 'b'] });
  const rawMs = await timedMs(async () => {
    for (let first = 0; first < count; first += puts) {
      const then = Array.from({ length: puts }, (_, index) => ({
        put: `/raw/${String(first + index)}`,
        value: value(index),
      }));
      await state.transact(ctx, { if: [], then });
    }
  });
  const own = createEtcdState({ endpoints: [etcd.endpoint], log });
  const keeper = createClaimKeeper({ state: own, owner: 'bulk', log });
  const wish = (index: number) =>
    ({ value: value(index), merge: 'min', overwrite: false, source: 'bench' }) as const;
  const tookMs = await timedMs(async () => {
    for (let index = 0; index < count; index += 1) keeper.want(`/bulk/${String(index)}`, wish(index));
    keeper.complete();
    await keeper.settled();
  });
  const { entries } = await state.range(ctx, '/bulk/');
  if (entries.length !== count) throw new Error(`${String(entries.length)} keys are there`);
  atLeast('registrations in bulk, 10,000 keys', count / (tookMs / 1000), {
    bar: 3000,
    unit: '/s',
    yardstick: `fixed; raw puts, 60 in a transaction: ${((count / rawMs) * 1000).toFixed(0)}/s, two for a registration`,
  });
  await keeper.close('withdraw');
  await own.close();
});

/** How many evaluations follow on each event. */
async function evaluationsPerEvent(world: FakeContainers, process: RegistratorProcess): Promise<number> {
  const name = 'openebs_policy_evaluation_seconds_count';
  const before = await process.metric(name);
  const events = 100;
  for (let index = 0; index < events; index += 1) {
    const id = world.ids[index % world.ids.length] ?? '';
    world.change(id);
    world.engine.emit(world.event('pause', id));
    // Apart from the one before of the same container: these would be one look.
    if (index % 10 === 9) await sleep(4 * DEBOUNCE_MS);
  }
  await process.settled();
  return ((await process.metric(name)) - before) / events;
}

test('a thousand containers', async () => {
  const few = await fakeContainers(10);
  const withFew = await evaluationsPerEvent(few, await registrator(few.engine.socketPath, 'few'));
  await cleanUp();

  const world = await fakeContainers(1000);
  const bytes = JSON.stringify(inspectionOf(world.ids[0] ?? '', { number: 1, version: 0 })).length;
  const process = await registrator(world.engine.socketPath, 'thousand');
  const { wanted = 0 } = (await process.stats()).backends['etcd'] ?? {};
  const { entries } = await state.range(ctx, `${keys.objects}thousand/container/`);
  if (entries.length !== 1000) throw new Error(`${String(entries.length)} containers are there`);
  atMost('1,000 containers: start to all registered', process.readyMs / 1000, {
    bar: 10,
    unit: 's',
    yardstick: `fixed; ${String(wanted)} keys, inspections of ${String(bytes)} bytes`,
  });
  await sleep(5000);
  atMost('1,000 containers: memory', process.rssMb(), { bar: 150, unit: 'MB', yardstick: 'fixed' });

  const [before, revisionBefore] = [await process.settled(), await revision()];
  const resyncMs = await timedMs(async () => {
    world.engine.cut();
    await waitFor(
      'all is looked at again',
      async () => {
        const { objects } = await process.stats();
        return objects.inspections >= before.objects.inspections + 1000 && objects.pending === 0;
      },
      { timeoutMs: 60_000, everyMs: 20 },
    );
    await process.settled();
  });
  atMost('1,000 containers: resync, writes', (await revision()) - revisionBefore, {
    bar: 0,
    unit: 'writes',
    yardstick: `fixed; took ${(resyncMs / 1000).toFixed(1)} s, reconnect and all`,
  });

  const withMany = await evaluationsPerEvent(world, process);
  atMost('evaluations per event, 1,000 objects', withMany, {
    bar: withFew,
    unit: '',
    yardstick: 'the same with 10 objects',
  });
});

test('a hundred thousand events', async () => {
  const world = await fakeContainers(200);
  const process = await registrator(world.engine.socketPath, 'many');
  let sent = 0;
  const emit = () => {
    sent += 1;
    if (sent % 20 === 0) {
      world.engine.emit(world.event('destroy', world.removeOldest()), world.event('create', world.add()));
      sent += 1;
      return;
    }
    const id = world.ids[sent % world.ids.length] ?? '';
    world.change(id);
    world.engine.emit(world.event('pause', id));
  };
  const emitUpTo = async (count: number) => {
    while (sent < count) {
      for (let burst = 0; burst < 200 && sent < count; burst += 1) emit();
      await world.engine.drained();
      await sleep(40);
    }
  };
  const restingMb = async () => {
    await process.settled();
    await sleep(5000);
    return process.rssMb();
  };
  // What Node compiles and keeps ready grows with the first of them.
  await emitUpTo(50_000);
  const early = await restingMb();
  const tookMs = await timedMs(() => emitUpTo(150_000));
  const lagMs = await timedMs(() => process.settled());
  const late = await restingMb();
  const heard = await process.metric('openebs_event_stream_events_total');
  const rate = (100_000 / tookMs) * 1000;
  atMost('memory after 100,000 more events', late, {
    bar: early * 1.1,
    unit: 'MB',
    yardstick: `1.1 x that before, after 50,000 others (${early.toFixed(0)} MB); ${String(heard)} events heard`,
  });
  atMost('the last event of these to all registered', lagMs, {
    bar: 1000,
    unit: 'ms',
    yardstick: `fixed; events came at ${rate.toFixed(0)}/s`,
  });
});

test("a policy of a user's in the sandbox", async () => {
  const sandbox = createSandbox();
  cleanups.push(() => sandbox.close());
  const source = `
    export function container({ name, container, inspect }) {
      const ports = container.ports.flatMap(({ port, published }) => published.map((to) => [port, to.port]));
      return { ['/app/' + inspect.Config.Image + '/' + name]: { host: container.networks.bridge.ip, ports } };
    }`;
  const policy = (await loadUserPolicy(sandbox, 'own', source)).instance('own', {});
  const id = '0123abcd'.repeat(8);
  const inspection = inspectionOf(id, { number: 7, version: 0 });
  const subject = subjectOf('container', id, inspection, { id: 'n', hostname: 'h', address: '192.0.2.1' });
  const times: number[] = [];
  for (let round = 0; round < 2000; round += 1) times.push(await timedMs(() => policy.run(subject)));
  const bytes = JSON.stringify(inspection).length;
  atMost('a policy in the sandbox, one container, median', median(times), {
    bar: 1,
    unit: 'ms',
    yardstick: `a hundredth of its limit; ${String(bytes)} bytes, p99 ${percentile(times, 0.99).toFixed(2)} ms`,
  });
});

/** Calls of an engine's API, each caller on a connection of its own. */
function apiOf(socketPath: string, callers: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: callers });
  cleanups.push(() => {
    agent.destroy();
    return Promise.resolve();
  });
  return (method: string, path: string, body?: unknown): Promise<void> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json' };
      const call = request({ socketPath, path, method, headers, agent }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => {
          if ((response.statusCode ?? 500) < 300) resolve();
          else reject(new Error(`${method} ${path}: ${text}`));
        });
      });
      call.on('error', reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
}

/**
 * From the time that the engine stamped on an event to the change in etcd, in milliseconds. A volume that is gone before
 * it was looked at never gets there, and is not among them.
 */
async function latencies(
  socketPath: string,
  node: string,
  settled: () => Promise<unknown>,
): Promise<number[]> {
  const api = apiOf(socketPath, 64);
  const stamped = new Map<string, number>();
  const seen = new Map<string, number>();
  const stream = createEventStream({ socketPath, log });
  stream.subscribe((items) => {
    for (const item of items) {
      if (item.kind === 'gap' || item.event.type !== 'volume') continue;
      stamped.set(`${item.event.action} ${item.event.actorId}`, Number(item.event.timeNano) / 1e6);
    }
  });
  const prefix = `${keys.objects}${node}/volume/`;
  const following = Promise.withResolvers<undefined>();
  const watch = state.watch(prefix, (event) => {
    if (event.type === 'snapshot') following.resolve(undefined);
    else
      for (const change of event.changes) {
        const [action, key] = change.type === 'put' ? ['create', change.entry.key] : ['destroy', change.key];
        seen.set(`${action} ${key.slice(prefix.length)}`, Date.now());
      }
  });
  await following.promise;
  await waitFor('the events are followed', () => stream.stats().connected);
  const calls: Promise<void>[] = [];
  const start = performance.now();
  const lives = 50;
  for (let index = 0; index < VOLUMES + lives; index += 1) {
    await sleep(Math.max(0, start + index * 20 - performance.now()));
    if (index < VOLUMES) calls.push(api('POST', '/volumes/create', { Name: `v${String(index)}` }));
    if (index >= lives) calls.push(api('DELETE', `/volumes/v${String(index - lives)}`));
  }
  await Promise.all(calls);
  await sleep(1000);
  await settled();
  await sleep(1000);
  watch.close();
  stream.close();
  const { entries } = await state.range(ctx, prefix);
  if (entries.length > 0) throw new Error(`${String(entries.length)} volumes are left in etcd`);
  return [...seen].flatMap(([what, at]) => {
    const from = stamped.get(what);
    return from === undefined ? [] : [at - from];
  });
}

test('from an event to etcd', async () => {
  const host = await startLabHost({ name: 'latency', images: false });
  cleanups.push(() => host.close());
  const process = await registrator(host.socket, 'latency');
  const times = await latencies(host.socket, 'latency', () => process.settled());
  const told = `${String(times.length)} of ${String(2 * VOLUMES)} events`;
  const bare: number[] = [];
  for (let round = 0; round < 200; round += 1)
    bare.push(
      await timedMs(() => state.transact(ctx, { if: [], then: [{ put: '/bare', value: String(round) }] })),
    );
  const row = (name: string, share: number, bar: number) => {
    atMost(`event to etcd beyond the debounce, 100/s, ${name}`, percentile(times, share) - DEBOUNCE_MS, {
      bar,
      unit: 'ms',
      yardstick: `fixed; real engine, ${told}; a put alone takes ${percentile(bare, share).toFixed(1)} ms at ${name}`,
    });
  };
  row('p50', 0.5, 50);
  row('p99', 0.99, 250);
});

const CALLERS = 8;
type Api = ReturnType<typeof apiOf>;

/** Made and removed again, by API; per second. */
async function rateOf(seconds: number, once: (name: string) => Promise<void>): Promise<number> {
  const start = performance.now();
  let made = 0;
  await Promise.all(
    Array.from({ length: CALLERS }, async (_, caller) => {
      for (let round = 0; performance.now() < start + seconds * 1000; round += 1) {
        await once(`c${String(caller)}-${String(round)}`);
        made += 1;
      }
    }),
  );
  return made / ((performance.now() - start) / 1000);
}

const kinds: Readonly<Record<string, (api: Api, name: string) => Promise<void>>> = {
  async containers(api, name) {
    await api('POST', `/containers/create?name=${name}`, { Image: 'lab', Cmd: ['true'] });
    await api('DELETE', `/containers/${name}`);
  },
  // Nothing is made faster: what others cost the engine shows most.
  async volumes(api, name) {
    await api('POST', '/volumes/create', { Name: name });
    await api('DELETE', `/volumes/${name}`);
  },
};

test.each(Object.keys(kinds))(
  '%s of an engine beside a registrator whose etcd does not answer',
  async (kind) => {
    const host = await startLabHost({ name: `rate-${kind}` });
    cleanups.push(() => host.close());
    const api = apiOf(host.socket, CALLERS);
    const rate = () => rateOf(4, (name) => kinds[kind]?.(api, name) ?? Promise.resolve());
    await rate();
    const [without, read, beside, cpuMs]: [number[], number[], number[], number[]] = [[], [], [], []];
    for (let round = 0; round < 5; round += 1) {
      without.push(await rate());
      read.push(await besideReader(host.socket, rate));
      const attached = await startRegistrator(compiled, {
        socket: host.socket,
        etcd: etcd.endpoint,
        node: 'rate',
      });
      const cpu = () => attached.metric('process_cpu_seconds_total');
      try {
        // It runs for months: what its compiler takes in its first seconds is none of it.
        await rate();
        etcd.kill('SIGSTOP');
        const before = await cpu();
        const measured = await rate();
        beside.push(measured);
        cpuMs.push((1000 * ((await cpu()) - before)) / (4 * measured));
      } finally {
        etcd.kill('SIGCONT');
        await attached.kill();
      }
    }
    const others = `without anybody ${median(without).toFixed(0)}/s, beside curl that reads events ${median(read).toFixed(0)}/s`;
    atLeast(`${kind} made and removed, 8 callers, etcd paused`, median(beside), {
      bar: 0.9 * median(without),
      unit: '/s',
      yardstick: `0.9 x without; ${others}; the registrator takes ${median(cpuMs).toFixed(1)} ms of CPU for each`,
    });
  },
);

async function besideReader(socket: string, rate: () => Promise<number>): Promise<number> {
  const reader = spawn('curl', ['-sN', '-o', '/dev/null', '--unix-socket', socket, 'http://engine/events']);
  try {
    await sleep(500);
    return await rate();
  } finally {
    reader.kill('SIGKILL');
  }
}
