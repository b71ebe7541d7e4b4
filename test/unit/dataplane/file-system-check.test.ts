import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createChecks } from '../../../src/dataplane/file-system-check.js';
import { createLog } from '../../../src/log.js';

let directory: string;
const log = createLog('silent');
const within = (timeoutMs: number): Ctx => ({
  log,
  signal: AbortSignal.timeout(timeoutMs),
  requestId: 'test',
});

/** An e2fsck that takes until the file `go` is there, and notes that it ran. */
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'check-'));
  const script = `#!/bin/sh
echo run >> ${directory}/runs
while [ ! -e ${directory}/go ]; do sleep 0.05; done
exit $(cat ${directory}/go)
`;
  writeFileSync(join(directory, 'e2fsck'), script);
  chmodSync(join(directory, 'e2fsck'), 0o755);
  vi.stubEnv('PATH', `${directory}:${process.env['PATH'] ?? ''}`);
});

afterEach(() => {
  writeFileSync(join(directory, 'go'), '0');
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

const runs = (): number => readFileSync(join(directory, 'runs'), 'utf8').trim().split('\n').length;
const device = (): string => join(directory, 'e2fsck');

it('a check that takes longer than a mount goes on, and the next mount waits for the same one', async () => {
  const checks = createChecks();
  await expect(checks.check(within(300), device())).rejects.toThrow(/being checked.*it goes on/s);
  await expect(checks.check(within(300), device())).rejects.toThrow(/being checked/);
  const third = checks.check(within(20_000), device());
  writeFileSync(join(directory, 'go'), '1');
  await third;
  expect(runs()).toBe(1);
  await checks.check(within(20_000), device());
  expect(runs()).toBe(2);
});

it('what a check cannot repair is told, also to those who joined it', async () => {
  const checks = createChecks();
  const both = [checks.check(within(20_000), device()), checks.check(within(20_000), device())];
  const outcome = Promise.allSettled(both);
  await vi.waitFor(() => {
    expect(existsSync(join(directory, 'runs'))).toBe(true);
  });
  writeFileSync(join(directory, 'go'), '4');
  expect((await outcome).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  await expect(checks.check(within(20_000), device())).rejects.toThrow(/beyond automatic repair/);
});
