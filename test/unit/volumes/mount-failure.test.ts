import { expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';
import { mountFailure } from '../../../src/volumes/mount-failure.js';

const caller = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const attempt = { name: 'db', timeoutMs: 25_000, problem: null };

it.each([
  [
    new AppError('deadline_exceeded', 'its target is not up'),
    null,
    /db could not be mounted within 25 s: its target/,
  ],
  [
    new DOMException('The operation was aborted due to timeout', 'TimeoutError'),
    null,
    /db could not be mounted within 25 s: .*busy/,
  ],
  [
    new DOMException('The operation was aborted due to timeout', 'TimeoutError'),
    'no port',
    /db .* within 25 s: no port$/,
  ],
])('a mount that had no time names the volume, the time and the reason', (reason, problem, text) => {
  const failure = mountFailure(reason, caller, { ...attempt, problem });
  expect(failure.code).toBe('deadline_exceeded');
  expect(failure.message).toMatch(text);
});

it('a mount that fails in time says why in its own words', () => {
  const failure = mountFailure(new AppError('conflict', 'the port is taken'), caller, attempt);
  expect([failure.code, failure.message]).toEqual(['conflict', 'the port is taken']);
});
