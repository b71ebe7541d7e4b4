import { describe, expect, it } from 'vitest';
import type { HealthMessage, NeighbourMessage } from '../../../src/admin/messages.js';
import { Failure } from '../../../src/cli/failure.js';
import type { Check } from '../../../src/cli/doctor/check.js';
import { judgeLatency, judgeSpace } from '../../../src/cli/doctor/disk.js';
import { textOf } from '../../../src/cli/doctor/doctor.js';
import { judgeEngine, lookAtEngine } from '../../../src/cli/doctor/engine.js';
import { judgeDevice, judgeKernel, judgeLoop } from '../../../src/cli/doctor/kernel.js';
import { judgeNeighbours, lookAtNeighbours } from '../../../src/cli/doctor/neighbours.js';
import { judgeHealth, lookAtAdminSocket, lookAtPlugin } from '../../../src/cli/doctor/plugin.js';
import { isOf, judgePorts, parseSockets, wantedPorts } from '../../../src/cli/doctor/ports.js';

const states = (checks: readonly Check[]) => checks.map(({ name, state }) => `${name} ${state}`);

describe('the engine', () => {
  const good = {
    ServerVersion: '28.2.2',
    SecurityOptions: ['name=seccomp,profile=builtin'],
    CgroupDriver: 'cgroupfs',
  };

  it.each([
    [good, 'engine ok', 'kind of engine ok'],
    [{ ...good, ServerVersion: '20.10.24+dfsg1' }, 'engine ok', 'kind of engine ok'],
    [{ ...good, ServerVersion: '20.9.0' }, 'engine fail', 'kind of engine ok'],
    [{ ...good, ServerVersion: '19.03.15' }, 'engine fail', 'kind of engine ok'],
    [{ ...good, ServerVersion: 'dev' }, 'engine ok', 'kind of engine ok'],
    [{ ...good, SecurityOptions: ['name=rootless'] }, 'engine ok', 'kind of engine fail'],
    [{ ...good, CgroupDriver: 'none' }, 'engine ok', 'kind of engine fail'],
    [{ ...good, Architecture: 'aarch64' }, 'engine ok', 'kind of engine fail'],
    [{ ...good, SecurityOptions: null }, 'engine ok', 'kind of engine ok'],
  ])('%j', (info, ...expected) => {
    expect(states(judgeEngine('unix:///x', info))).toEqual(expected);
  });

  it.each([
    ['ENOENT', 'fail', /nobody listens.*start it/s],
    ['EACCES', 'fail', /may not be opened.*root/s],
    ['ETIMEDOUT', 'fail', /no answer.*log/s],
  ])('that does not answer (%s)', async (code, state, text) => {
    const reason = Object.assign(new Error('no answer'), { code });
    const engine = { endpoint: 'unix:///x', socketPath: '/x', ask: () => Promise.reject(reason) };
    const [check] = await lookAtEngine(engine);
    expect(check?.state).toBe(state);
    expect(JSON.stringify(check)).toMatch(text);
  });

  it('that is another host is told', async () => {
    const engine = { endpoint: 'ssh://far', socketPath: null, ask: () => Promise.reject(new Error('x')) };
    const [check] = await lookAtEngine(engine);
    expect(check).toMatchObject({ state: 'warn', found: 'docker talks to ssh://far' });
  });
});

describe('the kernel', () => {
  it.each([
    ['6.18.44-amd64', 'ok'],
    ['5.10.0-30-amd64', 'ok'],
    ['5.9.16', 'warn'],
    ['4.19', 'warn'],
  ])('%s: %s', (version, state) => {
    expect(judgeKernel(version).state).toBe(state);
  });

  it.each([
    ['', 'ok'],
    ['ENOENT', 'fail'],
    ['ENODEV', 'fail'],
    ['EACCES', 'warn'],
  ])('has a device that opens with %j: %s', (code, state) => {
    expect(judgeDevice('FUSE', '/dev/fuse', 'fuse', code).state).toBe(state);
  });

  it('needs a loop device for each mounted volume', () => {
    expect(judgeLoop({ nodes: 8, free: 0, used: 8, grows: true }).state).toBe('ok');
    expect(judgeLoop({ nodes: 8, free: 1, used: 7, grows: false }).state).toBe('ok');
    expect(judgeLoop({ nodes: 8, free: 0, used: 8, grows: false })).toMatchObject({
      state: 'warn',
      todo: expect.stringContaining('mknod /dev/loop8 b 7 8') as unknown,
    });
  });
});

