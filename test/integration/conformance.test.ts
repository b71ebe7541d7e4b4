/**
 * The conformance suite as a user runs it: as a command, on a socket. On the driver's own edges, service and etcd
 * adapter, with a thousand volumes and an etcd that goes away; and on drivers with one defect each, as a suite that
 * finds nothing anywhere would pass as well.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../src/context.js';
import { createHostPaths } from '../../src/dataplane/host-paths.js';
import { createLog } from '../../src/log.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { keys } from '../../src/state/keys.js';
import { records } from '../../src/state/records.js';
import { openReplica } from '../../src/state/replica.js';
import { createVolumeDriver } from '../../src/volume-driver/server.js';
import { Converger } from '../../src/volumes/converge.js';
import { loadMountCounts } from '../../src/volumes/mount-counts.js';
import { LocalVolumeService } from '../../src/volumes/service.js';
import { VolumeRecords } from '../../src/volumes/volume-records.js';
import { VolumeWork } from '../../src/volumes/volume-work.js';
import { createFakeDataPlane } from '../fakes/data-plane.js';
import { startEtcd } from '../support/etcd.js';
import { serveHooks } from '../support/hooks.js';

interface Outcome {
  readonly group: string;
  readonly case: string;
  readonly verdict: string;
  readonly detail: string;
}

interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const repository = resolve(import.meta.dirname, '../..');
const program = ['--import', 'tsx', 'test/conformance/main.ts'];

function conformance(...args: string[]): Promise<Result> {
  return new Promise((settle) => {
    const limits = { cwd: repository, timeout: 240_000, maxBuffer: 2 ** 26 };
    const child = execFile(process.execPath, [...program, ...args], limits, (_error, stdout, stderr) => {
      settle({ code: child.exitCode ?? -1, stdout, stderr });
    });
  });
}

async function judge(socket: string, ...args: string[]): Promise<{ code: number; cases: Outcome[] }> {
  const { code, stdout, stderr } = await conformance('--socket', socket, '--format', 'json', ...args);
  expect(stderr).toBe('');
  return { code, cases: (JSON.parse(stdout) as { cases: Outcome[] }).cases };
}

const failures = (cases: readonly Outcome[]): string[] =>
  cases.filter(({ verdict }) => verdict === 'failed').map(({ case: name, detail }) => `${name}: ${detail}`);

let folder: string;
let socketPath: string;
let closing: (() => Promise<unknown>)[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'conformance-'));
  socketPath = join(folder, 'driver.sock');
  closing = [];
});

afterEach(async () => {
  for (const close of closing.reverse()) await close();
  await rm(folder, { recursive: true, force: true });
});

describe('our driver', () => {
  const log = createLog('silent');
  const ctx: Ctx = { log, signal: new AbortController().signal, requestId: 'test' };
  const MANY = 1000;

  async function seed(state: ReturnType<typeof createEtcdState>): Promise<void> {
    for (let at = 0; at < MANY; at += 50) {
      const then = Array.from({ length: 50 }, (_, index) => {
        const name = `seeded-${String(at + index)}`;
        const value = records.volume.encode({
          ...{
            schema: 1,
            name,
            id: `s${String(at + index)}`,
            sizeBytes: 2 ** 30,
            fs: 'ext4',
            mkfsOptions: [],
          },
          ...{ mountOptions: [], uid: 0, gid: 0, mode: 0o755, pool: 'default', status: 'ready' },
          ...{ formatted: true, epoch: 1, createdAt: '2026-01-01T00:00:00.000Z' },
        });
        return { put: keys.volume(name), value };
      });
      await state.transact(ctx, { if: [], then });
    }
  }

  /** The driver on a data plane in memory. Its etcd is in the test's hands. */
  async function serve(endpoint: string): Promise<void> {
    const state = createEtcdState({ endpoints: [endpoint], log });
    await seed(state);
    const replica = await openReplica({
      state,
      prefixes: [keys.volumes, keys.targets, keys.attachments],
      file: join(folder, 'records.json'),
      log,
    });
    await replica.synced;
    const plane = createFakeDataPlane();
    const deps = {
      node: 'node-a',
      records: new VolumeRecords(state, replica),
      counts: await loadMountCounts(join(folder, 'mounts.json'), 'boot', log),
      ...{ targets: plane.targets, initiator: plane.initiator, fileSystems: plane.fileSystems },
      paths: createHostPaths(folder, '/mnt'),
      ports: { first: 52_000, last: 52_099 },
      engineAnswers: () => Promise.resolve(true),
      usersOf: () => Promise.resolve([]),
      startUnmounted: () => Promise.resolve({ started: [], failed: [] }),
      defaults: { sizeBytes: 2 ** 30, fs: 'ext4' as const, pool: 'default' },
      targetAddress: '127.0.0.1',
      mountTimeoutMs: 5000,
      failoverAfterMs: 30_000,
      liveness: { awayMs: () => 0 },
      background: ctx,
      repairs: { of: () => '' },
    };
    const shared = { ...deps, converger: new Converger(deps) };
    const service = new LocalVolumeService({ ...shared, work: new VolumeWork(shared) });
    const driver = createVolumeDriver({ service, log });
    await driver.listen(socketPath);
    closing.push(
      () => state.close(),
      () => replica.close(),
      () => driver.close(),
    );
  }

  it('conforms, with a thousand volumes and etcd gone and back', async () => {
    const etcd = await startEtcd();
    closing.push(() => etcd[Symbol.asyncDispose]());
    await serve(etcd.endpoint);
    const hooks = await serveHooks(join(folder, 'hooks.sock'), {
      stop: () => etcd.stop(),
      start: () => etcd.start(),
    });
    closing.push(() => hooks.close());
    const { code, cases } = await judge(
      socketPath,
      ...['--create-opt', 'size=200M', '--volumes', String(MANY)],
      ...['--outage-begin', hooks.command('stop'), '--outage-end', hooks.command('start')],
    );
    expect(failures(cases)).toEqual([]);
    expect(cases.filter(({ verdict }) => verdict === 'skipped')).toEqual([]);
    expect(code).toBe(0);
    const measured = cases.filter(({ case: name }) => name.endsWith('answers in time'));
    expect(measured.map(({ group }) => group)).toEqual([
      ...['latency', 'latency', 'latency', 'outage', 'outage', 'outage'],
    ]);
    for (const { detail } of measured) expect(detail).toMatch(/p50 .* p99 .*, 100\d volumes present/);
  }, 300_000);
});

