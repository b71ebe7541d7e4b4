/**
 * The registrator that runs alone, on a real engine and a real etcd, while everything around it fails, and it itself.
 * What has to be in etcd is made from the engine's own answers (test/support/registrator.ts), and all of etcd is compared
 * with it. REGISTRATOR_KILLS says how often it is killed at random, REGISTRATOR_SEED repeats a run.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { createRandom } from '../soak/random.js';
import type { TestEtcd } from '../support/etcd.js';
import { sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  claimOf,
  deleteKey,
  historyOf,
  keyIn,
  keysIn,
  putKey,
  type Registrator,
  revisionOf,
  truthOf,
} from '../support/registrator.js';
import {
  becomes,
  isEmpty,
  published,
  registratorLab,
  sideBySide,
  stayingOf,
  wereNeverAway,
} from '../support/registrator-lab.js';

const HOST = 'registrator-faults';
const kills = Number(process.env['REGISTRATOR_KILLS'] ?? 25);
const seed = Number(process.env['REGISTRATOR_SEED'] ?? Date.now() % 1_000_000);
/** An engine that stops a container kills it after so long. */
const DOCKER_STOP_MS = 10_000;

const lab = registratorLab(HOST, `seed ${String(seed)}`);
const { begin, churn, createVolume, isTrue, ownerOf, removeAll, removeVolume, up } = lab;
let host: LabHost;
let engineId: string;

beforeAll(() => {
  ({ host, engineId } = lab);
});

describe('what is registered', () => {
  it('is what runs, all of it and nothing else, and follows each change', async (context) => {
    const { etcd, registrator } = await begin(context);
    await host.ok('network', 'create', 'net1');
    await host.ok('volume', 'create', 'v1');
    await host.ok('tag', 'lab', 'other/name:1');
    const health = ['--health-cmd', 'test -e /ok', '--health-interval', '1s', '--health-retries', '1'];
    await up('web', ...published('web'), '-p', '127.0.0.1::443', '-p', '53/udp', '-l', 'SERVICE_TAGS=a,b');
    await up('named', ...published('named'), '-e', 'SERVICE_REGION=eu', '--network', 'net1', '-v', 'v1:/v');
    await up('ignored', ...published('ignored'), '-l', 'SERVICE_IGNORE=yes');
    await up('ill', ...published('ill'), ...health);
    await up('paused', ...published('paused'));
    await host.ok('pause', 'paused');
    await up('plain', '--expose', '90');
    await host.ok('create', '--name', 'created', ...published('created'), 'lab');
    await up('stopped', ...published('stopped'));
    await host.ok('stop', '-t', '0', 'stopped');

    const process = await registrator().start();
    await process.ready();
    await isTrue(etcd, process);
    const services = [...(await keysIn(etcd)).keys()].filter((key) => key.startsWith('/openebs/services/'));
    expect(services.map((key) => key.split('/')[3]).toSorted()).toEqual(
      ['named', 'web-443', 'web-53', 'web-80'].toSorted(),
    );

    const steps: string[][] = [
      ['exec', 'ill', 'touch', '/ok'],
      ['unpause', 'paused'],
      ['start', 'stopped'],
      ['start', 'created'],
      ['rename', 'web', 'renamed'],
      ['network', 'connect', '--alias', 'second', 'net1', 'renamed'],
      ['network', 'disconnect', 'net1', 'named'],
      ['pause', 'named'],
      ['tag', 'lab', 'a/name:2'],
      ['rmi', 'other/name:1'],
      ['kill', 'plain'],
      ['rm', '-f', 'ignored'],
      ['volume', 'create', 'with blanks and /'.replace(/[ /]/g, '_')],
    ];
    for (const step of steps) {
      await host.ok(...step);
      if (step[0] === 'exec')
        await waitFor(
          'it is healthy',
          async () => (await host.ok('inspect', '-f', '{{.State.Health.Status}}', 'ill')) === 'healthy',
        );
      await isTrue(etcd, process);
    }
    await host.ok('rmi', 'a/name:2');
    await removeAll();
    await isTrue(etcd, process);
  });
});

