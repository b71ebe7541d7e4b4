import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Cluster, startCluster, untilAlive } from '../support/cluster.js';
import { exec, sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  inside,
  poolFile,
  runOn,
  startIdle,
  statusOf,
  tidy,
  tryOn,
} from '../support/product.js';

let cluster: Cluster;
/** Serves the volumes, uses them, and wants them. */
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  cluster = await startCluster(['a', 'b', 'c'], () => ({ FAILOVER_AFTER: '5s' }));
  [a, b, c] = cluster.hosts as [LabHost, LabHost, LabHost];
}, 240_000);

afterEach(async () => {
  for (const host of cluster.hosts) await tidy(host);
});

afterAll(async () => {
  await cluster.close();
});

/** A container that overwrites blocks of a file for ever, past the page cache, each with a number of its own. */
async function startMarker(host: LabHost, volume: string): Promise<void> {
  const script = `
    dd if=/dev/zero of=/data/marks bs=4096 count=64 conv=fsync 2>/dev/null
    n=0
    while :; do
      n=$((n + 1))
      printf 'mark-%08d\\n' $n | dd of=/data/marks bs=4096 seek=$((n % 64)) conv=notrunc,sync oflag=direct 2>/dev/null || exit 5
      [ $((n % 64)) != 0 ] || echo $n
    done`;
  await host.ok(
    'run',
    '-d',
    '--name',
    'marker',
    '--network',
    'none',
    '-v',
    `${volume}:/data`,
    'lab',
    'sh',
    '-c',
    script,
  );
  await waitFor('the first blocks are written', async () => Number(await lastLine(host)) > 100);
}

const lastLine = (host: LabHost): Promise<string> => host.ok('logs', '--tail', '1', 'marker');

/** The highest number that is on the disk, read from its file on the host that serves it. */
async function lastMark(file: string): Promise<number> {
  const { stdout } = await exec('sh', ['-c', `grep -ao 'mark-[0-9]*' ${file} | sort | tail -n 1`]);
  return Number(stdout.trim().slice('mark-'.length));
}

/** The host's own ports of its connections to a target that were established, be they closed by now. */
async function connectionsTo(host: LabHost, target: string): Promise<string[]> {
  const port = Number(target.split(':')[1]).toString(16).toUpperCase().padStart(4, '0');
  const table = await host.shellOk('cat /proc/net/tcp');
  return [...table.matchAll(/:([0-9A-F]{4}) [0-9A-F]{8}:([0-9A-F]{4}) (0[1456789])/g)]
    .filter(([, , remote]) => remote === port)
    .map(([, local]) => local ?? '');
}

/**
 * Waits until the host has taken the volume over, and keeps it: an idle container has it. What ends the former
 * holder's session is the takeover itself then, not that it is given back.
 */
async function takeOver(host: LabHost, volume: string): Promise<void> {
  await waitFor(
    `${host.name} takes ${volume} over`,
    async () => {
      await host.docker('rm', '-f', 'next');
      await startIdle(host, 'next', volume);
      return true;
    },
    { timeoutMs: 90_000, everyMs: 1000 },
  );
}

/** Of the volumes that this host has attached nothing is left. */
async function untilClean(host: LabHost): Promise<void> {
  await waitFor(
    `nothing is left on ${host.name}`,
    async () => {
      const left = [
        await host.ok('ps', '-aq', '-f', 'label=openebs.role=initiator'),
        (await host.loops()).map(({ name }) => name).join(' '),
        await host.shellOk('ls /var/lib/openebs/containers | grep initiator || true'),
      ].join('');
      if (left !== '') throw new Error(left);
      return true;
    },
    { timeoutMs: 60_000, everyMs: 500 },
  );
}