function closeServer(server: Server): Promise<void> {
  return new Promise((settle) => {
    server.closeAllConnections();
    server.close(() => {
      settle();
    });
  });
}

/** A small driver that conforms, but for the defect it is given. */
type Defect =
  | 'none'
  | 'needs a Content-Type'
  | 'takes an empty body for the volume ""'
  | 'closes idle connections'
  | 'answers failures with an empty body'
  | 'writes CreatedAt as it likes'
  | 'makes CreatedAt anew at each Create'
  | 'keeps IDs as a set'
  | 'removes what is mounted'
  | 'counts below zero'
  | 'finds names in any case'
  | 'lets names lead anywhere'
  | 'makes what is mounted'
  | 'keeps what could not be made'
  | 'lists nothing'
  | 'has a scope of its own'
  | 'fails the second Create'
  | 'makes two of one'
  | 'answers one call at a time'
  | 'is slow'
  | 'forgets in an outage'
  | 'keeps removed volumes'
  | 'answers GET';

interface Made {
  readonly Name: string;
  CreatedAt: string;
}

/* eslint-disable complexity -- each defect is a branch beside what is right */
class TinyDriver {
  readonly volumes: Made[] = [];
  readonly mounts = new Map<string, string[]>();
  readonly defect: Defect;
  away = false;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(defect: Defect) {
    this.defect = defect;
  }

  is(defect: Defect): boolean {
    return this.defect === defect;
  }

  find(name: string): Made | undefined {
    const key = (text: string) => (this.is('finds names in any case') ? text.toLowerCase() : text);
    return this.volumes.find((volume) => key(volume.Name) === key(name));
  }

  create(name: string, opts: Record<string, unknown>): object {
    if (!/^[a-zA-Z0-9][\w.-]{1,254}$/.test(name) && !this.is('lets names lead anywhere'))
      throw new Error('name');
    const bad = Object.keys(opts).find((key) => key !== 'size');
    const size = opts['size'] ?? '1G';
    const made = { Name: name, CreatedAt: new Date().toISOString() };
    const known = this.find(name);
    if (this.is('keeps what could not be made') && !known) this.volumes.push(made);
    if (bad !== undefined) throw new Error(`there is no option ${bad}`);
    if (typeof size !== 'string' || !/^[1-9]\d{0,5}[MGT]$/.test(size)) throw new Error('size is none');
    if (known && this.is('fails the second Create')) throw new Error('exists');
    if (known && this.is('makes CreatedAt anew at each Create')) known.CreatedAt = made.CreatedAt;
    if (this.is('writes CreatedAt as it likes')) made.CreatedAt = new Date().toString();
    if (!this.find(name) || this.is('makes two of one')) this.volumes.push(made);
    return {};
  }