describe('a registrator that is killed', () => {
  it(
    `${String(kills)} times at random while containers change loses nothing and leaves nothing`,
    async (context) => {
      const { etcd, registrator } = await begin(context);
      console.log(`REGISTRATOR_SEED=${String(seed)} REGISTRATOR_KILLS=${String(kills)}`);
      const random = createRandom(seed);
      // Longer than any machine stands still: what changes here, a registrator has changed and not the end of a lease.
      const one = registrator({ LEASE: '2m' });
      await up('stays', ...published('stays'));
      await host.ok('network', 'create', 'net1');
      let process = await one.start();
      await process.ready();
      await isTrue(etcd, process);
      const since = await revisionOf(etcd);
      const staying = await stayingOf(etcd, 'stays');
      let carriedOut = 0;
      let killed = 0;
      while (killed < kills) {
        const changes = churn(random);
        await sleep(random.below(1_000));
        await process.kill();
        killed += 1;
        process = await one.start();
        while (killed < kills && random.below(3) === 0) {
          await sleep(random.below(2_000));
          await process.kill();
          killed += 1;
          process = await one.start();
        }
        await sleep(random.below(1_000));
        await changes.stop();
        carriedOut += changes.carriedOut;
        await process.ready();
        await isTrue(etcd, process);
      }
      expect(carriedOut).toBeGreaterThan(kills);
      for (const key of staying.keys()) {
        const history = await historyOf(etcd, key, since);
        // Taken over with its lease: not even written again.
        expect(history, `seed ${String(seed)}: ${JSON.stringify(history)} of ${key}`).toEqual([]);
      }
      await wereNeverAway(etcd, staying);
      console.log(`${String(killed)} kills, ${String(carriedOut)} changes`);
      await removeAll();
      await isTrue(etcd, process);
    },
    120_000 + kills * 10_000,
  );
});

describe('a registrator that stands still', () => {
  /** So many at a time that an engine with a reader that does not read is far slower than one without. */
  const FEW = 4;

  it('through thousands of events misses none of the changes, and holds up no engine once it goes on', async (context) => {
    const { etcd, registrator } = await begin(context);
    await up('goes', ...published('goes'));
    await up('ends', ...published('ends'));
    const process = await registrator({ LEASE: '2m' }).start();
    await process.ready();
    await isTrue(etcd, process);

    /** Events in a second, of volumes that are made and removed again by so many at a time. */
    const rate = async (prefix: string, count: number, many: number) => {
      const startMs = performance.now();
      await sideBySide(count, many, async (index) => {
        expect((await createVolume(`${prefix}${String(index)}`)).status).toBe(201);
        expect((await removeVolume(`${prefix}${String(index)}`)).status).toBe(204);
      });
      return ((2 * count) / (performance.now() - startMs)) * 1000;
    };
    const before = await rate('before', 300, FEW);
    process.signal('SIGSTOP');
    const burst = await rate('burst', 2_600, 64);
    // What the engine tells of from here on it throws away.
    await host.ok('rm', '-f', 'goes');
    await host.ok('stop', '-t', '1', 'ends');
    await up('comes', ...published('comes'));
    await host.ok('volume', 'create', 'comes');
    // Each event waits a tenth of a second for a reader that does not read: nothing in its power.
    const meanwhile = await rate('meanwhile', 30, FEW);
    process.signal('SIGCONT');
    // More than the engine and the wire hold for a reader.
    const after = await rate('after', 1_500, FEW);
    const rates = Object.entries({ before, burst, meanwhile, after });
    console.log(rates.map(([name, value]) => `${name} ${value.toFixed(0)} events/s`).join(', '));
    expect(after).toBeGreaterThan(before / 4);
    await isTrue(etcd, process);
    await removeAll();
  });
});