test('pain: still attached to a dead node: nobody takes a volume from a host that is alive, and the next one has it at once', async () => {
  await createVolume(a, 'db', { size: '200M' });
  await startIdle(b, 'user', 'db');
  await inside(b, 'user', 'echo b > /data/file');
  for (const host of [a, c]) {
    expect((await tryOn(host, 'db', 'true')).stderr).toMatch(
      /volume db is in use on node b \(.*stop the containers that use it there first/,
    );
  }
  expect((await c.docker('volume', 'rm', 'db')).stderr).toMatch(/in use on node b/);
  await b.ok('rm', '-f', 'user');
  expect(await runOn(a, 'db', 'cat /data/file')).toBe('b');
  expect(await statusOf(c, 'db')).toMatchObject({ attachedTo: '' });
});

test('pain: still attached to a dead node: a host that was cut off loses the volume, and not one more write of it gets in', async () => {
  await createVolume(a, 'db', { size: '200M' });
  const status = await statusOf(a, 'db');
  const file = poolFile(a, status);
  await startMarker(b, 'db');
  await b.cut();
  await takeOver(c, 'db');
  await inside(c, 'next', 'echo c > /data/file; sync /data/file');
  const before = await lastMark(file);
  expect(before).toBeGreaterThan(100);
  const plugin = String(await b.pluginPid());
  // Without its help: the host writes on as soon as it can, and only the target keeps it out.
  await b.shellOk(`kill -STOP ${plugin}`);
  const former = new Set(await connectionsTo(b, status.target));
  await b.mend();
  await waitFor(
    'the initiator has reached the target again',
    async () => (await connectionsTo(b, status.target)).some((port) => !former.has(port)),
    { timeoutMs: 90_000, everyMs: 50 },
  );
  await sleep(3000);
  expect(await lastMark(file)).toBe(before);
  await b.shellOk(`kill -CONT ${plugin}`);
  // The writer was stuck; now it is told, instead of waiting for ever.
  expect(await b.ok('wait', 'marker')).toBe('5');
  await inside(c, 'next', 'test "$(cat /data/file)" = c; echo more > /data/more; sync /data/more');
  expect(await lastMark(file)).toBe(before);
  await untilClean(b);
  expect(await statusOf(b, 'db')).toMatchObject({ mountsHere: 0 });
  expect((await tryOn(b, 'db', 'true')).stderr).toMatch(/in use on node c/);
  await b.ok('rm', 'marker');
  await c.ok('rm', '-f', 'next');
  expect(await runOn(b, 'db', 'cat /data/file /data/more')).toBe('c\nmore');
});

test('pain: still attached to a dead node: a host whose volume was taken over and removed while it was cut off keeps nothing of it', async () => {
  await createVolume(a, 'db', { size: '200M' });
  const { id } = await statusOf(a, 'db');
  await startMarker(b, 'db');
  await b.cut();
  await takeOver(c, 'db');
  await c.ok('rm', '-f', 'next');
  await c.ok('volume', 'rm', 'db');
  await b.mend();
  // The writer hangs, as its target is gone for good, and cannot even be killed: it is told.
  expect(await b.ok('wait', 'marker')).toBe('5');
  await untilClean(b);
  await b.ok('rm', '-f', 'marker');
  expect(await b.shellOk(`grep -c ${id} /proc/self/mountinfo || true`)).toBe('0');
  expect(await b.shellOk('cat /run/openebs/mounts.json')).not.toContain(id);
  expect(await b.ok('volume', 'ls', '-q')).not.toContain('db');
  // The name is free, for this host too.
  await createVolume(b, 'db', { size: '200M' });
  expect(await runOn(b, 'db', 'echo new > /data/file; cat /data/file')).toBe('new');
});

test('pain: still attached to a dead node: a host that lost its power loses the volume, and cleans up when it is back', async () => {
  await createVolume(a, 'db', { size: '200M' });
  await startIdle(b, 'user', 'db', '--restart', 'always');
  await inside(b, 'user', 'echo b > /data/file; sync /data/file');
  await b.powerOff();
  await takeOver(c, 'db');
  expect(await inside(c, 'next', 'cat /data/file')).toBe('b');
  await b.powerOn();
  await untilAlive(c, 3);
  await untilClean(b);
  expect((await b.docker('start', 'user')).stderr).toMatch(/in use on node c/);
  await c.ok('rm', '-f', 'next');
  await b.ok('start', 'user');
  expect(await inside(b, 'user', 'cat /data/file')).toBe('b');
});

test('pain: still attached to a dead node: engine and plugin are dead, and what still writes there is cut off', async () => {
  await createVolume(a, 'db', { size: '200M' });
  const file = poolFile(a, await statusOf(a, 'db'));
  await startMarker(b, 'db');
  const plugin = await b.pluginPid();
  await b.stopEngine({ signal: 'SIGKILL' });
  await b.shell(`kill -KILL ${String(plugin)}`);
  const marks = await lastMark(file);
  await waitFor('the container still writes', async () => (await lastMark(file)) > marks);
  await takeOver(a, 'db');
  const before = await lastMark(file);
  await sleep(3000);
  expect(await lastMark(file)).toBe(before);
  await b.startEngine();
  await untilAlive(c, 3);
  await untilClean(b);
  expect(await lastMark(file)).toBe(before);
  await a.ok('rm', '-f', 'next');
  expect(await runOn(b, 'db', 'test -s /data/marks; echo fine')).toBe('fine');
});

test('a plugin that is disabled in the middle of a call keeps what its containers use', async () => {
  await createVolume(a, 'db', { size: '200M' });
  await createVolume(a, 'slow', { size: '200M' });
  await startMarker(b, 'db');
  const target = `openebs-target-${(await statusOf(a, 'slow')).id}`;
  await a.ok('pause', target);
  const mounting = tryOn(b, 'slow', 'true');
  await sleep(2000);
  await b.ok('plugin', 'disable', '-f', 'openebs');
  await a.ok('unpause', target);
  expect((await mounting).code).not.toBe(0);
  // Its sign of life would be gone after 15 s, and the volume free for others after 5 s more.
  await sleep(25_000);
  expect((await tryOn(c, 'db', 'true')).stderr).toMatch(/attached to node b|in use on node b/);
  const before = Number(await lastLine(b));
  await b.ok('plugin', 'enable', 'openebs');
  await waitFor('the container writes on', async () => Number(await lastLine(b)) > before + 100);
  await b.ok('rm', '-f', 'marker');
  expect(await runOn(c, 'db', 'test -s /data/marks; echo fine')).toBe('fine');
  // What was cut off in the middle is given back too.
  await waitFor('the other one is free', async () => (await statusOf(c, 'slow')).attachedTo === '', {
    timeoutMs: 90_000,
    everyMs: 1000,
  });
  expect(await runOn(c, 'slow', 'echo fine')).toBe('fine');
});

test('while etcd is away its owner mounts a volume, and nobody takes it over', async () => {
  await createVolume(a, 'db', { size: '200M' });
  await startIdle(b, 'user', 'db');
  await cluster.stopEtcd();
  try {
    await runOn(b, 'db', 'echo without etcd > /data/file');
    expect((await tryOn(c, 'db', 'true')).code).not.toBe(0);
    await inside(b, 'user', 'cat /data/file');
  } finally {
    await cluster.startEtcd();
  }
  await untilAlive(c, 3);
  expect((await tryOn(c, 'db', 'true')).stderr).toMatch(/in use on node b/);
  expect(await inside(b, 'user', 'cat /data/file')).toBe('without etcd');
});