  remove(name: string): object {
    if ((this.mounts.get(name) ?? []).length > 0 && !this.is('removes what is mounted'))
      throw new Error('mounted');
    const at = this.volumes.findIndex((volume) => volume.Name === name);
    if (at >= 0 && !this.is('keeps removed volumes')) this.volumes.splice(at, 1);
    return {};
  }

  mount(name: string, id: string): object {
    if (!this.find(name)) {
      if (!this.is('makes what is mounted')) throw new Error('no such volume');
      this.create(name, {});
    }
    const ids = this.mounts.get(name) ?? [];
    if (!(this.is('keeps IDs as a set') && ids.includes(id))) ids.push(id);
    this.mounts.set(name, ids);
    return { Mountpoint: `/mnt/${name}` };
  }

  unmount(name: string, id: string): object {
    const ids = this.mounts.get(name) ?? [];
    const at = this.is('counts below zero') ? ids.length - 1 : ids.indexOf(id);
    if (at >= 0) ids.splice(at, 1);
    return {};
  }

  get(name: string): object {
    const volume = this.find(name);
    if (!volume || (this.away && this.is('forgets in an outage'))) throw new Error('no such volume');
    return { Volume: { ...volume, Name: name, Mountpoint: '' } };
  }

  answer(path: string, body: Buffer): object {
    if (path.endsWith('Activate')) return { Implements: ['VolumeDriver'] };
    if (path.endsWith('Capabilities'))
      return { Capabilities: { Scope: this.is('has a scope of its own') ? 'host' : 'local' } };
    if (path.endsWith('List')) return { Volumes: this.is('lists nothing') ? [] : this.volumes };
    const lenient = this.is('takes an empty body for the volume ""') && body.length === 0;
    const request = lenient
      ? { Name: 'nameless' }
      : (JSON.parse(body.toString()) as Record<string, unknown> | null);
    const { Name: name, ID: id, Opts: opts } = request ?? {};
    if (typeof name !== 'string' || name === '') throw new Error('no name');
    const options = opts ?? {};
    if (typeof options !== 'object' || Array.isArray(options)) throw new Error('Opts');
    const calls: Record<string, () => object> = {
      Create: () => this.create(name, options as Record<string, unknown>),
      Remove: () => this.remove(name),
      Mount: () => this.mount(name, String(id)),
      Unmount: () => this.unmount(name, String(id)),
      Path: () => this.get(name),
      Get: () => this.get(name),
    };
    return calls[path.split('.')[1] ?? '']?.() ?? {};
  }

  async respond(request: IncomingMessage): Promise<[number, string]> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const path = request.url ?? '';
    if (
      !/^\/(Plugin\.Activate|VolumeDriver\.(Create|Remove|Mount|Unmount|Path|Get|List|Capabilities))$/.test(
        path,
      )
    )
      return [404, 'unknown path'];
    if (request.method !== 'POST' && !this.is('answers GET')) return [405, 'use POST'];
    if (this.is('answers one call at a time') && path.endsWith('Get')) {
      this.#busy = this.#busy.then(() => new Promise((settle) => setTimeout(settle, 550)));
      await this.#busy;
    }
    if (this.is('is slow')) await new Promise((settle) => setTimeout(settle, 30));
    const typed = request.headers['content-type'] === 'application/json';
    const body = this.is('needs a Content-Type') && !typed ? Buffer.alloc(0) : Buffer.concat(parts);
    try {
      return [200, JSON.stringify({ ...this.answer(path, body), Err: '' })];
    } catch (reason) {
      if (this.is('answers failures with an empty body')) return [200, ''];
      return [200, JSON.stringify({ Err: String(reason) })];
    }
  }

  async listen(path: string): Promise<void> {
    const server = createServer(
      { keepAliveTimeout: this.is('closes idle connections') ? 300 : 0, keepAliveTimeoutBuffer: 1 },
      (request, response) => {
        void this.respond(request)
          .then(([status, text]) => response.writeHead(status).end(text))
          .catch(() => response.destroy());
      },
    );
    await new Promise<void>((settle) => server.listen(path, settle));
    closing.push(() => closeServer(server));
  }
}

/* eslint-enable complexity */

