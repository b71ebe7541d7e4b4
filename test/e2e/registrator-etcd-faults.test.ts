/**
 * The registrator that runs alone, on a real engine, while its etcd loses its leader, its space, its history, or stands
 * still, and while its own clock jumps. Each ends with all of etcd compared with the engine; what stays was never away.
 * REGISTRATOR_SEED repeats the changes of a run.
 */
import { globSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startFakeEngine, uniqueNano } from '../fakes/engine-server.js';
import { createRandom } from '../soak/random.js';
import { leaderOf } from '../support/etcd.js';
import { sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  claimOf,
  deleteKey,
  deletePrefix,
  keysIn,
  putKey,
  revisionOf,
  untilTrue,
} from '../support/registrator.js';
import {
  isEmpty,
  published,
  registratorLab,
  sideBySide,
  type Staying,
  stayingOf,
  wereNeverAway,
} from '../support/registrator-lab.js';

const seed = Number(process.env['REGISTRATOR_SEED'] ?? Date.now() % 1_000_000);
const lab = registratorLab('registrator-etcd-faults', `seed ${String(seed)}`);
const { begin, churn, isTrue, ownerOf, up } = lab;
let host: LabHost;

beforeAll(async () => {
  ({ host } = lab);
  await host.ok('network', 'create', 'net1');
  await up('stays', ...published('stays'));
});

/** A container that goes, one that is made anew, and one that comes. */
async function someChanges(): Promise<void> {
  await host.ok('rm', '-f', 'goes');
  await host.ok('restart', '-t', '1', 'again');
  await up('comes', ...published('comes'));
}

async function beforeSomeChanges(): Promise<void> {
  await up('goes', ...published('goes'));
  await up('again', ...published('again'));
}

afterEach(async () => {
  const others = (await host.ok('ps', '-a', '--format', '{{.Names}}'))
    .split('\n')
    .filter((name) => name !== 'stays');
  if (others.length > 0) await host.ok('rm', '-f', ...others);
});