describe('the ports', () => {
  const wanted = { etcd: 23_790, first: 13_260, last: 13_262 };
  const by = (port: number, isOurs: boolean, pid = 7) => ({ port, pid, command: 'nginx', isOurs });

  it('are those of the settings', () => {
    expect(wantedPorts(new Map())).toEqual({ etcd: 23_790, first: 13_260, last: 14_259 });
    const settings = new Map([
      ['ETCD_PORT', '2400'],
      ['TARGET_PORTS', '3000-3009'],
    ]);
    expect(wantedPorts(settings)).toEqual({ etcd: 2400, first: 3000, last: 3009 });
    expect(wantedPorts(new Map([['ETCD_ENDPOINTS', 'http://10.0.0.1:2379']])).etcd).toBeNull();
    expect(wantedPorts(new Map([['CLUSTER', 'none']])).etcd).toBeNull();
    expect(wantedPorts(new Map([['CLUSTER', 'etcd']])).etcd).toBe(23_790);
  });

  it.each([
    ['free', [], ['ports of etcd ok', 'ports of volumes ok']],
    [
      'ours',
      [by(23_790, true), by(23_791, true), by(13_260, true)],
      ['ports of etcd ok', 'ports of volumes ok'],
    ],
    ["etcd's held by another", [by(23_791, false)], ['ports of etcd fail', 'ports of volumes ok']],
    [
      "etcd's held by one that cannot be seen",
      [by(23_791, false, 0)],
      ['ports of etcd warn', 'ports of volumes ok'],
    ],
    [
      'one of the volumes held by another',
      [by(13_261, false)],
      ['ports of etcd ok', 'ports of volumes warn'],
    ],
    [
      'all of the volumes taken',
      [by(13_260, true), by(13_261, true), by(13_262, false)],
      ['ports of etcd ok', 'ports of volumes fail'],
    ],
  ])('%s', (_, listeners, expected) => {
    expect(states(judgePorts(wanted, listeners))).toEqual(expected);
  });

  it('of an etcd of the user are not looked at', () => {
    expect(states(judgePorts({ ...wanted, etcd: null }, [by(23_790, false)]))).toEqual([
      'ports of volumes ok',
    ]);
  });

  it('name who holds them', () => {
    const [etcd] = judgePorts(wanted, [by(23_790, false)]);
    expect(etcd?.found).toBe('23790 and 23791: 23790 (nginx, process 7)');
  });

  it('are read from what the kernel shows', () => {
    const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:5CEE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0
   1: 0100007F:33CC 0100007F:AB12 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0000 100 0 0 10 0
`;
    expect(parseSockets(text)).toEqual([{ port: 23_790, inode: '4711' }]);
    const v6 =
      '   0: 00000000000000000000000001000000:33CC 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 9 1';
    expect(parseSockets(v6)).toMatchObject([{ port: 13_260 }]);
    expect(parseSockets('')).toEqual([]);
  });

  it("belong to a container whose ID is in the process' cgroup", () => {
    const id = 'ab'.repeat(32);
    expect(isOf(`0::/system.slice/docker-${id}.scope\n`, new Set([id]))).toBe(true);
    expect(isOf(`0::/docker/${'cd'.repeat(32)}\n`, new Set([id]))).toBe(false);
    expect(isOf('', new Set([id]))).toBe(false);
  });
});

describe('the plugin', () => {
  const plugin = (Enabled: boolean) => ({ Name: 'openebs:latest', Enabled });
  const health: HealthMessage = { version: '0.1.0', node: 'n', cluster: 'c', healthy: true, problems: {} };

  it('is enabled, disabled, missing, or not known', () => {
    expect(lookAtPlugin(plugin(true)).state).toBe('ok');
    expect(lookAtPlugin(plugin(false))).toMatchObject({
      state: 'warn',
      todo: 'docker plugin enable openebs',
    });
    expect(lookAtPlugin(null)).toMatchObject({ state: 'warn', found: 'not installed' });
    expect(lookAtPlugin(undefined).state).toBe('warn');
  });

  it('answers, well or not, or does not', async () => {
    expect(judgeHealth(health).state).toBe('ok');
    expect(judgeHealth({ ...health, problems: { etcd: 'x' } })).toMatchObject({
      state: 'warn',
      means: expect.stringContaining('etcd') as unknown,
    });
    const failing = { get: () => Promise.reject(new Failure(3, 'nobody listens')) };
    expect(await lookAtAdminSocket(failing)).toMatchObject({ state: 'fail', means: 'nobody listens' });
  });
});

describe('the disk', () => {
  const gib = 2 ** 30;

  it.each([
    [{ exists: true, freeBytes: 20 * gib, isMemory: false }, 'ok'],
    [{ exists: false, freeBytes: 20 * gib, isMemory: false }, 'ok'],
    [{ exists: true, freeBytes: gib / 2, isMemory: false }, 'warn'],
    [{ exists: true, freeBytes: 2 ** 20, isMemory: false }, 'fail'],
    [{ exists: true, freeBytes: 20 * gib, isMemory: true }, 'fail'],
  ])('%j: %s', (facts, state) => {
    expect(judgeSpace(facts).state).toBe(state);
  });

  it('is fast enough for etcd when 99 of 100 flushes take less than 10 ms', () => {
    const fast: number[] = Array.from({ length: 100 }, () => 1);
    expect(judgeLatency(fast, '/x')).toMatchObject({
      state: 'ok',
      found: '100 flushes of 2300 bytes at /x: half within 1.0 ms, 99 % within 1.0 ms',
    });
    expect(judgeLatency([...fast, 12], '/x').state).toBe('ok');
    expect(judgeLatency([...fast, 12, 12], '/x')).toMatchObject({
      state: 'warn',
      found: '102 flushes of 2300 bytes at /x: half within 1.0 ms, 99 % within 12.0 ms',
    });
  });
});

it('the report explains what is not well, and gives a verdict', () => {
  const fine: Check = { name: 'user', state: 'ok', found: 'root', means: '', todo: '' };
  const slow: Check = {
    name: 'disk',
    state: 'warn',
    found: 'slow',
    means: 'creates are slow',
    todo: 'another disk',
  };
  const bad: Check = {
    name: 'FUSE',
    state: 'fail',
    found: 'missing',
    means: 'no volumes',
    todo: 'modprobe fuse',
  };
  expect(textOf([fine])).toBe('OK     user   root\n\nThis host is fit for volumes.\n');
  expect(textOf([fine, slow])).toContain('This host is fit for volumes, with a reserve.\n');
  const text = textOf([fine, slow, bad]);
  expect(text).toContain('FAIL   FUSE   missing\n');
  expect(text).toContain('FAIL FUSE: missing\n    means: no volumes\n    to do: modprobe fuse\n');
  expect(text).toContain('1 check failed: volumes will not work here before that is mended.\n');
});

describe('the other hosts of the cluster', () => {
  const answering = [
    { port: 23_790, purpose: 'etcd', problem: null },
    { port: 23_791, purpose: 'members of etcd', problem: null },
    { port: 23_792, purpose: 'joining', problem: null },
  ] as const;
  const clock = { aheadMs: 12, withinMs: 3 };
  const good = {
    ...{ node: 'ID-b', hostname: 'b', address: '10.0.0.2', alive: true },
    ...{ ports: answering, clock },
  } satisfies NeighbourMessage;
  const silent = 'no answer within 3 s';
  const closed = (...ports: number[]) => ({
    ports: answering.map((one) => (ports.includes(one.port) ? { ...one, problem: silent } : one)),
  });

  it('are no matter of a host that is alone', () => {
    expect(judgeNeighbours([])).toEqual([]);
  });

  it('answer, and have the same time', () => {
    expect(judgeNeighbours([good, { ...good, hostname: 'c' }])).toEqual([
      {
        ...{ name: 'other hosts', state: 'ok', means: '', todo: '' },
        found: '2 hosts answer at the ports of etcd and of joining',
      },
      { name: 'clocks', state: 'ok', found: '2 other hosts within 0.0 s of this one', means: '', todo: '' },
    ]);
  });

  it('are named with the port that does not answer', () => {
    const [check] = judgeNeighbours([good, { ...good, hostname: 'c', ...closed(23_791) }]);
    expect(check).toMatchObject({
      ...{ name: 'other hosts', state: 'fail' },
      found: `c, 10.0.0.2: 23791 (members of etcd): ${silent}`,
      todo: expect.stringContaining('let TCP 23791 pass from this host to 10.0.0.2') as unknown,
    });
  });

  it('that are away are no failure of this host; that are alive and cannot be reached are', () => {
    const all = closed(23_790, 23_791, 23_792);
    expect(states(judgeNeighbours([{ ...good, ...all, alive: false, clock: null }]))).toEqual([
      'other hosts warn',
    ]);
    expect(states(judgeNeighbours([{ ...good, ...all, clock: null }]))).toEqual(['other hosts fail']);
  });

  it.each([
    [1500, 'b is 1.5 s ahead'],
    [-90_000, 'b is 90.0 s behind'],
  ])('with a clock that is %s ms ahead', (aheadMs, found) => {
    const [, check] = judgeNeighbours([{ ...good, clock: { aheadMs, withinMs: 4 } }]);
    expect(check).toMatchObject({ name: 'clocks', state: 'warn', found });
    expect(check?.todo).toContain('NTP');
  });

  it('have no wrong clock where the answer took too long to tell', () => {
    const [, check] = judgeNeighbours([{ ...good, clock: { aheadMs: 1500, withinMs: 600 } }]);
    expect(check?.state).toBe('ok');
  });

  it('are left out where the plugin is older', async () => {
    const admin = { get: () => Promise.reject(new Failure(1, 'it does not know that')) };
    expect(await lookAtNeighbours(admin)).toEqual([]);
  });
});
