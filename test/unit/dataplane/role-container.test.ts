import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createHostPaths } from '../../../src/dataplane/host-paths.js';
import { createRoleContainers, type RoleContainer } from '../../../src/dataplane/role-container.js';
import { generationOf } from '../../../src/dataplane/role-spec.js';
import type { Engine } from '../../../src/docker/engine.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';

const NAME = 'openebs-target-v1';
const within = (ms: number): Ctx => ({
  log: createLog('silent'),
  signal: AbortSignal.timeout(ms),
  requestId: 'test',
});
const ctx = within(60_000);

let root: string;
let roles: FakeRole[] = [];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'role-'));
});

afterEach(async () => {
  await Promise.all(roles.map((role) => role.stop()));
  [roles, repairs] = [[], []];
  rmSync(root, { recursive: true });
});

const directory = () => join(root, 'var/lib/openebs/containers', NAME);

/** What plugin/image/Role.pm says on its socket: one command a connection, one line of JSON. */
class FakeRole {
  state = 'ready';
  error = '';
  generation = '';
  /** Whether it applies a spec that it is told to read again. */
  applies = true;
  readonly commands: string[] = [];
  readonly #server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (data) => {
      const command = data.toString().trim();
      this.commands.push(command);
      if (command === 'reload' && this.applies) this.#apply();
      const { state, error, generation } = this;
      socket.end(`${JSON.stringify({ role: 'target', state, error, generation, device: null })}\n`);
    });
  });

  #apply(): void {
    const spec = readFileSync(join(directory(), 'spec'), 'utf8');
    this.generation = /^generation (\S+)$/m.exec(spec)?.[1] ?? '';
  }

  async start(): Promise<this> {
    roles.push(this);
    mkdirSync(directory(), { recursive: true });
    this.#apply();
    await new Promise<void>((resolve) => this.#server.listen(join(directory(), 'ctl'), resolve));
    return this;
  }

  async stop(): Promise<void> {
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** An engine that refuses what a test did not give it. */
function fakeEngine(given: Partial<Engine>): Engine {
  const refuse = (call: string) => () => Promise.reject(new AppError('internal', `unexpected call: ${call}`));
  return {
    answers: refuse('answers'),
    info: refuse('info'),
    hasImage: refuse('hasImage'),
    importImage: refuse('importImage'),
    findsDirectory: refuse('findsDirectory'),
    withLabel: refuse('withLabel'),
    removeEnded: refuse('removeEnded'),
    removeOldTags: refuse('removeOldTags'),
    ensureContainer: refuse('ensureContainer'),
    removeContainer: refuse('removeContainer'),
    volumeUsers: refuse('volumeUsers'),
    startUnmounted: refuse('startUnmounted'),
    ...given,
  };
}

let repairs: string[] = [];

const over = (given: Partial<Engine>) =>
  createRoleContainers(fakeEngine(given), createHostPaths(root, '/mnt'), ({ name }, what) => {
    repairs.push(`${name} ${what}`);
  });

const wanted = (epoch: number): RoleContainer => ({
  container: {
    name: NAME,
    image: 'image',
    command: ['target'],
    labels: {},
    capabilities: [],
    devices: [],
    deviceRules: [],
    securityOptions: [],
    stopTimeoutSeconds: 10,
  },
  spec: {
    lines: [
      ['volume', 'v1'],
      ['admit', `iqn.a user-${String(epoch)} secret-${String(epoch)}`],
    ],
    secrets: { [`secret-${String(epoch)}`]: `s3cr3t-${String(epoch)}` },
  },
});

/** An engine whose container runs at once. */
function runningEngine() {
  const role = new FakeRole();
  const started: { name: string; binds: unknown; environment: string }[] = [];
  const engine: Partial<Engine> = {
    answers: () => Promise.resolve(true),
    ensureContainer: async (_ctx, spec) => {
      started.push({ name: spec.name, binds: spec.binds, environment: JSON.stringify(spec) });
      await role.start();
      return 'created' as const;
    },
  };
  return { engine, role, started };
}

describe('a role', () => {
  it('is started with its spec and secrets on disk, for nobody else to read', async () => {
    const { engine, started } = runningEngine();
    const status = await over(engine).ensure(ctx, wanted(1));
    expect(status).toMatchObject({ state: 'ready', generation: generationOf(wanted(1).spec) });
    expect(started).toMatchObject([
      { name: NAME, binds: [{ source: `/var/lib/openebs/containers/${NAME}`, target: '/spec' }] },
    ]);
    expect(started[0]?.environment).not.toContain('s3cr3t');
    expect(readFileSync(join(directory(), 'secret-1'), 'utf8')).toBe('s3cr3t-1');
    expect(readFileSync(join(directory(), 'spec'), 'utf8')).not.toContain('s3cr3t');
    for (const file of ['spec', 'secret-1'])
      expect(statSync(join(directory(), file)).mode & 0o777).toBe(0o600);
    expect(statSync(dirname(directory())).isDirectory()).toBe(true);
    expect(statSync(directory()).mode & 0o077).toBe(0);
  });

  it('that answers at the wanted generation costs no call of the engine', async () => {
    const { engine } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    await expect(over({}).ensure(ctx, wanted(1))).resolves.toMatchObject({ state: 'ready' });
  });

  it('is told to read a changed spec, not started anew, and keeps no secret of the former', async () => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    const status = await over({}).ensure(ctx, wanted(2));
    expect(status.generation).toBe(generationOf(wanted(2).spec));
    expect(role.commands).toContain('reload');
    expect(readdirSync(directory()).sort()).toEqual(['ctl', 'secret-2', 'spec']);
  });

  it.each([
    ['its last lines', 'spec', (text: string) => text.slice(0, text.indexOf('\n') + 1)],
    ['a value', 'spec', (text: string) => text.replace('volume v1', 'volume v2')],
    ['its checksum', 'spec', (text: string) => text.slice(0, -4)],
    ['a secret', 'secret-1', () => 'other'],
  ])('whose spec lost or changed %s has it written anew, and reads it again', async (_what, file, damage) => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    const whole = readFileSync(join(directory(), file), 'utf8');
    writeFileSync(join(directory(), file), damage(whole));
    expect(readFileSync(join(directory(), file), 'utf8')).not.toBe(whole);
    expect((await over({}).observe(ctx, NAME)).generation).toBe('');
    role.commands.length = 0;
    await over({}).ensure(ctx, wanted(1));
    expect(role.commands).toContain('reload');
    expect(readFileSync(join(directory(), file), 'utf8')).toBe(whole);
    expect((await over({}).observe(ctx, NAME)).generation).toBe(generationOf(wanted(1).spec));
  });

  it('that never applies the wanted spec is not taken for ready', async () => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    role.applies = false;
    await expect(over({}).ensure(within(200), wanted(2))).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
  });

  it('comes up by itself while the engine does not answer, as after a reboot', async () => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    await role.stop();
    let questions = 0;
    const booting: Partial<Engine> = {
      answers: async () => {
        if (++questions === 2) await new FakeRole().start();
        return false;
      },
    };
    await expect(over(booting).ensure(ctx, wanted(1))).resolves.toMatchObject({ state: 'ready' });
    expect(questions).toBe(2);
  });

  it('comes up by itself while the engine takes a call and lets it wait', async () => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    await role.stop();
    const silent: Partial<Engine> = {
      answers: async () => {
        await new FakeRole().start();
        return new Promise<boolean>(() => undefined);
      },
    };
    await expect(over(silent).ensure(within(3000), wanted(1))).resolves.toMatchObject({ state: 'ready' });
  });

  it('without an engine and without a container fails with both named', async () => {
    const ensuring = over({ answers: () => Promise.resolve(false) }).ensure(within(250), wanted(1));
    await expect(ensuring).rejects.toMatchObject({
      code: 'unavailable',
      message: `${NAME} does not run, and the Docker engine does not answer to start it`,
    });
  });

  it('in error is given a moment to mend it', async () => {
    const { engine, role } = runningEngine();
    role.state = 'error';
    role.error = 'port taken: cannot listen on 127.0.0.1:13260';
    setTimeout(() => {
      role.state = 'ready';
      role.error = '';
    }, 200);
    await expect(over(engine).ensure(ctx, wanted(1))).resolves.toMatchObject({ state: 'ready' });
  });

  it('that stays in error ends the wait early, with its own words', async () => {
    const { engine, role } = runningEngine();
    role.state = 'error';
    role.error = 'port taken: cannot listen on 127.0.0.1:13260';
    await expect(over(engine).ensure(ctx, wanted(1))).rejects.toMatchObject({
      code: 'unavailable',
      message: `${NAME} is not ready: port taken: cannot listen on 127.0.0.1:13260`,
    });
  });

  it('tells a repair only of one that had been there', async () => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    await over(engine).ensure(ctx, wanted(2));
    expect(repairs).toEqual([]);
    await role.stop();
    await over(engine).ensure(ctx, wanted(2));
    await role.stop();
    const stopped = { ...engine, ensureContainer: () => role.start().then(() => 'replaced' as const) };
    await over(stopped).ensure(ctx, wanted(2));
    expect(repairs).toEqual([
      `${NAME} container was missing: made anew`,
      `${NAME} container was not running: started anew`,
    ]);
  });

  it('that talks nonsense is an error, not a role that is away', async () => {
    const { engine, role } = runningEngine();
    role.state = 'dreaming';
    await expect(over(engine).ensure(ctx, wanted(1))).rejects.toThrow('answered nonsense');
  });

  it('is observed absent, present without an answer, and answering', async () => {
    const { engine, role } = runningEngine();
    expect(await over({}).observe(ctx, NAME)).toEqual({
      present: false,
      generation: null,
      settings: new Map(),
      status: null,
    });
    await over(engine).ensure(ctx, wanted(1));
    const generation = generationOf(wanted(1).spec);
    expect(await over({}).observe(ctx, NAME)).toMatchObject({
      present: true,
      generation,
      settings: new Map([['generation', generation], ...wanted(1).spec.lines]),
      status: { generation },
    });
    await role.stop();
    expect(await over({}).observe(ctx, NAME)).toMatchObject({ present: true, generation, status: null });
  });

  it('is made anew from another image with its spec and without being called a repair', async () => {
    const { engine, role, started } = runningEngine();
    const repairs: string[] = [];
    const removed: string[] = [];
    const working = createRoleContainers(
      fakeEngine({
        ...engine,
        removeContainer: async (_ctx, name) => {
          removed.push(name);
          await role.stop();
        },
      }),
      createHostPaths(root, '/mnt'),
      (_container, what) => repairs.push(what),
    );
    await working.ensure(ctx, wanted(1));
    await working.renew(ctx, wanted(1));
    expect(removed).toEqual([NAME]);
    expect(started).toHaveLength(2);
    expect(repairs).toEqual([]);
    expect(await working.list()).toEqual([NAME]);
  });

  it('is removed with its secrets, but not when the engine could not stop it', async () => {
    const { engine } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    const failing = over({ removeContainer: () => Promise.reject(new AppError('unavailable', 'no engine')) });
    await expect(failing.remove(ctx, NAME, 5)).rejects.toThrow('no engine');
    expect(await over({}).list()).toEqual([NAME]);
    const asked: number[] = [];
    const working = over({
      removeContainer: (_ctx, _name, graceSeconds) => {
        asked.push(graceSeconds);
        return Promise.resolve();
      },
    });
    await working.remove(ctx, NAME, 5);
    expect(asked).toEqual([5]);
    expect(await working.list()).toEqual([]);
  });
});