describe('an etcd', () => {
  it('whose leader dies, stands still and dies, while containers come and go, has all each time', async (context) => {
    const { members, registrator } = await begin(context, { members: 3 });
    const random = createRandom(seed);
    const process = await registrator().start();
    await process.ready();
    await isTrue(members[0]!, process);
    const staying = await stayingOf(members[0]!, 'stays');
    let carriedOut = 0;
    for (const signal of ['SIGKILL', 'SIGSTOP', 'SIGKILL'] as const) {
      const leader = await waitFor('it has a leader', () => leaderOf(members));
      const others = members.filter((member) => member !== leader);
      const changes = churn(random);
      await sleep(random.below(1_000));
      if (signal === 'SIGKILL') await leader.stop();
      else leader.kill(signal);
      await waitFor('it has another leader', () => leaderOf(others));
      await sleep(random.below(2_000));
      await changes.stop();
      // Before the former leader is back.
      await isTrue(others[0]!, process);
      await wereNeverAway(others[0]!, staying);
      const more = churn(random);
      if (signal === 'SIGKILL') await leader.start();
      else leader.kill('SIGCONT');
      await sleep(1_000);
      await more.stop();
      carriedOut += changes.carriedOut + more.carriedOut;
      await isTrue(others[0]!, process);
      await wereNeverAway(others[0]!, staying);
    }
    console.log(`${String(carriedOut)} changes over 3 leaders`);
    expect(carriedOut).toBeGreaterThan(0);
  });

  it('that has run out of space keeps what there is alive, loses what goes, and has all when there is room again', async (context) => {
    const { etcd, registrator } = await begin(context, {
      flags: ['--quota-backend-bytes', String(2 * 1024 * 1024)],
    });
    await beforeSomeChanges();
    await up('goes-unseen', ...published('goes-unseen'));
    // So short that it would show if it was not kept alive.
    const ours = registrator({ LEASE: '15s' });
    const before = await ours.start();
    await before.ready();
    await isTrue(etcd, before);
    const staying = await stayingOf(etcd, 'stays');
    const isGone = async (going: Staying) => {
      const found = await keysIn(etcd);
      return [...going.keys()].every((key) => !found.has(key));
    };
    const [going, goingUnseen] = [await stayingOf(etcd, 'goes'), await stayingOf(etcd, 'goes-unseen')];
    const fill = async () => {
      for (let index = 0; index < 1_000; index += 1)
        await putKey(etcd, `/filling/${String(index)}`, 'x'.repeat(50_000));
    };
    await expect(fill()).rejects.toThrow('database space exceeded');
    await someChanges();
    await waitFor('what goes is gone, whatever cannot be written', () => isGone(going));
    expect(before.output()).toContain('has used up its space quota');

    // A new process is granted no lease, and takes over those of before.
    await before.kill();
    const [process] = await Promise.all([ours.start(), host.ok('rm', '-f', 'goes-unseen')]);
    await waitFor('what has gone unseen is gone', () => isGone(goingUnseen), { timeoutMs: 14_000 });
    await sleep(18_000);
    await wereNeverAway(etcd, staying);

    await deletePrefix(etcd, '/filling/');
    const revision = await revisionOf(etcd);
    await etcd.admin('kv/compaction', { revision: String(revision), physical: true });
    await etcd.admin('maintenance/defragment', {});
    const { alarms } = await etcd.admin('maintenance/alarm', { action: 'GET' });
    for (const { memberID, alarm } of alarms as { memberID: string; alarm: string }[])
      await etcd.admin('maintenance/alarm', { action: 'DEACTIVATE', memberID, alarm });
    await isTrue(etcd, process);
    await wereNeverAway(etcd, staying);
  });

  it('whose history is compacted while the registrator stands still has all when that goes on', async (context) => {
    const { etcd, registrator } = await begin(context);
    await beforeSomeChanges();
    const process = await registrator({ LEASE: '2m' }).start();
    await process.ready();
    await isTrue(etcd, process);
    const staying = await stayingOf(etcd, 'stays');
    const taken = await stayingOf(etcd, 'net1');

    process.signal('SIGSTOP');
    // More than etcd and the wire hold for a watch that does not read, so that its news are to be read from history.
    await sideBySide(600, 8, async (index) => {
      await putKey(etcd, '/openebs/objects/noise', `${String(index)}${'x'.repeat(50_000)}`);
      await putKey(etcd, '/openebs/registry/claims/noise', `${String(index)}${'x'.repeat(50_000)}`);
    });
    // Of what does not change: nothing else makes it look.
    for (const key of taken.keys()) {
      await deleteKey(etcd, key);
      await deleteKey(etcd, claimOf(key, ownerOf()));
    }
    await deletePrefix(etcd, '/openebs/objects/noise');
    await deletePrefix(etcd, '/openebs/registry/claims/noise');
    await someChanges();
    await etcd.admin('kv/compaction', { revision: String(await revisionOf(etcd)), physical: true });
    process.signal('SIGCONT');
    await isTrue(etcd, process);
    await wereNeverAway(etcd, staying);
    expect(process.output()).toContain('the history it still needed has been compacted');
  });

  it('that stands still for 10 s costs nobody a key', async (context) => {
    const { etcd, registrator } = await begin(context);
    await beforeSomeChanges();
    const process = await registrator().start();
    await process.ready();
    await isTrue(etcd, process);
    const staying = await stayingOf(etcd, 'stays');
    etcd.kill('SIGSTOP');
    const stoppedAt = performance.now();
    await someChanges();
    await sleep(10_000 - (performance.now() - stoppedAt));
    etcd.kill('SIGCONT');
    await isTrue(etcd, process);
    await wereNeverAway(etcd, staying);
  });

  it('that stands still through 20,000 events costs little memory, and has all when it goes on', async (context) => {
    const { etcd, registrator } = await begin(context);
    const world = await startFakeVolumes();
    context.onTestFinished(() => world.engine.close());
    const process = await registrator({ DOCKER_SOCKET: world.engine.socketPath }).start();
    await process.ready();
    const isTrueOfFake = () =>
      untilTrue(world.engine.socketPath, etcd, 'fake.registrator', {
        told: () => process.output().slice(-3000),
      });
    // With the garbage of a like load.
    for (let round = 0; round < 5; round += 1) await world.replace(1_000);
    await isTrueOfFake();
    const [before, eventsBefore] = [process.rssMiB(), world.events];

    etcd.kill('SIGSTOP');
    const rounds: number[] = [];
    for (let round = 0; round < 10; round += 1) {
      await world.replace(1_000);
      rounds.push(process.rssMiB());
    }
    expect(world.events - eventsBefore).toBeGreaterThanOrEqual(20_000);
    etcd.kill('SIGCONT');
    await isTrueOfFake();
    const after = process.rssMiB();
    console.log(
      `RSS in MiB: ${String(before)}, after each 2,000 events ${rounds.join(' ')}, ${String(after)}`,
    );
    expect(Math.max(...rounds, after)).toBeLessThan(before + 80);
  });
});