describe('an etcd that fails', () => {
  it('for a while, or dies, holds up no engine, costs no memory, and has all when it is back', async (context) => {
    const { etcd, registrator } = await begin(context);
    const process = await registrator({ LEASE: '5s' }).start();
    await process.ready();
    await up('stays', ...published('stays'));
    await isTrue(etcd, process);

    const make = async (prefix: string) => {
      const startMs = performance.now();
      await sideBySide(200, 4, async (index) => {
        expect((await createVolume(`${prefix}${String(index)}`)).status).toBe(201);
      });
      return performance.now() - startMs;
    };
    const quickMs = await make('before');
    await isTrue(etcd, process);
    const rssBefore = process.rssMiB();

    etcd.kill('SIGSTOP');
    const stoppedAt = performance.now();
    const slowMs = await make('stopped');
    await up('comes', ...published('comes'));
    await host.ok('rm', '-f', 'stays');
    await sleep(Math.max(0, 10_000 - (performance.now() - stoppedAt)));
    etcd.kill('SIGCONT');
    await isTrue(etcd, process);

    await etcd.stop();
    await make('dead');
    await host.ok('restart', '-t', '1', 'comes');
    await sleep(2_000);
    await etcd.start();
    await isTrue(etcd, process);

    await etcd.stop();
    await etcd.start();
    await sideBySide(600, 4, async (index) => {
      const prefix = ['before', 'stopped', 'dead'][index % 3]!;
      expect((await removeVolume(`${prefix}${String(Math.floor(index / 3))}`)).status).toBe(204);
    });
    await isTrue(etcd, process);
    const rssAfter = process.rssMiB();
    console.log(
      `200 volumes in ${String(Math.round(quickMs))} ms, while etcd stood still in ${String(Math.round(slowMs))} ms: ` +
        `${(slowMs / quickMs).toFixed(2)} times; RSS ${String(rssBefore)} MiB before, ${String(rssAfter)} MiB after`,
    );
    expect(rssAfter).toBeLessThan(rssBefore + 60);
    await removeAll();
  });
});

describe('an engine that', () => {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    it(`is ended by ${signal} and started again: what runs then is registered, what died meanwhile is gone`, async (context) => {
      const { etcd, registrator } = await begin(context);
      await up('dies', ...published('dies'));
      await up('always', ...published('always'), '--restart', 'always');
      await host.ok('run', '-d', '--rm', '--name', 'vanishes', ...published('vanishes'), 'lab');
      const process = await registrator().start();
      await process.ready();
      await isTrue(etcd, process);
      const isRegistered = async (name: string) =>
        [...(await keysIn(etcd)).keys()].some((key) => key.startsWith(`/openebs/services/${name}/`));
      expect(await isRegistered('dies')).toBe(true);
      const pid = await host.ok('inspect', '-f', '{{.State.Pid}}', 'dies');
      await host.stopEngine({ signal });
      await host.shell(`kill -9 ${pid}`);
      await host.startEngine();
      await isTrue(etcd, process);
      expect(await isRegistered('dies')).toBe(false);
      await host.ok('start', 'dies');
      await waitFor('it is back', () => isRegistered('dies'));
      await isTrue(etcd, process);
      expect(process.isRunning).toBe(true);
      await removeAll();
    });
  }

  it('is ended and started time after time, while containers come and go: all is true, and what stays is never away', async (context) => {
    const { etcd, registrator } = await begin(context);
    const random = createRandom(seed);
    for (const kind of ['network', 'volume']) await host.ok(kind, 'create', 'stays');
    await host.ok('create', '--name', 'stays', 'lab');
    await host.ok('network', 'create', 'net1');
    const process = await registrator().start();
    await process.ready();
    await isTrue(etcd, process);
    const staying = await stayingOf(etcd, 'stays');
    expect(staying.size).toBe(3);
    let carriedOut = 0;
    for (const signals of [['SIGKILL', 'SIGTERM'] as const, ['SIGTERM', 'SIGKILL'] as const]) {
      const changes = churn(random);
      for (const signal of signals) {
        await sleep(500 + random.below(1_500));
        await host.stopEngine({ signal });
        await sleep(random.below(1_000));
        await host.startEngine();
      }
      await sleep(random.below(1_000));
      await changes.stop();
      carriedOut += changes.carriedOut;
      await isTrue(etcd, process);
      await wereNeverAway(etcd, staying);
    }
    console.log(`${String(carriedOut)} changes over 4 restarts`);
    expect(carriedOut).toBeGreaterThan(4);
    expect(process.isRunning).toBe(true);
    await removeAll();
    await isTrue(etcd, process);
  });
});

