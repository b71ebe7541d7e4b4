import { expect, test } from 'vitest';
import type { DockerEvent } from '../../../src/docker/docker-event.js';
import { isNoise } from '../../../src/registrator/noise.js';

function event(type: string, action: string, attributes = {}): DockerEvent {
  return { type, action, actorId: 'x', attributes, scope: 'local', timeNano: '1' };
}

test.each([
  'exec_create: curl -f localhost',
  'exec_start: curl -f localhost',
  'exec_die',
  'exec_detach',
  'health_status: healthy',
  'top',
  'resize',
  'attach',
  'detach',
])('%s of a container is noise', (action) => {
  expect(isNoise(event('container', action))).toBe(true);
});

test.each(['create', 'start', 'die', 'oom', 'kill', 'destroy', 'rename', 'copy', 'update', 'archive-path'])(
  '%s of a container is no noise',
  (action) => {
    expect(isNoise(event('container', action))).toBe(false);
  },
);

test('the same word about another kind of object is no noise', () => {
  expect(isNoise(event('plugin', 'top'))).toBe(false);
});

test('of our own containers changes of health are kept, their probes are not', () => {
  const ours = { 'openebs.role': 'target' };
  expect(isNoise(event('container', 'health_status: unhealthy', ours))).toBe(false);
  expect(isNoise(event('container', 'start', ours))).toBe(false);
  expect(isNoise(event('container', 'exec_create: probe', ours))).toBe(true);
});
