import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { parseConfig, settings } from '../../src/config.js';
import { AppError } from '../../src/errors.js';
import { fileSystems } from '../../src/state/records.js';
import { optionRows } from '../../src/volumes/options.js';

const root = new URL('../../', import.meta.url);
const pluginConfig = z
  .looseObject({
    env: z.array(
      z.strictObject({
        name: z.string(),
        description: z.string(),
        value: z.string(),
        settable: z.tuple([z.literal('value')]),
      }),
    ),
    interface: z.object({ types: z.array(z.string()), socket: z.string(), protocolScheme: z.string() }),
    propagatedMount: z.string(),
    network: z.object({ type: z.string() }),
    mounts: z.array(z.looseObject({ source: z.string(), destination: z.string() })),
    linux: z.object({ capabilities: z.array(z.string()), allowAllDevices: z.boolean() }),
  })
  .parse(JSON.parse(readFileSync(new URL('config.json', root), 'utf8')));

/** Cells of the table in README.md that stands below a heading. */
function readmeRows(heading: string): string[][] {
  const section = readFileSync(new URL('README.md', root), 'utf8').split(`## ${heading}\n`)[1] ?? '';
  const table = section.split('\n## ')[0] ?? '';
  const lines = table.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(2).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

function problemsOf(env: Record<string, string>): string {
  try {
    parseConfig(env);
  } catch (reason) {
    expect(reason).toBeInstanceOf(AppError);
    return (reason as AppError).message;
  }
  throw new Error(`accepted ${JSON.stringify(env)}`);
}

describe('settings', () => {
  const declared = Object.entries(settings).map(([name, [fallback, description]]) => [
    name,
    fallback,
    description,
  ]);

  it('are the same in config.json and in the schema', () => {
    expect(pluginConfig.env.map(({ name, value, description }) => [name, value, description])).toEqual(
      declared,
    );
  });

  it('are the same in README.md and in the schema', () => {
    expect(readmeRows('Settings')).toEqual(
      declared.map(([name, fallback, description]) => [`\`${name ?? ''}\``, fallback, description]),
    );
  });

  it('have defaults that fit together', () => {
    expect(parseConfig({})).toEqual({
      logLevel: 'info',
      nodeId: '',
      dockerSocket: '/run/docker.sock',
      cluster: 'etcd',
      etcd: { endpoints: [], port: 23_790 },
      targetAddress: '127.0.0.1',
      targetPorts: { first: 13_260, last: 14_259 },
      defaults: { sizeBytes: 10 * 1024 ** 3, fs: 'ext4', pool: 'default' },
      mountTimeoutMs: 25_000,
      drainTimeoutMs: 90_000,
      failoverAfterMs: 30_000,
      memberGraceMs: 300_000,
      discovery: 'multicast',
      backup: { everyMs: 21_600_000, keep: 8 },
      events: { maxCount: 10_000, maxAgeMs: 604_800_000, noise: false },
      policies: { defaults: ['objects', 'services', 'vsm'], directory: '/var/lib/openebs/policies' },
      registry: { farewell: 'hand-over' },
      consul: {},
      nodeLabels: {},
    });
  });

  it('have an allowed and a default file system that records know', () => {
    for (const fs of fileSystems) expect(parseConfig({ DEFAULT_FS: fs }).defaults.fs).toBe(fs);
  });

  it('are frozen, nested objects too', () => {
    const config = parseConfig({ NODE_LABELS: 'rack=r1' });
    for (const part of [config, config.etcd, config.etcd.endpoints, config.defaults, config.events]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
    expect(Object.isFrozen(config.nodeLabels) && Object.isFrozen(config.targetPorts)).toBe(true);
  });

  it('ignore foreign variables and take an empty value for the default', () => {
    expect(parseConfig({ PATH: '/bin', DEFAULT_SIZE: '', LOG_LEVEL: ' ' })).toEqual(parseConfig({}));
  });

  it('without an etcd refuse what says which, by the names of both, and leave its ports to others', () => {
    expect(parseConfig({ CLUSTER: 'none', TARGET_PORTS: '23000-24000' }).cluster).toBe('none');
    expect(problemsOf({ TARGET_PORTS: '23000-24000' })).toContain('ETCD_PORT');
    const given = {
      ETCD_ENDPOINTS: 'http://10.0.0.1:2379',
      ETCD_CA_FILE: '/var/lib/ca.pem',
      ETCD_CERT_FILE: '/var/lib/cert.pem',
      ETCD_KEY_FILE: '/var/lib/key.pem',
      ETCD_USER: 'docker',
      ETCD_PASSWORD_FILE: '/var/lib/password',
    };
    const text = problemsOf({ CLUSTER: 'none', ...given });
    for (const name of Object.keys(given)) {
      expect(text).toMatch(new RegExp(`CLUSTER=none uses none: empty one\\n.*at ${name}`));
    }
    expect(problemsOf({ CLUSTER: 'raft' })).toContain('CLUSTER');
  });

  it('read an etcd of the user', () => {
    const config = parseConfig({
      ETCD_ENDPOINTS: 'https://10.0.0.1:2379, https://etcd.example:2379/',
      ETCD_CA_FILE: '/var/lib/etcd-ca.pem',
      ETCD_USER: 'docker',
      ETCD_PASSWORD_FILE: '/var/lib/secrets/etcd',
    });
    expect(config.etcd).toMatchObject({
      endpoints: ['https://10.0.0.1:2379', 'https://etcd.example:2379'],
      caFile: '/var/lib/etcd-ca.pem',
      user: 'docker',
      passwordFile: '/var/lib/secrets/etcd',
    });
  });

  it('read which policies run', () => {
    expect(parseConfig({ POLICIES: 'none' }).policies.defaults).toEqual([]);
    expect(parseConfig({ POLICIES: 'skydns, vsm' }).policies.defaults).toEqual(['skydns', 'vsm']);
  });

  it.each([
    ['LOG_LEVEL', 'loud'],
    ['NODE_ID', 'a/b'],
    ['DOCKER_SOCKET', '/tmp/docker.sock'],
    ['DOCKER_SOCKET', '/run/../etc/docker.sock'],
    ['ETCD_ENDPOINTS', '10.0.0.1:2379'],
    ['ETCD_ENDPOINTS', 'https://user:secret@10.0.0.1:2379'],
    ['ETCD_ENDPOINTS', 'https://10.0.0.1:2379,http://10.0.0.2:2379'],
    ['ETCD_ENDPOINTS', 'https://10.0.0.1:2379/v3'],
    ['ETCD_CA_FILE', '/etc/ca.pem'],
    ['ETCD_CA_FILE', '/var/lib/../../etc/ca.pem'],
    ['ETCD_CERT_FILE', '/var/lib/cert.pem'],
    ['ETCD_USER', 'docker'],
    ['ETCD_PORT', '80'],
    ['ETCD_PORT', '65535'],
    ['ETCD_PORT', '13260'],
    ['ETCD_PORT', '13259'],
    ['TARGET_ADDRESS', '0.0.0.0'],
    ['TARGET_ADDRESS', 'host1'],
    ['TARGET_PORTS', '5000'],
    ['TARGET_PORTS', '5000-4000'],
    ['TARGET_PORTS', '5000-70000'],
    ['DEFAULT_SIZE', '10X'],
    ['DEFAULT_SIZE', '1M'],
    ['DEFAULT_SIZE', '65T'],
    ['DEFAULT_FS', 'zfs'],
    ['DEFAULT_POOL', '../x'],
    ['MOUNT_TIMEOUT', '25'],
    ['MOUNT_TIMEOUT', '2h'],
    ['DRAIN_TIMEOUT', '0s'],
    ['EVENTS_MAX_COUNT', '-1'],
    ['EVENTS_MAX_AGE', '7 days'],
    ['EVENTS_NOISE', 'perhaps'],
    ['POLICIES', 'objects,nonsense'],
    ['POLICIES', 'none,objects'],
    ['POLICY_DIR', '/etc/policies'],
    ['POLICY_DIR', '/var/lib/../etc'],
    ['REGISTRY_AT_STOP', 'stay'],
    ['CONSUL_ADDRESS', '127.0.0.1:8500'],
    ['CONSUL_CERT_FILE', '/var/lib/consul.crt'],
    ['CONSUL_TOKEN_FILE', '/etc/token'],
    ['NODE_LABELS', 'rack'],
    ['NODE_LABELS', 'rack=a,rack=b'],
  ])('refuse %s=%s and name it', (name, value) => {
    expect(problemsOf({ [name]: value })).toContain(name);
  });

  it('name every wrong one at once', () => {
    const text = problemsOf({ LOG_LEVEL: 'loud', DEFAULT_SIZE: '10X', ETCD_PORT: 'x' });
    expect(text).toContain('LOG_LEVEL');
    expect(text).toContain('DEFAULT_SIZE');
    expect(text).toContain('ETCD_PORT');
  });
});

describe('config.json', () => {
  it('is what the engine takes for a volume driver', () => {
    expect(pluginConfig.interface).toEqual({
      types: ['docker.volumedriver/1.0'],
      socket: 'openebs.sock',
      protocolScheme: 'moby.plugins.http/v1',
    });
    expect(pluginConfig.propagatedMount).toBe('/mnt/openebs');
  });

  it('asks for no privilege that README.md does not explain', () => {
    const explained = readmeRows('Privileges').map(([privilege]) => privilege);
    expect(explained).toEqual([
      `network \`${pluginConfig.network.type}\``,
      ...pluginConfig.mounts.map(({ source }) => `mount \`${source}\``),
      ...(pluginConfig.linux.allowAllDevices ? ['allow-all-devices'] : []),
      ...pluginConfig.linux.capabilities.map((name) => `\`${name}\``),
    ]);
  });
});

describe('README.md', () => {
  it('has a row for every option of a volume', () => {
    const rows = readmeRows('Options of a volume').map(([name, , meaning]) => [name, meaning]);
    expect(rows).toEqual(optionRows.map(([name, meaning]) => [`\`${name}\``, meaning]));
  });
});
