import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { engineEndpoint, splitGlobals } from '../../../src/cli/docker-globals.js';

describe('the arguments that docker hands on', () => {
  it.each([
    [['openebs', 'volume', 'ls'], {}, ['volume', 'ls']],
    [['openebs'], {}, []],
    [['-H', 'unix:///a', 'openebs', 'doctor'], { host: 'unix:///a' }, ['doctor']],
    [['-Hunix:///a', '--tls', 'openebs', 'doctor'], { host: 'unix:///a' }, ['doctor']],
    [['--host=tcp://b:2376', '-D', 'openebs', 'doctor'], { host: 'tcp://b:2376' }, ['doctor']],
    [
      ['--context', 'far', '-l', 'debug', 'openebs', 'events', '-n', '5'],
      { context: 'far' },
      ['events', '-n', '5'],
    ],
    [['--config=/c', '--tlscacert', '/x', 'openebs', 'version'], { config: '/c' }, ['version']],
    [['help', 'openebs', 'volume'], {}, ['help', 'volume']],
    [['__complete', 'openebs', 'volume', ''], {}, ['__complete', 'volume', '']],
    // A volume of the name of the plugin.
    [['openebs', 'volume', 'inspect', 'openebs'], {}, ['volume', 'inspect', 'openebs']],
    // Started without docker.
    [['volume', 'ls'], {}, ['volume', 'ls']],
    [['--help'], {}, ['--help']],
  ])('%j', (args, globals, rest) => {
    expect(splitGlobals(args)).toEqual({ globals, rest });
  });
});

describe('the engine that is meant', () => {
  let home: string;
  const local = 'unix:///var/run/docker.sock';

  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), 'docker-'));
    const folder = join(home, '.docker/contexts/meta', createHash('sha256').update('far').digest('hex'));
    mkdirSync(folder, { recursive: true });
    const meta = { Name: 'far', Endpoints: { docker: { Host: 'ssh://far' } } };
    writeFileSync(join(folder, 'meta.json'), JSON.stringify(meta));
    mkdirSync(join(home, 'other'));
    writeFileSync(join(home, 'other/config.json'), 'no JSON');
  });

  afterAll(() => {
    rmSync(home, { recursive: true });
  });

  it('is the one of the flags, the environment, or the context, in this order', () => {
    const of = (globals: object, env: Record<string, string> = {}) =>
      engineEndpoint(globals, { HOME: home, ...env });
    expect(of({})).toBe(local);
    expect(of({ host: 'unix:///a' }, { DOCKER_HOST: 'unix:///b' })).toBe('unix:///a');
    expect(of({}, { DOCKER_HOST: 'unix:///b', DOCKER_CONTEXT: 'far' })).toBe('unix:///b');
    expect(of({ context: 'far' }, { DOCKER_HOST: 'unix:///b' })).toBe('ssh://far');
    expect(of({ context: 'default' }, { DOCKER_CONTEXT: 'far' })).toBe(local);
    expect(of({}, { DOCKER_CONTEXT: 'far' })).toBe('ssh://far');
    expect(of({}, { DOCKER_HOST: '', DOCKER_CONTEXT: 'unknown' })).toBe(local);
    writeFileSync(join(home, '.docker/config.json'), '{"currentContext":"far"}');
    expect(of({})).toBe('ssh://far');
    expect(of({}, { DOCKER_CONFIG: join(home, 'other') })).toBe(local);
    expect(of({ config: join(home, 'other') })).toBe(local);
  });
});
