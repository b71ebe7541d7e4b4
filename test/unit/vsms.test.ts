import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Ctx } from '../../src/context.js';
import type { RoleObservation } from '../../src/dataplane/role-container.js';
import type { EngineObjects, Inspected } from '../../src/docker/objects.js';
import { createLog } from '../../src/log.js';
import { VSM } from '../../src/registrator/policies/built-in/vsm.js';
import { type Vsms, withVsms } from '../../src/vsms.js';

/** Sleepers, until a test lets a round begin. */
const sleepers = vi.hoisted(() => new Set<() => void>());

vi.mock('../../src/lib/sleep.js', () => ({
  sleep: (_ms: number, signal?: AbortSignal) =>
    new Promise<void>((wake) => {
      sleepers.add(wake);
      signal?.addEventListener('abort', () => {
        wake();
      });
    }),
}));

/** What the engine has, by kind and id. */
let engine: Map<string, Inspected>;
/** What roles say, by name; one that is not here throws. */
let roles: Map<string, RoleObservation>;
let asked: string[];
let told: string[];
let stopping: AbortController;
let ctx: Ctx;
let vsms: Vsms;

const inner: EngineObjects = {
  list: (_ctx, kind) => Promise.resolve([`a ${kind}`]),
  inspect: (_ctx, kind, id) => Promise.resolve(engine.get(`${kind} ${id}`) ?? null),
};

beforeEach(() => {
  sleepers.clear();
  engine = new Map();
  roles = new Map();
  [asked, told] = [[], []];
  stopping = new AbortController();
  ctx = { log: createLog('silent'), signal: stopping.signal, requestId: 'test' };
  vsms = withVsms(inner, {
    observe(_ctx, name) {
      asked.push(name);
      const found = roles.get(name);
      return found ? Promise.resolve(found) : Promise.reject(new Error('it does not answer'));
    },
  });
});

afterEach(() => {
  stopping.abort();
  vi.useRealTimers();
});

const container = (name: string, labels: Record<string, string> | null): Inspected => ({
  Id: `id-${name}`,
  Name: `/${name}`,
  Config: { Labels: labels },
});
const target = (name: string) => container(name, { 'openebs.role': 'target', 'openebs.volume': 'db' });

function role(state: string | null, initiators: readonly string[] = []): RoleObservation {
  const settings = { volume: 'v1', iqn: 'iqn.v1', address: '192.0.2.7', port: '13260', size: '1024' };
  // The cast below: of what a role says, only what is read of a target.
  const status = { role: 'target', state: state ?? '', error: '', generation: 'g', initiators };
  return {
    present: true,
    generation: 'g',
    settings: new Map(Object.entries(settings)),
    status: state === null ? null : status,
    // The cast: of a status only what is registered is here.
  } as unknown as RoleObservation;
}

const inspect = (id: string) => vsms.objects.inspect(ctx, 'container', id);

/** A round of questions, and what it told. */
async function round(): Promise<string[]> {
  told = [];
  const [wake] = sleepers;
  sleepers.clear();
  wake?.();
  await untilItSleeps();
  return told;
}

async function follow(): Promise<void> {
  vsms.follow(ctx, (id) => told.push(id));
  await untilItSleeps();
}

async function untilItSleeps(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  if (stopping.signal.aborted) return;
  await vi.waitFor(() => {
    expect(sleepers.size).toBe(1);
  });
}

it('an inspection of a target has what it says of itself', async () => {
  engine.set('container t', target('t'));
  roles.set('t', role('ready', ['iqn.b', 'iqn.a']));
  expect(await inspect('t')).toEqual({
    ...target('t'),
    [VSM]: {
      ...{ volumeId: 'v1', iqn: 'iqn.v1', portal: '192.0.2.7:13260', sizeBytes: 1024 },
      ...{ state: 'ready', error: '', initiators: ['iqn.a', 'iqn.b'] },
    },
  });
  roles.set('t', role(null));
  expect(await inspect('t')).toMatchObject({ [VSM]: { state: 'down', initiators: [] } });
});