/** Tests that change nothing of the engine, and mostly wait: for leases, resyncs. */
describe.concurrent('while nothing changes in the engine', () => {
  const SHARED = '/shared/quiet';
  const policyOf = (value: string) =>
    `export const container = ({ name, labels }) => (labels.shared ? { ['/shared/' + name]: '${value}' } : null);`;

  beforeAll(async () => {
    await removeAll();
    const health = ['--health-cmd', 'true', '--health-interval', '1s'];
    await up('quiet', ...published('quiet'), '-l', 'shared=yes');
    await up('healthy', ...published('healthy'), ...health);
    await host.ok('create', '--name', 'created', 'lab');
    for (const tag of ['c', 'a', 'b']) await host.ok('tag', 'lab', `other/${tag}:1`);
    await waitFor(
      'it is healthy',
      async () => (await host.ok('inspect', '-f', '{{.State.Health.Status}}', 'healthy')) === 'healthy',
    );
  });

  /** Two of one engine that want the same key, as two hosts would. */
  async function two(context: TestContext, values: readonly [string, string]) {
    const { etcd, registrator } = await begin(context);
    const [one, other] = ['one', 'other'].map((instance, index) => {
      const made = registrator({ INSTANCE: instance, POLICIES: 'none', LEASE: '5s', AT_STOP: 'withdraw' });
      made.policies.write('shared.js', policyOf(values[index] ?? ''));
      return made;
    });
    return { etcd, one: one!, other: other! };
  }

  const claims = async (etcd: TestEtcd, instance: string) =>
    (await keyIn(etcd, claimOf(SHARED, ownerOf(instance)))) !== undefined;

  const deletions = async (etcd: TestEtcd, since: number) =>
    (await historyOf(etcd, SHARED, since)).filter(({ value }) => value === null);

  it('two looks at everything write nothing', async (context) => {
    const { etcd, registrator } = await begin(context);
    const process = await registrator({ RESYNC: '10s' }).start();
    await process.ready();
    await isTrue(etcd, process);
    const revision = await revisionOf(etcd);
    const { objects } = await process.stats();
    await waitFor(
      'it has looked twice more',
      async () => {
        const { objects: now } = await process.stats();
        return now.reconciles >= objects.reconciles + 2 && now.pending === 0;
      },
      { timeoutMs: 60_000 },
    );
    expect((await process.stats()).objects.inspections).toBeGreaterThan(objects.inspections + 10);
    expect(await revisionOf(etcd)).toBe(revision);
  });

  it('a registrator that stands still for longer than its lease loses its keys, and has them back when it goes on', async (context) => {
    const { etcd, registrator } = await begin(context);
    const process = await registrator({ LEASE: '5s' }).start();
    await process.ready();
    await isTrue(etcd, process);
    process.signal('SIGSTOP');
    await isEmpty(etcd);
    process.signal('SIGCONT');
    await isTrue(etcd, process);
    // And they stay.
    const revision = await revisionOf(etcd);
    await sleep(8_000);
    expect(await revisionOf(etcd)).toBe(revision);
    await isTrue(etcd, process);
  });

  it('a key that two want stays whichever of them ends, and however, and goes with the last', async (context) => {
    const { etcd, one, other } = await two(context, ['same', 'same']);
    let first = await one.start();
    await first.ready();
    await becomes(etcd, SHARED, 'same');
    const since = await revisionOf(etcd);
    let second = await other.start();
    await second.ready();

    const gone = async (instance: string) => {
      await waitFor(`${instance} claims nothing`, async () => !(await claims(etcd, instance)));
      await sleep(1_000);
      expect((await keyIn(etcd, SHARED))?.value).toBe('same');
    };
    await first.stop();
    await gone('one');
    first = await one.start({ AT_STOP: 'hand-over' });
    await first.ready();
    await second.stop();
    await gone('other');
    second = await other.start();
    await second.ready();
    await first.stop();
    await gone('one');
    first = await one.start();
    await first.ready();
    await second.kill();
    await gone('other');
    second = await other.start();
    await second.ready();
    one.policies.remove('shared.js');
    await gone('one');
    one.policies.write('shared.js', policyOf('same'));
    await waitFor('it is claimed again', () => claims(etcd, 'one'));
    await first.kill();
    await gone('one');
    expect(await deletions(etcd, since)).toEqual([]);

    await second.stop();
    await isEmpty(etcd);
  });

  it('a key that two are killed with goes with their leases', async (context) => {
    const { etcd, one, other } = await two(context, ['same', 'same']);
    const [first, second] = await Promise.all([one.start(), other.start()]);
    await Promise.all([first.ready(), second.ready()]);
    await becomes(etcd, SHARED, 'same');
    await Promise.all([first.kill(), second.kill()]);
    await isEmpty(etcd);
  });

  it('different wishes settle on the smaller value, once, and on the other when that is gone', async (context) => {
    const { etcd, one, other } = await two(context, ['b', 'a']);
    const first = await one.start();
    await first.ready();
    await becomes(etcd, SHARED, 'b');
    const since = await revisionOf(etcd);
    let second = await other.start();
    await second.ready();
    await becomes(etcd, SHARED, 'a');
    await sleep(10_000);
    const settled = await historyOf(etcd, SHARED, since);
    expect(settled.length).toBeLessThanOrEqual(2);
    expect(settled.at(-1)?.value).toBe('a');
    for (const process of [first, second])
      expect((await process.stats()).backends['etcd']?.conflicts).toEqual([SHARED]);

    await second.stop();
    await becomes(etcd, SHARED, 'b');
    expect((await first.stats()).backends['etcd']?.conflicts).toEqual([]);
    second = await other.start();
    await second.ready();
    await becomes(etcd, SHARED, 'a');
    await second.kill();
    await becomes(etcd, SHARED, 'b');
    expect(await deletions(etcd, since)).toEqual([]);

    await first.stop();
    await isEmpty(etcd);
    const again = await revisionOf(etcd);
    const both = await Promise.all([one.start(), other.start()]);
    await Promise.all(both.map((process) => process.ready()));
    await becomes(etcd, SHARED, 'a');
    await sleep(3_000);
    const atOnce = await historyOf(etcd, SHARED, again);
    expect(atOnce.length).toBeLessThanOrEqual(2);
    expect(atOnce.map(({ value }) => value)).not.toContain(null);
  });

  it("a stranger's key is neither overwritten nor deleted, and is had when it is free", async (context) => {
    const { etcd, one, other } = await two(context, ['same', 'same']);
    await putKey(etcd, SHARED, 'strange');
    await putKey(etcd, '/shared/other', 'strange too');
    const before = await keyIn(etcd, SHARED);
    const [first, second] = await Promise.all([one.start(), other.start()]);
    await Promise.all([first.ready(), second.ready()]);
    await waitFor(
      'both claim it',
      async () => (await claims(etcd, 'one')) && (await claims(etcd, 'other')),
    ).catch((reason: unknown) => {
      throw new Error(`${String(reason)}\n${first.output()}\n${second.output()}`);
    });
    for (const process of [first, second])
      expect((await process.stats()).backends['etcd']?.foreign).toEqual([SHARED]);
    await first.stop();
    await second.kill();
    await waitFor('nobody claims it', async () => !(await claims(etcd, 'other')));
    expect(await keyIn(etcd, SHARED)).toEqual(before);

    const third = await one.start();
    await third.ready();
    expect(await keyIn(etcd, SHARED)).toEqual(before);
    await deleteKey(etcd, SHARED);
    await becomes(etcd, SHARED, 'same');
    // And one that a stranger takes stays the stranger's.
    await putKey(etcd, SHARED, 'taken');
    await sleep(3_000);
    const taken = await keyIn(etcd, SHARED);
    expect(taken).toMatchObject({ value: 'taken', lease: undefined });
    await third.stop();
    expect(await keyIn(etcd, SHARED)).toEqual(taken);
    expect([...(await keysIn(etcd)).keys()].toSorted()).toEqual(['/shared/other', SHARED].toSorted());
  });

  it('a hand-over leaves all to the next process, which writes nothing, or to the lease', async (context) => {
    const { etcd, registrator } = await begin(context);
    // Longer than a start takes on a busy machine.
    const one = registrator({ LEASE: '30s' });
    const first = await one.start();
    await first.ready();
    await isTrue(etcd, first);
    const revision = await revisionOf(etcd);
    expect(await first.stop()).toMatchObject({ code: 0 });
    await isTrue(etcd, first);
    const second = await one.start();
    await second.ready();
    await isTrue(etcd, second);
    expect(await revisionOf(etcd)).toBe(revision);
    expect(await second.stop()).toMatchObject({ code: 0 });
    await isTrue(etcd, second);
    await isEmpty(etcd, 60_000);
  });

  it('a withdrawal leaves nothing', async (context) => {
    const { etcd, registrator } = await begin(context);
    const process = await registrator({ AT_STOP: 'withdraw', LEASE: '5m' }).start();
    await process.ready();
    await isTrue(etcd, process);
    const { code, tookMs } = await process.stop();
    expect([...(await keysIn(etcd)).keys()]).toEqual([]);
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(DOCKER_STOP_MS);
  });

  for (const how of ['stands still', 'is dead'] as const) {
    it(`a withdrawal while etcd ${how} ends before an engine would kill it, and the lease does the rest`, async (context) => {
      const { etcd, registrator } = await begin(context);
      const process = await registrator({ AT_STOP: 'withdraw', LEASE: '5s' }).start();
      await process.ready();
      await isTrue(etcd, process);
      if (how === 'is dead') await etcd.stop();
      else etcd.kill('SIGSTOP');
      const { code, tookMs } = await process.stop();
      expect(code).toBe(0);
      expect(tookMs).toBeLessThan(DOCKER_STOP_MS);
      if (how === 'is dead') await etcd.start();
      else etcd.kill('SIGCONT');
      await isEmpty(etcd);
    });
  }

  it('one that waits for its engine goes on waiting, and ends at SIGTERM', async (context) => {
    const { etcd, registrator } = await begin(context);
    const one = registrator({ DOCKER_SOCKET: join(tmpdir(), 'no-engine.sock') });
    for (const more of [{}, { LISTEN: 'none' }]) {
      const process = await one.start(more);
      await waitFor('it waits', () => process.output().includes('ask the engine who it is'));
      await sleep(2_000);
      expect(process.isRunning, process.output()).toBe(true);
      expect((await process.stop()).code, process.output()).toBe(0);
    }
    expect(await keysIn(etcd)).toEqual(new Map());
  });

  describe('--dry-run', () => {
    interface Shown {
      readonly differences: {
        readonly key: string;
        readonly now: string | null;
        readonly then: string | null;
        readonly isForeign: boolean;
      }[];
      readonly unchanged: number;
    }

    const dryRun = async (one: Registrator, ...more: string[]): Promise<Shown> => {
      const { code, stdout, stderr } = await one.run(['--dry-run', '--format', 'json', ...more]);
      expect(code, stderr).toBe(0);
      return JSON.parse(stdout) as Shown;
    };
    const values = (shown: Shown) =>
      new Map(
        shown.differences.map(({ key, then }) => [key, then === null ? null : (JSON.parse(then) as unknown)]),
      );

    it('shows what a run would change, and changes nothing', async (context) => {
      const { etcd, registrator } = await begin(context);
      const one = registrator({ LEASE: '5m' });
      const truth = await truthOf(host.socket);
      const [service] = [...truth.keys()].filter((key) => key.startsWith('/openebs/services/quiet/'));
      await putKey(etcd, service!, 'strange');
      const empty = await revisionOf(etcd);
      const all = await dryRun(one);
      expect(await revisionOf(etcd)).toBe(empty);
      expect(all.differences.filter(({ isForeign }) => isForeign)).toEqual([
        { key: service, now: 'strange', then: 'strange', isForeign: true },
      ]);
      const made = new Map(
        all.differences.flatMap(({ key, then, isForeign }) => (isForeign ? [] : [[key, then]])),
      );
      expect(made.size).toBe(truth.size - 1);
      for (const [key, value] of made) expect(JSON.parse(value ?? '')).toEqual(truth.get(key));
      await deleteKey(etcd, service!);

      const process = await one.start();
      await process.ready();
      await isTrue(etcd, process);
      await process.stop();
      const revision = await revisionOf(etcd);
      const none = await dryRun(one);
      expect(none.differences).toEqual([]);
      expect(none.unchanged).toBe(truth.size);
      const services = [...truth.keys()].filter((key) => key.startsWith('/openebs/services/'));
      expect(services.length).toBeGreaterThanOrEqual(2);
      expect(values(await dryRun(one, '--policies', 'objects'))).toEqual(
        new Map(services.toSorted().map((key) => [key, null])),
      );
      one.policies.write(
        'shared.js',
        `export const container = ({ name }) => ({ ['/mine/' + name]: [name] });`,
      );
      expect(values(await dryRun(one))).toEqual(
        new Map(['created', 'healthy', 'quiet'].map((name) => [`/mine/${name}`, [name]])),
      );
      expect(await revisionOf(etcd)).toBe(revision);
      await isTrue(etcd, process);
      // And what it showed is what becomes of it.
      const next = await one.start();
      await next.ready();
      expect((await keyIn(etcd, '/mine/quiet'))?.value).toBe('["quiet"]');
    });

    it('says that etcd is away, instead of waiting for it for ever', async (context) => {
      const { etcd, registrator } = await begin(context);
      await etcd.stop();
      const { code, stderr } = await registrator().run(['--dry-run'], { timeoutMs: 100_000 });
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('etcd') as string });
    });
  });

  it('policy test registers of what docker inspect prints what is registered', async (context) => {
    const { etcd, registrator } = await begin(context);
    const one = registrator();
    const process = await one.start();
    await process.ready();
    await isTrue(etcd, process);
    const file = join(tmpdir(), `${engineId.replaceAll(':', '-')}.json`);
    context.onTestFinished(() => {
      rmSync(file, { force: true });
    });
    const registered = async (pattern: RegExp) =>
      Object.fromEntries(
        [...(await keysIn(etcd))]
          .filter(([key]) => pattern.test(key))
          .map(([key, { value }]) => [key, value]),
      );
    const tested = async (policy: string) => {
      const { code, stdout, stderr } = await one.run([
        ...['policy', 'test', policy, '--input', file, '--format', 'json', '--node-id', engineId],
      ]);
      expect(code, stderr).toBe(0);
      // The engine is on another host than the command.
      return JSON.parse(stdout.replaceAll(`${hostname()}:`, `${HOST}:`)) as unknown;
    };
    writeFileSync(file, await host.ok('inspect', 'quiet', 'healthy', 'created'));
    expect(await tested('services')).toEqual(await registered(/^\/openebs\/services\//));
    expect(await tested('objects')).toEqual(await registered(/^\/openebs\/objects\/[^/]+\/container\//));
    writeFileSync(file, await host.ok('network', 'inspect', 'bridge', 'host', 'none'));
    expect(await tested('objects')).toEqual(await registered(/^\/openebs\/objects\/[^/]+\/network\//));
    writeFileSync(file, await host.ok('image', 'inspect', ...(await host.ok('images', '-q')).split('\n')));
    expect(await tested('objects')).toEqual(await registered(/^\/openebs\/objects\/[^/]+\/image\//));
  });
});
