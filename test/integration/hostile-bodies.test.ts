/** What anybody may send to the driver's socket: each call gets one answer that is fit for a terminal. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AppError } from '../../src/errors.js';
import { createLog } from '../../src/log.js';
import { createVolumeDriver, type VolumeDriver } from '../../src/volume-driver/server.js';
import { parseOptions } from '../../src/volumes/options.js';
import { parseVolumeName } from '../../src/volumes/volume-name.js';
import type { VolumeService, VolumeView } from '../../src/volumes/volume-service.js';

const defaults = { sizeBytes: 2 ** 30, fs: 'ext4', pool: 'default' } as const;
/** The largest that is still a name, and what is no plain word. */
const known = new Set<string>();
const logged: string[] = [];
let folder: string;
let socketPath: string;
let driver: VolumeDriver;
const agent = new Agent({ keepAlive: true, maxSockets: 4 });

function mustBeName(name: string): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}$/.test(name)) throw new Error(`the service was asked for ${name}`);
}

function view(name: string): VolumeView {
  mustBeName(name);
  if (!known.has(name)) throw new AppError('not_found', `volume ${name} does not exist`);
  return { name, mountpoint: '', createdAt: '', status: {} };
}

/** Checks as the real one does, and refuses to be asked for what cannot be. */
const service: VolumeService = {
  create(_ctx, name, options) {
    known.add(parseVolumeName(name));
    parseOptions(options, defaults);
    return Promise.resolve();
  },
  remove: (_ctx, name) => {
    mustBeName(name);
    known.delete(name);
    return Promise.resolve();
  },
  mount: (_ctx, name, id) => {
    if (id.length > 255 || /\p{Cc}/u.test(id)) throw new Error(`the service was given the id ${id}`);
    return Promise.resolve(`/mnt/openebs/${view(name).name}`);
  },
  unmount: (_ctx, name) => Promise.resolve(void view(name)),
  get: (_ctx, name) => Promise.resolve(view(name)),
  list: () => [...known].map(view),
};

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'bodies-'));
  socketPath = join(folder, 'openebs.sock');
  driver = createVolumeDriver({
    service,
    log: createLog('debug', { write: (line: string) => void logged.push(line) }),
  });
  await driver.listen(socketPath);
});

afterAll(async () => {
  agent.destroy();
  await driver.close();
  rmSync(folder, { recursive: true });
});

function send(call: string, body: string | Uint8Array): Promise<[status: number, text: string]> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath, agent, method: 'POST', path: `/${call}` }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => (text += part));
      answer.on('end', () => {
        resolve([answer.statusCode ?? 0, text]);
      });
    });
    asking.on('error', reject).end(body);
  });
}

const calls = ['Create', 'Remove', 'Mount', 'Unmount', 'Path', 'Get', 'List', 'Capabilities'].map(
  (name) => `VolumeDriver.${name}`,
);
const odd = fc.oneof(
  fc.constantFrom(
    'db',
    'data-1',
    'a',
    '',
    '../x',
    'x\ny',
    'x\0',
    '__proto__',
    '.',
    'x'.repeat(300),
    '\u202e',
  ),
  fc.string({ unit: 'binary', maxLength: 12 }),
);
const options = fc.oneof(
  fc.dictionary(
    fc.oneof(fc.constantFrom('size', 'fs', 'mkfs', 'mount', 'pool', 'help', '__proto__'), odd),
    odd,
  ),
  fc.jsonValue(),
);
const body = fc.oneof(
  { weight: 4, arbitrary: fc.record({ Name: odd, ID: odd, Opts: options }, { requiredKeys: [] }) },
  { weight: 1, arbitrary: fc.record({ Name: fc.jsonValue(), ID: fc.jsonValue(), Opts: fc.jsonValue() }) },
  { weight: 1, arbitrary: fc.jsonValue() },
);
const bytes = fc.oneof(
  { weight: 5, arbitrary: body.map((value) => Buffer.from(JSON.stringify(value))) },
  fc.uint8Array({ maxLength: 64 }).map((raw) => Buffer.from(raw)),
);

describe('any body', () => {
  it('gets an answer with one line that a terminal may be shown, and reaches nothing it should not', async () => {
    let errors = 0;
    let successes = 0;
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...calls), bytes, async (call, sent) => {
        if (call === 'VolumeDriver.Get' && sent.toString('utf8').trim() === '') {
          // As an engine repeats one: it takes any answer for the absence of a volume.
          await expect(send(call, sent)).rejects.toThrow('socket hang up');
          return;
        }
        const [status, text] = await send(call, sent);
        expect(status).toBe(200);
        const answer = JSON.parse(text) as { Err?: string };
        const told = answer.Err ?? '';
        if (told === '') successes++;
        else errors++;
        // The table of options that help asks for is of many lines of our own.
        if (!told.startsWith('options of the driver')) expect(told).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
        expect(told.length).toBeLessThan(8000);
        expect(told).not.toContain('the service was');
      }),
      { numRuns: 2000 },
    );
    expect(Math.min(errors, successes)).toBeGreaterThan(100);
    for (const line of logged) expect(line).toMatch(/^\{.*\}\n$/);
    for (const line of logged) expect(line.slice(0, -1)).not.toMatch(/[\0-\x1f]/);
    expect(Object.prototype).toEqual({});
  }, 60_000);

  it.each(['x'.repeat(256), 'a\nb', '\u0000'])('with %j for a mount id is refused', async (id) => {
    known.add('db');
    const [, text] = await send('VolumeDriver.Mount', JSON.stringify({ Name: 'db', ID: id }));
    expect(JSON.parse(text)).toMatchObject({ Err: expect.stringContaining('the ID') as string });
  });

  it.each(['Path', 'Get', 'Mount', 'Unmount', 'Remove'])(
    'of %s for a name that cannot be is absence',
    async (call) => {
      const sent = JSON.stringify({ Name: '../../x\n', ID: 'i' });
      const [, text] = await send(`VolumeDriver.${call}`, sent);
      const absent = 'volume "../../x\\u{a}" does not exist';
      expect(JSON.parse(text)).toEqual({ Err: ['Remove', 'Unmount'].includes(call) ? '' : absent });
    },
  );
});

describe('the socket', () => {
  it('is never open for others, whatever the mask of the process', async () => {
    const before = process.umask(0);
    const other = createVolumeDriver({ service, log: createLog('silent') });
    try {
      const listening = other.listen(join(folder, 'other.sock'));
      const modes = new Set<number>();
      const done = new AbortController();
      const looking = (async () => {
        while (!done.signal.aborted) {
          const found = statSync(join(folder, 'other.sock'), { throwIfNoEntry: false });
          if (found) modes.add(found.mode & 0o777);
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
      await listening.finally(() => {
        done.abort();
      });
      await looking;
      modes.add(statSync(join(folder, 'other.sock')).mode & 0o777);
      expect([...modes]).toEqual([0o600]);
      expect(process.umask(0)).toBe(0);
    } finally {
      process.umask(before);
      await other.close();
    }
  });
});
