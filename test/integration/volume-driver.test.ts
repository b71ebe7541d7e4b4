import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../src/context.js';
import { AppError, type ErrorCode } from '../../src/errors.js';
import { createLog } from '../../src/log.js';
import { createVolumeDriver, type VolumeDriver } from '../../src/volume-driver/server.js';
import type { VolumeService, VolumeView } from '../../src/volumes/volume-service.js';

interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** A connection that writes exactly the bytes it is told to, as engines differ in what they send. */
class Wire {
  readonly socket: Socket;
  #received = '';
  ended = false;

  constructor(socketPath: string) {
    this.socket = connect({ path: socketPath, allowHalfOpen: true });
    this.socket.setEncoding('utf8');
    this.socket.on('data', (data: string) => (this.#received += data));
    this.socket.on('end', () => (this.ended = true));
    this.socket.on('close', () => (this.ended = true));
    this.socket.on('error', () => (this.ended = true));
  }

  write(bytes: string): this {
    this.socket.write(bytes);
    return this;
  }

  /** The next answer, or undefined when the other side hung up without one. */
  async next(): Promise<Reply | undefined> {
    for (;;) {
      const match = /^HTTP\/1\.1 (\d+) [^\r]*\r\n(.*?)\r\n\r\n/s.exec(this.#received);
      if (match) {
        const lines = (match[2] ?? '').split('\r\n').map((line) => line.split(': '));
        const headers = Object.fromEntries(lines.map(([name, value]) => [name!.toLowerCase(), value!]));
        const chunked = headers['transfer-encoding'] === 'chunked';
        const rest = this.#received.slice(match[0].length);
        if (chunked && rest.includes('0\r\n\r\n')) {
          const [size, text] = rest.split('\r\n', 2);
          this.#received = rest.slice(rest.indexOf('0\r\n\r\n') + 5);
          return { status: Number(match[1]), headers, text: (text ?? '').slice(0, parseInt(size!, 16)) };
        }
        const length = Number(headers['content-length'] ?? NaN);
        if (rest.length >= length) {
          this.#received = rest.slice(length);
          return { status: Number(match[1]), headers, text: rest.slice(0, length) };
        }
      }
      if (this.ended) return undefined;
      await delay(2);
    }
  }
}

function post(call: string, body: string, headers: readonly string[] = ['Host: ']): string {
  const head = [`POST /${call} HTTP/1.1`, ...headers, `Content-Length: ${String(Buffer.byteLength(body))}`];
  return `${head.join('\r\n')}\r\n\r\n${body}`;
}

function view(name: string): VolumeView {
  return { name, mountpoint: '', createdAt: '2026-01-02T03:04:05Z', status: { size: '10 GiB' } };
}

let folder: string;
let socketPath: string;
let driver: VolumeDriver;
let calls: unknown[][];
let signals: AbortSignal[];
let logged: string[];
let overrides: Partial<VolumeService>;
let wires: Wire[];

const service: VolumeService = {
  async create(ctx, ...rest) {
    calls.push(['create', ...rest]);
    await overrides.create?.(ctx, ...rest);
  },
  async remove(ctx, ...rest) {
    calls.push(['remove', ...rest]);
    await overrides.remove?.(ctx, ...rest);
  },
  async mount(ctx, ...rest) {
    calls.push(['mount', ...rest]);
    signals.push(ctx.signal);
    return (await overrides.mount?.(ctx, ...rest)) ?? `/mnt/openebs/${rest[0]}`;
  },
  async unmount(ctx, ...rest) {
    calls.push(['unmount', ...rest]);
    await overrides.unmount?.(ctx, ...rest);
  },
  async get(ctx, name) {
    calls.push(['get', name]);
    return (await overrides.get?.(ctx, name)) ?? view(name);
  },
  list: () => overrides.list?.() ?? [view('db')],
};

const log = createLog('error', { write: (line: string) => void logged.push(line) });

function throws(code: ErrorCode, message: string) {
  return (): Promise<never> => Promise.reject(new AppError(code, message));
}

function open(): Wire {
  const wire = new Wire(socketPath);
  wires.push(wire);
  return wire;
}

async function ask(call: string, body: string, headers?: readonly string[]): Promise<unknown> {
  const reply = await open()
    .write(post(call, body, headers))
    .next();
  return reply && (JSON.parse(reply.text) as unknown);
}

async function until(condition: () => boolean): Promise<void> {
  const started = performance.now();
  while (!condition()) {
    if (performance.now() - started > 10_000) throw new Error('the condition never came true');
    await delay(2);
  }
}

beforeEach(async () => {
  [calls, signals, logged, overrides, wires] = [[], [], [], {}, []];
  folder = await mkdtemp(path.join(tmpdir(), 'driver-'));
  socketPath = path.join(folder, 'openebs.sock');
  driver = createVolumeDriver({ service, log });
  await driver.listen(socketPath);
});

afterEach(async () => {
  for (const wire of wires) wire.socket.destroy();
  await driver.close();
  await rm(folder, { recursive: true, force: true });
});

describe('the nine calls', () => {
  it.each([
    ['Plugin.Activate', '', { Implements: ['VolumeDriver'] }],
    ['VolumeDriver.Capabilities', '{}', { Capabilities: { Scope: 'global' } }],
    ['VolumeDriver.Create', '{"Name":"db","Opts":{"size":"1G"}}', { Err: '' }],
    ['VolumeDriver.Remove', '{"Name":"db"}', { Err: '' }],
    ['VolumeDriver.Mount', '{"Name":"db","ID":"i1"}', { Mountpoint: '/mnt/openebs/db', Err: '' }],
    ['VolumeDriver.Unmount', '{"Name":"db","ID":"i1"}', { Err: '' }],
    ['VolumeDriver.Path', '{"Name":"db"}', { Mountpoint: '', Err: '' }],
    [
      'VolumeDriver.Get',
      '{"Name":"db"}',
      {
        Volume: { Name: 'db', Mountpoint: '', CreatedAt: '2026-01-02T03:04:05Z', Status: { size: '10 GiB' } },
        Err: '',
      },
    ],
    [
      'VolumeDriver.List',
      '{}',
      { Volumes: [{ Name: 'db', Mountpoint: '', CreatedAt: '2026-01-02T03:04:05Z' }], Err: '' },
    ],
  ])('%s answers as Docker reads it', async (call, body, expected) => {
    const reply = await open().write(post(call, body)).next();
    expect(reply?.status).toBe(200);
    expect(reply?.headers['content-type']).toBe('application/vnd.docker.plugins.v1.2+json');
    expect(JSON.parse(reply!.text)).toEqual(expected);
  });

  it('hand the service what was asked', async () => {
    await ask('VolumeDriver.Create', '{"Name":"db","Opts":{"size":"1G"}}');
    await ask('VolumeDriver.Create', '{"Name":"db","Opts":null}');
    await ask('VolumeDriver.Mount', '{"Name":"db","ID":"i1"}');
    await ask('VolumeDriver.Unmount', '{"Name":"db","ID":"i1"}');
    expect(calls).toEqual([
      ['create', 'db', { size: '1G' }],
      ['create', 'db', {}],
      ['mount', 'db', 'i1'],
      ['unmount', 'db', 'i1'],
    ]);
  });
});

describe('requests as clients send them', () => {
  it.each<[string, string[]]>([
    ['an empty Host', ['Host: ']],
    ['no Host', []],
    ['no Content-Type but Accept', ['Host: ', 'Accept: application/vnd.docker.plugins.v1.2+json']],
    ['a form Content-Type', ['Host: x', 'Content-Type: application/x-www-form-urlencoded']],
    ['a JSON Content-Type in another charset', ['Host: x', 'Content-Type: application/json; charset=latin1']],
  ])('are understood with %s', async (_, headers) => {
    expect(await ask('VolumeDriver.Create', '{"Name":"db"}', headers)).toEqual({ Err: '' });
    expect(calls).toEqual([['create', 'db', {}]]);
  });

  it('are understood in chunks that come late', async () => {
    const wire = open().write('POST /VolumeDriver.Create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n');
    wire.write('8\r\n{"Name":\r\n');
    await delay(50);
    const reply = await wire.write('5\r\n"db"}\r\n0\r\n\r\n').next();
    expect(reply?.text).toBe('{"Err":""}');
    expect(calls).toEqual([['create', 'db', {}]]);
  });

  it('are answered in order when they come together', async () => {
    overrides = { mount: () => delay(50, '/slow') };
    const wire = open().write(
      post('VolumeDriver.Mount', '{"Name":"a1","ID":"i"}') + post('VolumeDriver.Capabilities', '{}'),
    );
    expect((await wire.next())?.text).toContain('/slow');
    expect((await wire.next())?.text).toContain('global');
  });

  it('find a connection open that was idle for longer than the default keep-alive time', async () => {
    const wire = open().write(post('VolumeDriver.Capabilities', '{}'));
    expect((await wire.next())?.headers['connection']).not.toBe('close');
    await delay(7000);
    expect(wire.ended).toBe(false);
    expect((await wire.write(post('VolumeDriver.List', '{}')).next())?.status).toBe(200);
  });

  it('are served fifty at a time', async () => {
    overrides = { mount: (_ctx, name) => delay(20, `/mnt/${name}`) };
    const names = Array.from({ length: 50 }, (_, index) => `v${String(index)}`);
    const answers = await Promise.all(
      names.map((name) => ask('VolumeDriver.Mount', JSON.stringify({ Name: name, ID: name }))),
    );
    expect(answers).toEqual(names.map((name) => ({ Mountpoint: `/mnt/${name}`, Err: '' })));
  });
});

const needName = ['Create', 'Remove', 'Mount', 'Unmount', 'Path', 'Get'].map(
  (call) => `VolumeDriver.${call}`,
);

describe('a request that cannot be meant', () => {
  it.each(
    needName.flatMap((call) =>
      [
        '',
        '  ',
        '[]',
        '[{"Name":"db","ID":"i"}]',
        'null',
        '"db"',
        '{',
        '{}',
        '{"Name":""}',
        '{"Name":5,"ID":"i"}',
      ]
        // That has no answer: see below.
        .filter((body) => call !== 'VolumeDriver.Get' || body.trim() !== '')
        .map((body) => [call, body] as const),
    ),
  )('to %s with body %j gets an Err and has no effect', async (call, body) => {
    expect(await ask(call, body)).toEqual({ Err: expect.stringMatching(/request/) as string });
    expect(calls).toEqual([]);
    expect(logged).toHaveLength(1);
  });

  it.each(['Mount', 'Unmount'])('to %s without a mount id gets an Err and has no effect', async (call) => {
    expect(await ask(`VolumeDriver.${call}`, '{"Name":"db"}')).toEqual({
      Err: expect.stringContaining('no ID') as string,
    });
    expect(calls).toEqual([]);
  });

  it.each([
    ['{"Name":"db","Opts":{"size":5}}', 'option "size" must be a string, not number'],
    ['{"Name":"db","Opts":{"size":null}}', 'option "size" must be a string, not null'],
    ['{"Name":"db","Opts":["size"]}', 'Opts must be an object of strings'],
    ['{"Name":"db","Opts":"size=1"}', 'Opts must be an object of strings'],
  ])('to Create with %s is told why', async (body, message) => {
    expect(await ask('VolumeDriver.Create', body)).toEqual({ Err: message });
    expect(calls).toEqual([]);
  });

  it('of more than 1 MiB gets an Err', async () => {
    const body = JSON.stringify({ Name: 'db', Opts: { size: 'x'.repeat(1024 ** 2) } });
    expect(await ask('VolumeDriver.Create', body)).toEqual({
      Err: 'the request body is larger than 1048576 bytes',
    });
    expect(calls).toEqual([]);
  });

  it.each(['VolumeDriver.Resize', 'volumedriver.create', 'VolumeDriver.Create/', ''])(
    'to the unknown path /%s gets 404',
    async (call) => {
      const reply = await open().write(post(call, '{"Name":"db"}')).next();
      expect(reply?.status).toBe(404);
      expect(JSON.parse(reply!.text)).toHaveProperty('Err');
      expect(await ask('VolumeDriver.List', '{}')).toHaveProperty('Volumes');
    },
  );

  it('with another method than POST gets 405', async () => {
    const reply = await open().write('GET /VolumeDriver.List HTTP/1.1\r\n\r\n').next();
    expect(reply?.status).toBe(405);
    expect(JSON.parse(reply!.text)).toHaveProperty('Err');
  });
});

describe('a call that fails', () => {
  it.each(['Create', 'Mount', 'Remove', 'Unmount', 'Path'])(
    'tells the user why: %s gives the reason as Err with status 200, and one log line',
    async (call) => {
      const fail = throws('unavailable', 'etcd does not answer');
      overrides = { create: fail, mount: fail, remove: fail, unmount: fail, get: fail };
      const reply = await open()
        .write(post(`VolumeDriver.${call}`, '{"Name":"db","ID":"i"}'))
        .next();
      expect(reply).toMatchObject({ status: 200, text: '{"Err":"etcd does not answer"}' });
      expect(logged).toHaveLength(1);
      expect(JSON.parse(logged[0]!)).toMatchObject({
        level: 'error',
        call: `VolumeDriver.${call}`,
        requestId: expect.any(String) as string,
      });
    },
  );

  it.each([
    ['Remove', { Err: '' }],
    ['Unmount', { Err: '' }],
    ['Mount', { Err: 'no volume db' }],
    ['Path', { Err: 'no volume db' }],
    ['Get', { Err: 'no volume db' }],
  ])('with an unknown volume: %s answers %j', async (call, expected) => {
    const fail = throws('not_found', 'no volume db');
    overrides = { mount: fail, remove: fail, unmount: fail, get: fail };
    expect(await ask(`VolumeDriver.${call}`, '{"Name":"db","ID":"i"}')).toEqual(expected);
  });

  it('is answered when its time is over, and told to stop', async () => {
    await driver.close();
    driver = createVolumeDriver({ service, log, requestTimeoutMs: 50 });
    await driver.listen(socketPath);
    overrides = { mount: () => new Promise(() => undefined) };
    expect(await ask('VolumeDriver.Mount', '{"Name":"db","ID":"i"}')).toEqual({
      Err: expect.stringContaining('no result within 0.05 s') as string,
    });
    expect(signals[0]?.aborted).toBe(true);
  });
});

describe('a Get that cannot be answered', () => {
  it.each<ErrorCode>(['unavailable', 'no_leader', 'deadline_exceeded', 'conflict', 'canceled', 'internal'])(
    'with %s loses its connection instead of an Err',
    async (code) => {
      overrides = { get: throws(code, 'unknowable') };
      expect(await ask('VolumeDriver.Get', '{"Name":"db"}')).toBeUndefined();
      expect(logged).toHaveLength(1);
    },
  );

  it('with a foreign error loses its connection too', async () => {
    overrides = { get: () => Promise.reject(new TypeError('a defect')) };
    expect(await ask('VolumeDriver.Get', '{"Name":"db"}')).toBeUndefined();
  });

  it("drops the engine's repetitions, which have no body, and serves whole ones", async () => {
    overrides = { get: throws('unavailable', 'unknowable') };
    expect(await ask('VolumeDriver.Get', '{"Name":"db"}')).toBeUndefined();
    overrides = {};
    expect(await ask('VolumeDriver.Get', '')).toBeUndefined();
    expect(await ask('VolumeDriver.Get', '{"Name":"db"}')).toHaveProperty('Volume');
    expect(await ask('VolumeDriver.Create', '')).toHaveProperty('Err');
  });

  it('is one without a body too: its first try may have been answered to an engine that had given up', async () => {
    expect(await ask('VolumeDriver.Get', '{"Name":"db"}')).toHaveProperty('Volume');
    expect(await ask('VolumeDriver.Get', '')).toBeUndefined();
    expect(await ask('VolumeDriver.Get', ' \n')).toBeUndefined();
  });

  it('drops the repetitions of one whose client gave up', async () => {
    overrides = { get: () => new Promise(() => undefined) };
    const wire = open().write(post('VolumeDriver.Get', '{"Name":"db"}'));
    await until(() => calls.length === 1);
    wire.socket.destroy();
    await until(() => logged.length === 1);
    expect(await ask('VolumeDriver.Get', '')).toBeUndefined();
  });
});

describe('a client that leaves', () => {
  const hanging = (ctx: Ctx) =>
    new Promise<string>((_, reject) => {
      ctx.signal.addEventListener('abort', () => {
        reject(new AppError('canceled', 'rolled back'));
      });
    });

  it.each<[string, (wire: Wire) => void]>([
    ['closes the connection', (wire) => wire.socket.destroy()],
    ['closes its sending side', (wire) => wire.socket.end()],
  ])('and %s aborts its call, no other', async (_, leave) => {
    overrides = { mount: hanging };
    const stays = open().write(post('VolumeDriver.Mount', '{"Name":"stays","ID":"i"}'));
    await until(() => calls.length === 1);
    const leaves = open().write(post('VolumeDriver.Mount', '{"Name":"leaves","ID":"i"}'));
    await until(() => calls.length === 2);
    leave(leaves);
    await until(() => signals[1]!.aborted);
    expect(signals[0]?.aborted).toBe(false);
    expect(stays.ended).toBe(false);
    await until(() => logged.length === 1);
    expect(await ask('VolumeDriver.List', '{}')).toHaveProperty('Volumes');
  });

  it('after the answer aborts nothing', async () => {
    const wire = open().write(post('VolumeDriver.Mount', '{"Name":"db","ID":"i"}'));
    await wire.next();
    wire.socket.destroy();
    await delay(50);
    expect(signals[0]?.aborted).toBe(false);
    expect(logged).toEqual([]);
  });

  it('in the middle of its body has no effect', async () => {
    const wire = open().write(
      'POST /VolumeDriver.Create HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"Name":"db"}',
    );
    // Long enough for the driver to have begun to read it, also on a busy machine.
    await delay(500);
    wire.socket.destroy();
    await until(() => logged.length === 1);
    expect(calls).toEqual([]);
  });
});

describe('the socket', () => {
  it('is for root alone', async () => {
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
  });

  it('answers what is in flight before it closes, also on an idle keep-alive connection beside it', async () => {
    overrides = { mount: () => delay(150, '/late') };
    const idle = open().write(post('VolumeDriver.Capabilities', '{}'));
    await idle.next();
    const busy = open().write(post('VolumeDriver.Mount', '{"Name":"db","ID":"i"}'));
    await until(() => calls.length === 1);
    const closed = driver.close();
    expect((await busy.next())?.text).toContain('/late');
    await closed;
    expect(signals[0]?.aborted).toBe(false);
    await until(() => idle.ended && busy.ended);
  });

  it('replaces the file that a killed process left', async () => {
    const stale = path.join(folder, 'stale.sock');
    const dead = createServer();
    dead.listen(stale);
    await once(dead, 'listening');
    const { rename } = await import('node:fs/promises');
    await rename(stale, `${stale}.kept`);
    dead.close();
    await rename(`${stale}.kept`, stale);
    const second = createVolumeDriver({ service, log });
    await second.listen(stale);
    await second.close();
  });

  it('is not taken from a living process', async () => {
    const second = createVolumeDriver({ service, log });
    await expect(second.listen(socketPath)).rejects.toMatchObject({ code: 'conflict' });
    expect(await ask('VolumeDriver.List', '{}')).toHaveProperty('Volumes');
  });

  it('does not delete a file that is no socket', async () => {
    const file = path.join(folder, 'precious');
    await writeFile(file, 'data');
    await expect(createVolumeDriver({ service, log }).listen(file)).rejects.toThrow(/is no socket/);
  });
});

it('prints how long memory-backed calls take at 1,000 volumes', async () => {
  const volumes = Array.from({ length: 1000 }, (_, index) => view(`volume-${String(index)}`));
  overrides = { list: () => volumes };
  for (const [call, body] of [
    ['Get', '{"Name":"volume-7"}'],
    ['List', '{}'],
    ['Capabilities', '{}'],
  ] as const) {
    const wire = open();
    const times: number[] = [];
    for (let round = 0; round < 300; round += 1) {
      const started = performance.now();
      wire.write(post(`VolumeDriver.${call}`, body));
      expect((await wire.next())?.status).toBe(200);
      times.push(performance.now() - started);
    }
    times.sort((a, b) => a - b);
    console.log(
      `${call}: p50 ${times[150]!.toFixed(2)} ms, p99 ${times[297]!.toFixed(2)} ms (poll of 2 ms included)`,
    );
  }
});
