/**
 * An engine that was killed drops the plugin's tree of mounts while it starts the plugin anew: the two race. Here a
 * runc of ours loses the race on demand, at the one moment that matters: the tree is there, the process is not yet.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { type LabHost, liveRestore } from '../support/lab.js';
import {
  createVolume,
  inside,
  runOn,
  startIdle,
  startProductHost,
  startWriter,
  statusOf,
  tryOn,
} from '../support/product.js';

let host: LabHost;

const losingRunc = `
  runc=$(command -v runc)
  cp $runc /run/runc
  cat > /run/losing-runc <<'END'
#!/bin/sh
case "$*" in
  *plugins.moby*create*)
    if rm /run/lose/$(ls /run/lose | head -n 1) 2>/run/runc.log; then
      umount --lazy /var/lib/docker/plugins/*/propagated-mount
    fi ;;
esac
exec /run/runc "$@"
END
  chmod 755 /run/losing-runc
  mkdir -p /run/lose
  mount --bind /run/losing-runc $runc`;

beforeAll(async () => {
  host = await startProductHost({ name: 'seen', bootScript: losingRunc });
});

afterAll(async () => {
  await host.close();
});

async function loses(times: number): Promise<void> {
  for (let time = 1; time <= times; time += 1) await host.shellOk(`touch /run/lose/${String(time)}`);
}

const pluginLog = (text: string) => host.log().split(text).length - 1;
const RESTARTS = 'the engine does not see what this process mounts';

test('pain: engine killed, and the mounts of the plugin it starts do not reach it: its containers come back without a hand', async () => {
  await createVolume(host, 'db');
  await startIdle(host, 'user', 'db', '--restart', 'always');
  await inside(host, 'user', 'echo kept > /data/note; sync /data/note');
  const pid = await host.pluginPid();
  await host.stopEngine({ signal: 'SIGKILL' });
  // An engine with live-restore goes on with the plugin that is there.
  if (liveRestore) await host.shellOk(`kill -KILL ${String(pid)}`);
  await loses(1);
  await host.startEngine();
  await waitFor('the plugin has started anew', () => pluginLog(RESTARTS) === 1, { timeoutMs: 60_000 });
  await waitFor(
    'the container is back with its data',
    async () => (await inside(host, 'user', 'cat /data/note')) === 'kept',
    { timeoutMs: 90_000, everyMs: 1000 },
  );
  expect(await host.shellOk('ls /run/lose')).toBe('');
  expect(pluginLog(RESTARTS)).toBe(1);
  // The start that failed took back the mount of before the kill, and the next one had another id.
  await waitFor('its mount is counted once', async () => (await statusOf(host, 'db')).mountsHere === 1, {
    timeoutMs: 120_000,
    everyMs: 1000,
  });
  await waitFor('other containers start', async () => (await tryOn(host, 'db', 'true')).code === 0, {
    timeoutMs: 60_000,
  });
  await host.ok('rm', '-f', 'user');
});

test('a new start that does not help is not tried for ever: what to do is told, and what runs goes on', async () => {
  await createVolume(host, 'live');
  const writer = await startWriter(host, 'writer', 'live');
  await waitFor('the engine has seen the mounts of the new process', async () => {
    return (await host.shell('ls /run/openebs/unseen-mounts')).code !== 0;
  });
  const before = pluginLog(RESTARTS);
  await loses(2);
  await host.killPlugin();
  const problem = await waitFor(
    'the plugin tells that its mounts are not seen',
    async () => /the engine does not see what the plugin mounts[^"]*/.exec(await health())?.[0] ?? false,
    { timeoutMs: 60_000, everyMs: 1000 },
  );
  expect(problem).toContain('Disable it with -f and enable it');
  expect(pluginLog(RESTARTS)).toBe(before + 1);
  await writer.goesOn(1);
  await host.ok('rm', '-f', 'writer');
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('plugin', 'enable', 'openebs');
  await waitFor('the plugin is well', async () => (await health()).includes('"healthy":true'), {
    timeoutMs: 60_000,
    everyMs: 1000,
  });
  await runOn(host, 'live', 'true');
});

async function health(): Promise<string> {
  const asked = await host.shell('curl -s --unix-socket /run/openebs/admin.sock http://admin/v1/health');
  return asked.stdout;
}