interface FakeVolumes {
  readonly engine: Awaited<ReturnType<typeof startFakeEngine>>;
  readonly events: number;
  /** Makes so many volumes, then takes away those that were there; returns when each has been looked at. */
  replace(count: number): Promise<void>;
}

/** A real engine would take a minute for as many, most of it for its own disk. */
async function startFakeVolumes(): Promise<FakeVolumes> {
  const engine = await startFakeEngine();
  const volumes = new Map<string, object>();
  const unseen = new Set<string>();
  let [made, events] = [0, 0];
  const answer = (path: string, body: () => unknown) => {
    engine.handle('GET', path, (_request, response) => response.end(JSON.stringify(body())));
  };
  for (const kind of ['containers/json', 'images/json', 'networks', 'plugins']) answer(`/${kind}`, () => []);
  answer('/volumes', () => ({ Volumes: [...volumes.values()] }));
  for (const kind of ['services', 'nodes', 'secrets', 'configs'])
    engine.handle('GET', `/${kind}`, (_request, response) =>
      response.writeHead(503).end('{"message":"this node is not a swarm manager"}'),
    );
  const tell = async (action: 'create' | 'destroy', names: readonly string[]) => {
    for (const name of names) {
      unseen.add(name);
      const Actor = { ID: name, Attributes: { driver: 'local' } };
      engine.emit({ Type: 'volume', Action: action, Actor, timeNano: uniqueNano() });
      events += 1;
      if (events % 100 === 0) await engine.drained();
    }
    await waitFor('each has been looked at', () => unseen.size === 0, { timeoutMs: 60_000, everyMs: 20 });
  };
  const make = () => {
    const name = `v${String((made += 1))}`;
    // So much that it would show if it was kept.
    volumes.set(name, { Name: name, Driver: 'local', Labels: { about: 'x'.repeat(5_000) } });
    engine.handle('GET', `/volumes/${name}`, (_request, response) => {
      unseen.delete(name);
      const volume = volumes.get(name);
      if (volume) response.end(JSON.stringify(volume));
      else response.writeHead(404).end('{"message":"no such volume"}');
    });
    return name;
  };
  return {
    engine,
    get events() {
      return events;
    },
    async replace(count) {
      const before = [...volumes.keys()];
      await tell('create', Array.from({ length: count }, make));
      for (const name of before) volumes.delete(name);
      await tell('destroy', before);
    },
  };
}

describe("the registrator's clock", () => {
  it('that jumps by a day or a year, either way, costs nobody a key', async (context) => {
    const { etcd, registrator } = await begin(context);
    const [library = ''] = globSync('/usr/lib/*/faketime/libfaketime.so.1');
    const file = join(tmpdir(), `registrator-clock-${String(etcd.port)}`);
    context.onTestFinished(() => {
      rmSync(file, { force: true });
    });
    writeFileSync(file, '+0\n');
    const clock = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      FAKETIME_CACHE_DURATION: '1',
    };
    await beforeSomeChanges();
    // So short that it would show if it was not kept alive.
    const process = await registrator({ LEASE: '5s' }, clock).start();
    await process.ready();
    await isTrue(etcd, process);
    const staying = await stayingOf(etcd, 'stays');
    const day = 86_400_000;
    for (const [offset, ms] of Object.entries({
      '-1d': -day,
      '+1d': day,
      '-1y': -365 * day,
      '+1y': 365 * day,
    })) {
      writeFileSync(file, `${offset}\n`);
      await waitFor('its clock has jumped', async () => {
        const wrongMs = (await process.clock()).getTime() - Date.now();
        return Math.abs(wrongMs - ms) < day / 2;
      });
      await someChanges();
      await isTrue(etcd, process);
      await sleep(6_000);
      await host.ok('rm', '-f', 'again', 'comes');
      await isTrue(etcd, process);
      await wereNeverAway(etcd, staying);
      await beforeSomeChanges();
    }
    expect(process.isRunning).toBe(true);
    await process.kill();
    await isEmpty(etcd);
  });
});
