import { afterEach, describe, expect, it } from 'vitest';
import type { DockerEvent } from '../../../../src/docker/docker-event.js';
import { StoppingContainers } from '../../../../src/registrator/objects/stopping.js';

const GRACE_MS = 100;
let over: string[] = [];
let stopping = new StoppingContainers((id) => over.push(id), GRACE_MS);

afterEach(() => {
  stopping.close();
  over = [];
  stopping = new StoppingContainers((id) => over.push(id), GRACE_MS);
});

function event(action: string, attributes: Record<string, string> = {}, timeNano = '1'): DockerEvent {
  return { type: 'container', action, actorId: 'a', attributes, scope: 'local', timeNano };
}

const running = { State: { Running: true }, Config: { StopTimeout: 0 } };
const isStopping = (inspected: object = running) =>
  (stopping.mark('a', inspected as Record<string, unknown>)['State'] as { Stopping?: boolean }).Stopping ===
  true;

describe('a container that is being stopped', () => {
  it.each([
    ['15', undefined, true],
    ['SIGTERM', undefined, true],
    ['9', undefined, true],
    ['1', undefined, false],
    ['15', 'SIGQUIT', false],
    ['3', 'SIGQUIT', true],
    ['3', '3', true],
    ['37', 'SIGRTMIN+3', true],
    ['28', 'WINCH', true],
    ['9', 'SIGQUIT', true],
    ['', undefined, false],
    ['nonsense', undefined, false],
  ])('was sent signal %s where %s stops it: %s', (signal, stopSignal, expected) => {
    stopping.hear(event('kill', { signal }));
    expect(isStopping({ ...running, Config: { StopSignal: stopSignal, StopTimeout: 0 } })).toBe(expected);
  });

  it('leaves all other inspections as they are', () => {
    expect(stopping.mark('a', running)).toBe(running);
    stopping.hear(event('kill', { signal: '15' }));
    expect(stopping.mark('b', running)).toBe(running);
  });

  it.each(['die', 'start', 'destroy'])('is none any more after %s', (action) => {
    stopping.hear(event('kill', { signal: '15' }));
    stopping.hear(event(action));
    expect(isStopping()).toBe(false);
  });

  it.each([
    ['2026-11-28T13:27:39.000000001Z', false],
    ['2026-11-28T13:27:38.999999999Z', true],
    ['2026-11-28T13:27:38Z', true],
    ['nonsense', true],
  ])('is none when it was started at %s, after the signal: %s', (StartedAt, expected) => {
    const timeNano = `${String(Date.parse('2026-11-28T13:27:39Z'))}000000`;
    stopping.hear(event('kill', { signal: '15' }, timeNano));
    expect(isStopping({ ...running, State: { Running: true, StartedAt } })).toBe(expected);
  });

  it('stays one when it is sent another signal', () => {
    stopping.hear(event('kill', { signal: '15' }));
    stopping.hear(event('kill', { signal: '1' }));
    expect(isStopping()).toBe(true);
  });

  it('is none any more when it has ended', () => {
    stopping.hear(event('kill', { signal: '15' }));
    expect(isStopping({ State: { Running: false } })).toBe(false);
    expect(isStopping()).toBe(false);
  });

  it('is none any more when it goes on: somebody is told to look', async () => {
    stopping.hear(event('kill', { signal: '15' }));
    expect(isStopping()).toBe(true);
    await new Promise((resolve) => setTimeout(resolve, GRACE_MS + 50));
    expect(over).toEqual(['a']);
    expect(isStopping()).toBe(false);
  });

  it('has the time that it has of itself, and more', async () => {
    stopping.hear(event('kill', { signal: '15' }));
    await new Promise((resolve) => setTimeout(resolve, GRACE_MS + 50));
    expect(isStopping({ ...running, Config: { StopTimeout: 5 } })).toBe(true);
  });
});
