import { existsSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, startLabHost } from '../support/lab.js';

let host: LabHost;

beforeAll(async () => {
  host = await startLabHost({ name: 'alpha' });
});

afterAll(async () => {
  await host.close();
});

test('a lab host runs containers and is a host of its own', async () => {
  expect(
    await host
      .ok('run', '--rm', '--network', 'host', 'lab', 'cat', '/data/x', '/etc/hostname')
      .catch(() => 'no'),
  ).toBe('no');
  expect(await host.ok('run', '--rm', '--network', 'none', 'lab', 'echo', 'hello')).toBe('hello');
  expect(await host.shellOk('hostname')).toBe('alpha');
  expect(await host.ok('ps', '-aq')).toBe('');
});

test('two lab hosts differ in engine and reach each other until one is cut off', async () => {
  const other = await startLabHost({ name: 'beta', images: false });
  try {
    expect(await other.ok('info', '--format', '{{.ID}}')).not.toBe(
      await host.ok('info', '--format', '{{.ID}}'),
    );
    const listen = 'net.createServer((socket) => socket.end()).listen(7777)';
    other.spawn(process.execPath, ['-e', listen]);
    const connect =
      `net.connect({ host: '${other.address}', port: 7777, timeout: 1000 })` +
      ".on('connect', () => process.exit(0)).on('timeout', () => process.exit(8)).on('error', () => process.exit(9))";
    const reach = async (): Promise<number> =>
      (await host.shell(`exec "$NODE" -e "$CONNECT"`, { env: { NODE: process.execPath, CONNECT: connect } }))
        .code;
    await waitFor('the other host listens', async () => (await reach()) === 0);
    await other.cut();
    expect(await reach()).toBe(8);
    await other.mend();
    await waitFor('the other host is reached again', async () => (await reach()) === 0);
  } finally {
    await other.close();
  }
});

test('containers that restart always come back after the engine stops and after a reboot', async () => {
  await host.ok('run', '-d', '--name', 'stays', '--restart', 'always', '--network', 'none', 'lab');
  const running = (): Promise<string> => host.ok('inspect', '--format', '{{.State.Running}}', 'stays');
  const id = await host.ok('info', '--format', '{{.ID}}');
  await host.stopEngine();
  await host.startEngine();
  expect(await running()).toBe('true');
  await host.stopEngine({ signal: 'SIGKILL' });
  await host.startEngine();
  expect(await running()).toBe('true');
  await host.shellOk('touch /run/gone-after-reboot');
  await host.reboot();
  expect(await running()).toBe('true');
  expect(existsSync(`${host.run}/gone-after-reboot`)).toBe(false);
  expect(await host.ok('info', '--format', '{{.ID}}')).toBe(id);
});

test('closing a host leaves no process and no directory', async () => {
  const short = await startLabHost({ name: 'short', missingDevices: ['fuse', 'loop*'] });
  await short.ok('run', '-d', '--network', 'none', 'lab');
  expect(await short.shellOk('ls /dev')).not.toMatch(/fuse|loop/);
  const processes = short.processes();
  expect(processes.length).toBeGreaterThan(4);
  await short.close();
  expect(processes.filter((pid) => existsSync(`/proc/${String(pid)}/exe`))).toEqual([]);
  expect(existsSync(short.dir)).toBe(false);
});
