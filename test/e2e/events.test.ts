import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DockerEvent } from '../../src/docker/docker-event.js';
import type { EventStream, Gap } from '../../src/docker/event-stream.js';
import { createEventStream } from '../../src/docker/events.js';
import { createJournal, type Journal } from '../../src/registrator/journal.js';
import { keys } from '../../src/state/keys.js';
import { createMemoryState } from '../../src/state/memory-state.js';
import { records } from '../../src/state/records.js';
import { waitFor } from '../support/exec.js';
import { type LabHost, startLabHost } from '../support/lab.js';
import { createLogLines } from '../support/log-lines.js';

let host: LabHost;
let stream: EventStream;
let journal: Journal;
const state = createMemoryState();
const { log } = createLogLines();
const events: DockerEvent[] = [];
const gaps: Gap[] = [];

beforeAll(async () => {
  host = await startLabHost({ name: 'events' });
  stream = createEventStream({ socketPath: host.socket, log });
  stream.subscribe((items) => {
    for (const item of items) {
      if (item.kind === 'event') events.push(item.event);
      else gaps.push(item.gap);
    }
  });
  journal = createJournal({ state, stream, node: 'lab', log });
  await waitFor('the stream is open', () => stream.stats().connected);
});

afterAll(async () => {
  await journal.close();
  stream.close();
  await host.close();
});

async function seen(type: string, ...actions: string[]): Promise<void> {
  const missing = () =>
    actions.filter(
      (action) => !events.some((event) => event.type === type && event.action.trim() === action),
    );
  await waitFor(`${type} ${actions.join(', ')} seen`, () => missing().length === 0).catch(
    (reason: unknown) => {
      throw new Error(`never seen: ${type} ${missing().join(', ')}`, { cause: reason });
    },
  );
}

test('what happens to containers, volumes, networks and images is seen', async () => {
  await host.ok('volume', 'create', 'v1');
  await host.ok('network', 'create', 'net1');
  await host.ok('run', '-d', '--name', 'c1', '-v', 'v1:/v', '--network', 'net1', '--label', 'a=b', 'lab');
  await host.ok('exec', 'c1', 'true');
  await host.ok('rm', '-f', 'c1');
  await host.ok('network', 'rm', 'net1');
  await host.ok('volume', 'rm', 'v1');
  await host.ok('tag', 'lab', 'other:1');
  await host.ok('rmi', 'other:1');
  await host.ok('volume', 'prune', '-f');
  await seen('container', 'create', 'start', 'exec_create: true', 'kill', 'die', 'destroy');
  await seen('volume', 'create', 'mount', 'unmount', 'destroy', 'prune');
  await seen('network', 'create', 'connect', 'disconnect', 'destroy');
  await seen('image', 'tag', 'untag');
  const start = events.find(({ type, action }) => type === 'container' && action === 'start');
  expect(start?.actorId).toMatch(/^[0-9a-f]{64}$/);
  expect(start?.attributes).toMatchObject({ a: 'b', name: 'c1' });
  expect(start?.timeNano).toMatch(/^\d{19}$/);
  expect(events.find(({ type }) => type === 'volume')?.actorId).toBe('v1');
});

test('what happens to plugins is seen', async () => {
  const config = {
    description: 'does nothing',
    entrypoint: ['/nothing'],
    interface: { types: ['docker.volumedriver/1.0'], socket: 'x.sock' },
  };
  await host.shellOk('mkdir -p /var/lib/tiny/rootfs && printf %s "$CONFIG" >/var/lib/tiny/config.json', {
    env: { CONFIG: JSON.stringify(config) },
  });
  await host.shellOk('docker plugin create tiny /var/lib/tiny');
  await host.ok('plugin', 'rm', 'tiny');
  await seen('plugin', 'create', 'remove');
});

test('a reload of the daemon is seen, and the stream goes on', async () => {
  const { connects } = stream.stats();
  await host.shellOk(
    'echo \'{"labels":["zone=eu"]}\' >/etc/docker/daemon.json; kill -HUP "$(cat /run/docker.pid)"',
  );
  await seen('daemon', 'reload');
  expect(stream.stats().connects).toBe(connects);
  expect(events.find(({ type }) => type === 'daemon')?.attributes['labels']).toContain('zone=eu');
});

test('after a restart of the engine the stream is there again, told as a gap, nothing twice', async () => {
  await host.stopEngine();
  await host.startEngine();
  await waitFor('the gap is told', () => gaps.some(({ reason }) => reason === 'reconnected'));
  await host.ok('volume', 'create', 'after-restart');
  await waitFor('the next event is seen', () => events.some(({ actorId }) => actorId === 'after-restart'));
  const identities = events.map(({ type, action, actorId, timeNano }) =>
    [type, action, actorId, timeNano].join(),
  );
  expect(new Set(identities).size).toBe(identities.length);
});

test('an engine that is killed is found again too', async () => {
  const { connects } = stream.stats();
  await host.stopEngine({ signal: 'SIGKILL' });
  await host.startEngine();
  await waitFor('it is connected again', () => stream.stats().connects > connects);
  await host.ok('volume', 'create', 'after-kill');
  await waitFor('the next event is seen', () => events.some(({ actorId }) => actorId === 'after-kill'));
});

test('the journal holds all six types, no noise, and a note of each gap', async () => {
  await waitFor('all is written', () => journal.stats().queued === 0);
  const ctx = { log, signal: AbortSignal.timeout(10_000), requestId: 'test' };
  await waitFor('the last event is in it', async () => {
    const { entries } = await state.range(ctx, keys.eventsOf('lab'));
    return entries.some(({ value }) => value.includes('after-kill'));
  });
  const { entries } = await state.range(ctx, keys.eventsOf('lab'));
  const journaled = entries.map(({ key, value }) => records.event.decode(key, value));
  expect([...new Set(journaled.map(({ type }) => type))].sort()).toEqual([
    ...['container', 'daemon', 'image', 'journal', 'network', 'plugin', 'volume'],
  ]);
  expect(journaled.filter(({ action }) => action.startsWith('exec_'))).toEqual([]);
  expect(journaled.filter(({ type }) => type === 'journal')).toHaveLength(gaps.length);
});