describe('a tiny driver', () => {
  const quick = ['--create-opt', 'size=200M', '--idle', '2', '--calls', '20', '--limit', '20'];

  it('without a defect conforms, and what needs an outage is told as skipped', async () => {
    await new TinyDriver('none').listen(socketPath);
    const { code, cases } = await judge(socketPath, ...quick);
    expect(failures(cases)).toEqual([]);
    expect(code).toBe(0);
    const skipped = cases.filter(({ verdict }) => verdict === 'skipped');
    expect(new Set(skipped.map(({ group }) => group))).toEqual(new Set(['outage']));
    for (const { detail } of skipped) expect(detail).toContain('--outage-begin');
  });

  it.each<[Defect, RegExp, RegExp]>([
    ['needs a Content-Type', /^wire: a call with an empty/, /no Content-Type/],
    ['takes an empty body for the volume ""', /^bodies: (Create|Get)/, /Create with no name/],
    ['closes idle connections', /^wire: a connection stays/, /idle/],
    ['answers failures with an empty body', /^wire: every/, /JSON/],
    ['writes CreatedAt as it likes', /^wire: .*CreatedAt/, /CreatedAt/],
    ['makes CreatedAt anew at each Create', /^wire: CreatedAt/, /CreatedAt/],
    ['keeps IDs as a set', /^mount: the same/, /the same ID mounted twice/],
    ['removes what is mounted', /^mount: Remove/, /Remove of a mounted volume/],
    ['counts below zero', /^idempotence: Unmount of an ID/, /leaves the mounts of others/],
    ['finds names in any case', /^names: names that differ/, /differ in case/],
    ['lets names lead anywhere', /^names: a name that leads/, /leads elsewhere/],
    ['makes what is mounted', /^idempotence: Mount/, /never was is refused/],
    ['keeps what could not be made', /^bodies: an unknown/, /unknown option/],
    ['lists nothing', /^lookup: List/, /List has each volume once/],
    ['has a scope of its own', /^lookup: Cap/, /Scope/],
    ['fails the second Create', /^idempotence: Create again with the same/, /same options/],
    ['makes two of one', /^concurrency: ten Creates of one/, /one name at once/],
    ['answers one call at a time', /^outage: lookups/, /hold up none/],
    ['is slow', /^latency: Get/, /answers in time/],
    ['forgets in an outage', /^outage: Get of a known/, /known volume answers/],
    ['keeps removed volumes', /^idempotence: Remove again/, /nothing is left/],
    ['answers GET', /^wire: another/, /another method/],
  ])('that %s fails the case that is there for it', async (defect, only, expected) => {
    const driver = new TinyDriver(defect);
    await driver.listen(socketPath);
    const flag = join(folder, 'away');
    const watch = setInterval(() => (driver.away = existsSync(flag)), 5);
    closing.push(() => {
      clearInterval(watch);
      return Promise.resolve();
    });
    const hooks = ['--outage-begin', `touch ${flag}; sleep 0.1`, '--outage-end', `rm -f ${flag}; sleep 0.1`];
    const args = [...quick, ...hooks, '--latency-bar', '15', '--only', only.source];
    const { code, cases } = await judge(socketPath, ...args);
    expect(failures(cases).join('\n')).toMatch(expected);
    expect(code).toBe(1);
  });
});

describe('the command', () => {
  it('tells how to use it', async () => {
    const told = await conformance('--help');
    expect([told.code, told.stdout]).toEqual([0, expect.stringContaining('--outage-begin') as string]);
    expect((await conformance('--list')).stdout).toMatch(
      /^mount: the same ID mounted twice needs two Unmounts/m,
    );
  });

  it.each([
    [['--socket', '/nowhere/driver.sock'], /nobody takes connections/],
    [[], /--socket PATH is missing/],
    [['--socket', 'x', '--create-opt', 'size'], /KEY=VALUE/],
    [['--socket', 'x', '--outage-begin', 'true'], /given together/],
    [['--socket', 'x', '--sockets'], /Unknown option/],
    [['--socket', 'x', '--only', 'no such case'], /matches no case/],
  ])('with %j ends with 2 and the reason', async (args, reason) => {
    const { code, stderr } = await conformance(...args);
    expect(code).toBe(2);
    expect(stderr).toMatch(reason);
  });

  it('that is interrupted takes back what it made, brings the backend back, and ends with 2', async () => {
    const driver = new TinyDriver('none');
    await driver.listen(socketPath);
    const flag = join(folder, 'away');
    await writeFile(flag, '');
    const child = spawn(
      process.execPath,
      [
        ...[...program, '--socket', socketPath, '--only', '^outage', '--volumes', '5', '--calls', '1000000'],
        ...['--outage-begin', 'true', '--outage-end', `rm -f ${flag}`],
      ],
      { cwd: repository },
    );
    let output = '';
    child.stdout.on('data', (text: Buffer) => (output += text.toString()));
    const ended = new Promise((settle) => child.once('exit', settle));
    while (!/outage +Remove ends/.test(output)) await new Promise((settle) => setTimeout(settle, 20));
    expect(driver.volumes.length).toBeGreaterThan(0);
    child.kill('SIGINT');
    expect(await ended).toBe(2);
    expect(output).toContain('interrupted');
    expect(driver.volumes).toEqual([]);
    expect(existsSync(flag)).toBe(false);
  });
});
