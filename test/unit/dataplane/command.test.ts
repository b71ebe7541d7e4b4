import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { mustRun, runCommand } from '../../../src/dataplane/command.js';
import { createLog } from '../../../src/log.js';

const ctx = (signal = new AbortController().signal): Ctx => ({
  log: createLog('silent'),
  signal,
  requestId: 'test',
});
const runs = (mark: string) => spawnSync('pgrep', ['-f', `${mark}$`]).status === 0;

describe('a command', () => {
  it('that fails is a result with its exit code and what it said', async () => {
    const result = await runCommand(ctx(), 'sh', ['-c', 'echo out; echo err >&2; exit 3']);
    expect(result).toEqual({ code: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('that must not fail is an error with its last words', async () => {
    const failing = mustRun(ctx(), 'sh', ['-c', 'for i in 1 2 3 4; do echo line $i >&2; done; exit 3']);
    await expect(failing).rejects.toThrow('sh failed (exit 3): line 2; line 3; line 4');
  });

  it('that does not exist is an error that names it', async () => {
    await expect(runCommand(ctx(), 'no-such-program', [])).rejects.toThrow('cannot run no-such-program');
  });

  it('passes arguments as they are: no shell reads them', async () => {
    const { stdout } = await runCommand(ctx(), 'printf', ['%s', '$(id); `id` "x"']);
    expect(stdout).toBe('$(id); `id` "x"');
  });

  it('that outlasts its time says so and has ended', async () => {
    await expect(runCommand(ctx(), 'sleep', ['61.25'], 20)).rejects.toMatchObject({
      code: 'deadline_exceeded',
    });
    expect(runs('sleep 61.25')).toBe(false);
  });

  it('whose caller gives up has ended when that is told, even when it takes its time', async () => {
    const caller = new AbortController();
    const script = 'trap "sleep 0.3; exit 0" TERM; while :; do sleep 0.01; done; : given-up-command';
    const running = runCommand(ctx(caller.signal), 'sh', ['-c', script]);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(runs('given-up-command')).toBe(true);
    caller.abort();
    await expect(running).rejects.toMatchObject({ code: 'canceled' });
    expect(runs('given-up-command')).toBe(false);
  });
});