it('an address of IPv6 is bracketed in the portal', async () => {
  engine.set('container t', target('t'));
  const settings = new Map([...role('ready').settings, ['address', 'fd00::7']]);
  roles.set('t', { ...role('ready'), settings });
  expect(await inspect('t')).toMatchObject({ [VSM]: { portal: '[fd00::7]:13260' } });
});

it('whatever is no target is left as the engine inspects it, and nobody is asked', async () => {
  const others: [string, Inspected][] = [
    ['container plain', container('plain', {})],
    ['container unlabelled', container('unlabelled', null)],
    ['container initiator', container('initiator', { 'openebs.role': 'initiator' })],
    ['container nameless', { Id: 'x', Config: { Labels: { 'openebs.role': 'target' } } }],
    ['volume v', { Name: '/v', Config: { Labels: { 'openebs.role': 'target' } } }],
  ];
  for (const [key, inspected] of others) engine.set(key, inspected);
  for (const [key, inspected] of others) {
    const [kind, id] = key.split(' ') as ['container' | 'volume', string];
    expect(await vsms.objects.inspect(ctx, kind, id)).toBe(inspected);
  }
  expect(await vsms.objects.list(ctx, 'volume')).toEqual(['a volume']);
  await follow();
  expect(await round()).toEqual([]);
  expect(asked).toEqual([]);
});

it('a target is told of when what it says changes, and only then', async () => {
  for (const name of ['t', 'u']) engine.set(`container ${name}`, target(name));
  for (const name of ['t', 'u']) roles.set(name, role('starting'));
  for (const id of ['t', 'u']) await inspect(id);
  await follow();
  expect(await round()).toEqual([]);
  roles.set('t', role('ready'));
  expect(await round()).toEqual(['t']);
  // Until somebody has looked.
  expect(await round()).toEqual(['t']);
  expect(await inspect('t')).toMatchObject({ [VSM]: { state: 'ready' } });
  expect(await round()).toEqual([]);
  roles.set('t', role('ready', ['iqn.a']));
  expect(await round()).toEqual(['t']);
  await inspect('t');
  roles.set('t', role(null));
  expect(await round()).toEqual(['t']);
});

it('a target that does not answer once has not changed', async () => {
  engine.set('container t', target('t'));
  roles.set('t', role('ready'));
  await inspect('t');
  await follow();
  roles.delete('t');
  expect(await round()).toEqual([]);
});

it('a target that has never answered is the container that it is, and told of once it does', async () => {
  engine.set('container t', target('t'));
  expect(await inspect('t')).toEqual(target('t'));
  await follow();
  expect(await round()).toEqual([]);
  roles.set('t', role('ready'));
  expect(await round()).toEqual(['t']);
});

it('a target that is gone is not asked any more, and one that takes its name begins anew', async () => {
  engine.set('container t', target('t'));
  roles.set('t', role('ready'));
  await inspect('t');
  engine.delete('container t');
  expect(await inspect('t')).toBeNull();
  await follow();
  asked = [];
  expect(await round()).toEqual([]);
  expect(asked).toEqual([]);
  roles.delete('t');
  engine.set('container t2', target('t'));
  expect(await inspect('t2')).toEqual(target('t'));
});

it('nobody is asked any more after the end', async () => {
  engine.set('container t', target('t'));
  roles.set('t', role('starting'));
  await inspect('t');
  await follow();
  await round();
  stopping.abort();
  asked = [];
  roles.set('t', role('ready'));
  expect(await round()).toEqual([]);
  expect(asked).toEqual([]);
});

it('a target that does not answer for minutes is told of, and is not said to be ready any more', async () => {
  vi.useFakeTimers({ toFake: ['performance', 'Date'] });
  engine.set('container t', target('t'));
  roles.set('t', role('ready'));
  await inspect('t');
  await follow();
  roles.delete('t');
  const all: string[] = [];
  for (let rounds = 0; rounds < 60 && all.length === 0; rounds += 1) {
    vi.advanceTimersByTime(5_000);
    all.push(...(await round()));
  }
  expect(all).toEqual(['t']);
  const now = (await inspect('t')) as { Vsm?: { state: string } };
  expect(now.Vsm?.state).not.toBe('ready');
});