describe('what comes last before a role is forgotten', () => {
  it.each(['remove', 'discard'] as const)(
    'finds its notes still there, and comes again if it was cut off: %s',
    async (how) => {
      const { engine } = runningEngine();
      await over(engine).ensure(ctx, wanted(1));
      writeFileSync(join(directory(), 'device'), '/dev/loop1');
      const calls: string[] = [];
      const roles = over({
        answers: () => Promise.resolve(true),
        removeContainer: () => {
          calls.push('container');
          return Promise.resolve();
        },
      });
      const end = (last: () => Promise<void>) =>
        how === 'remove' ? roles.remove(ctx, NAME, 5, last) : roles.discard(ctx, NAME, last);
      await expect(end(() => Promise.reject(new Error('cut off')))).rejects.toThrow('cut off');
      expect(await roles.list()).toEqual([NAME]);
      await end(async () => {
        calls.push((await roles.readNote(NAME, 'device')) ?? 'none');
      });
      expect(calls).toEqual(['container', 'container', '/dev/loop1']);
      expect(await roles.list()).toEqual([]);
    },
  );
});

describe('a role that is of no use any more', () => {
  it('ends by its own socket before the engine takes its container away', async () => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    role.commands.length = 0;
    const removed: string[][] = [];
    const removeContainer = (_ctx: unknown, name: string): Promise<void> => {
      removed.push([name, ...role.commands]);
      return Promise.resolve();
    };
    await over({ answers: () => Promise.resolve(true), removeContainer }).discard(ctx, NAME);
    expect(removed).toEqual([[NAME, 'abandon']]);
    expect(existsSync(directory())).toBe(false);
  });

  it('ends while the engine starts too, and what is left is told', async () => {
    const { engine, role } = runningEngine();
    await over(engine).ensure(ctx, wanted(1));
    role.commands.length = 0;
    await expect(over({ answers: () => Promise.resolve(false) }).discard(ctx, NAME)).rejects.toMatchObject({
      code: 'unavailable',
    });
    expect(role.commands).toEqual(['abandon']);
    expect(existsSync(directory())).toBe(true);
  });
});
