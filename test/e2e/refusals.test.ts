import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { LabHost } from '../support/lab.js';
import {
  createVolume,
  driverCall,
  expectTraces,
  inside,
  startIdle,
  startProductHost,
  tracesOf,
  type Traces,
  tidy,
} from '../support/product.js';

let host: LabHost;
let before: Traces;

beforeAll(async () => {
  host = await startProductHost({ name: 'refusals' });
  await createVolume(host, 'first');
  await host.ok('volume', 'rm', 'first');
  before = await tracesOf(host);
});

afterEach(async () => {
  await tidy(host);
});

afterAll(async () => {
  await host.close();
});

test('removing a volume in use is refused, with -f too, and the volume still works', async () => {
  await createVolume(host, 'busy');
  await startIdle(host, 'user', 'busy');
  for (const force of [[], ['-f']]) {
    const refused = await host.docker('volume', 'rm', ...force, 'busy');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain('in use');
  }
  // The engine may have forgotten who uses it; the driver has not.
  const answer = await driverCall(host, 'Remove', { Name: 'busy' });
  expect(answer['Err']).toMatch(/busy.*(in use|mounted|attached)/);
  await inside(host, 'user', 'echo still > /data/works && sync /data/works');
  expect(await inside(host, 'user', 'cat /data/works')).toBe('still');
  await host.ok('rm', '-f', 'user');
  await host.ok('volume', 'rm', 'busy');
  await expectTraces(host, before);
});

test.each([
  ['a path', '../x'],
  ['a nested path', 'a/b'],
  ['a space', 'two words'],
  ['a single letter', 'a'],
  ['300 characters', 'n'.repeat(300)],
  ['letters beyond ASCII', 'дом-数据'],
  ['a leading dot', '.hidden'],
  ['a shell command', 'x;$(reboot)'],
  ['a line break', 'x\ny'],
])('a name with %s is refused with the reason, and nothing is left behind', async (_what, name) => {
  const refused = await host.docker('volume', 'create', '--driver', 'openebs', '-o', 'size=100M', name);
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/name/i);
  expect(refused.stderr).toMatch(/letters|characters|a-z/i);
  await expectTraces(host, before);
});

describe('a bad option is refused with its name, its value and what is allowed', () => {
  test.each<[option: string, value: string, allowed: RegExp]>([
    ['size', '0', /byte|[KMGT]/],
    ['size', '-1', /[KMGT]/],
    ['size', '10X', /[KMGT]/],
    ['size', 'much', /[KMGT]/],
    ['size', '1', /[KMGT]/],
    ['size', '9EiB', /[KMGT]/],
    ['size', '10376293541461622784', /[KMGT]|byte/],
    ['fs', 'ntfs', /ext4.*xfs.*btrfs/s],
    ['fs', 'ext4; reboot', /ext4.*xfs.*btrfs/s],
    ['colour', 'blue', /size.*fs|fs.*size/s],
    ['Size', '1G', /size/],
    ['uid', '-5', /0|number/],
    ['uid', 'bob', /number/],
    ['gid', '1.5', /number/],
    ['mode', '999', /octal/],
    ['pool', 'no-such-pool', /make it|default/],
    ['pool', '../../etc', /letters|default/],
    ['mkfs', '-F; touch /tmp/x', /allow/i],
    ['mount', 'noatime`reboot`', /allow/i],
  ])('%s=%s', async (option, value, allowed) => {
    const set = ['-o', `${option}=${value}`];
    const refused = await host.docker('volume', 'create', '--driver', 'openebs', ...set, 'wrong');
    expect(refused.code).not.toBe(0);
    expect(refused.stderr).toContain(option);
    expect(refused.stderr).toContain(value);
    expect(refused.stderr).toMatch(allowed);
    expect((await host.docker('volume', 'inspect', 'wrong')).code).not.toBe(0);
  });

  test('and nothing is left behind', async () => {
    await expectTraces(host, before);
  });
});

test('-o help answers the table of options and makes nothing', async () => {
  const answer = await host.docker('volume', 'create', '--driver', 'openebs', '-o', 'help', 'helped');
  expect(answer.code).not.toBe(0);
  for (const option of ['size', 'fs', 'mkfs', 'mount', 'uid', 'gid', 'mode', 'pool', 'help']) {
    expect(answer.stderr).toMatch(new RegExp(`^\\s*\\W*${option}\\b`, 'm'));
  }
  await expectTraces(host, before);
});

test('a run on a volume that cannot be made says why and leaves no container running', async () => {
  const mount = 'type=volume,src=bad,dst=/data,volume-driver=openebs,volume-opt=fs=ntfs';
  const refused = await host.docker('run', '--rm', '--network', 'none', '--mount', mount, 'lab', 'true');
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toContain('ntfs');
  await expectTraces(host, before);
});

test('after creates that failed, and with no volume left, the plugin can be disabled without force', async () => {
  await createVolume(host, 'gone');
  const create = ['volume', 'create', '--driver', 'openebs'];
  for (const wrong of [
    ['-o', 'fs=ntfs', 'wrong'],
    ['-o', 'size=10X', 'wrong'],
    ['two words'],
    ['-o', 'help', 'x1'],
  ])
    expect((await host.docker(...create, ...wrong)).code).not.toBe(0);
  expect((await host.docker('plugin', 'disable', 'openebs')).stderr).toContain('in use');
  await host.ok('volume', 'rm', 'gone');
  await host.ok('plugin', 'disable', 'openebs');
  await host.ok('plugin', 'enable', 'openebs');
  await createVolume(host, 'again');
  await host.ok('volume', 'rm', 'again');
  await expectTraces(host, before);
});
