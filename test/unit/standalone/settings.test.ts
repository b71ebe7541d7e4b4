import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/errors.js';
import { hostAddress } from '../../../src/standalone/registration.js';
import { otherFlags, readCommandLine, settings, usage } from '../../../src/standalone/settings.js';

const of = (args: string[], env: Record<string, string> = {}) => readCommandLine(args, env).settings;

function problemOf(args: string[], env: Record<string, string> = {}): string {
  try {
    readCommandLine(args, env);
  } catch (reason) {
    expect(reason).toBeInstanceOf(AppError);
    expect((reason as AppError).code).toBe('invalid_argument');
    return (reason as AppError).message;
  }
  throw new Error('it was accepted');
}

describe('settings of the stand-alone registrator', () => {
  it('have defaults that fit together', () => {
    expect(of([])).toMatchObject({
      ETCD_ENDPOINTS: ['http://127.0.0.1:2379'],
      POLICIES: ['objects', 'services'],
      AT_STOP: 'hand-over',
      LEASE: 30_000,
      RESYNC: 300_000,
      LISTEN: { host: '127.0.0.1', port: 9464 },
    });
  });

  it('come from flags before the environment, and are the default when empty', () => {
    const env = { LEASE: '10s', AT_STOP: 'withdraw', POLICIES: '' };
    expect(of(['--lease', '20s', '--policies=vsm'], env)).toMatchObject({
      LEASE: 20_000,
      AT_STOP: 'withdraw',
      POLICIES: ['vsm'],
    });
    expect(of(['--policies', ''], env).POLICIES).toEqual(['objects', 'services']);
  });

  it('know words and other flags', () => {
    const line = readCommandLine(['policy', 'test', 'x.js', '--input', 'i.json', '--format=json'], {});
    expect(line.words).toEqual(['policy', 'test', 'x.js']);
    expect(line.flags).toEqual({ input: 'i.json', format: 'json' });
    expect(readCommandLine(['--dry-run'], {}).flags).toEqual({ 'dry-run': true });
  });

  it('may leave etcd out when there is a Consul agent', () => {
    expect(of(['--etcd-endpoints', 'none', '--consul-address', 'unix:///run/consul.sock'])).toMatchObject({
      ETCD_ENDPOINTS: [],
      CONSUL_ADDRESS: 'unix:///run/consul.sock',
    });
    expect(problemOf(['--etcd-endpoints', 'none'])).toContain('CONSUL_ADDRESS');
    expect(of(['--consul-address', 'http://127.0.0.1:8500']).ETCD_ENDPOINTS).toEqual([]);
  });

  it.each([
    ['--nonsense', 'x'],
    ['--lease', '30'],
    ['--lease', '1s'],
    ['--resync', '1s'],
    ['--listen', '9464'],
    ['--listen', 'localhost:9464'],
    ['--listen', '127.0.0.1:0'],
    ['--address', '0.0.0.0'],
    ['--node-id', 'a/b'],
    ['--instance', 'a b'],
    ['--at-stop', 'stay'],
    ['--policies', 'nothing'],
    ['--etcd-endpoints', '127.0.0.1:2379'],
    ['--consul-address', 'consul://127.0.0.1'],
    ['--etcd-cert-file', '/x'],
    ['--consul-key-file', '/x'],
    ['--etcd-user', 'x'],
  ])('refuse %s %s, and name it', (flag, value) => {
    const name = flag.slice(2).toUpperCase().replaceAll('-', '_').replace('CONSUL_KEY', 'CONSUL_CERT');
    expect(problemOf([flag, value]).toUpperCase().replaceAll('-', '_')).toContain(name);
  });

  it('read addresses of IPv6 to listen on', () => {
    expect(of(['--listen', '[::1]:80']).LISTEN).toEqual({ host: '::1', port: 80 });
    expect(of(['--listen', 'none']).LISTEN).toBeNull();
  });

  it('are all in the help, and in README.md', () => {
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
    const section = readme.split('## Settings of the stand-alone registrator\n')[1]?.split('\n## ')[0] ?? '';
    const cells = section
      .split('\n')
      .filter((line) => line.startsWith('| `'))
      .map((line) =>
        line
          .split('|')
          .map((cell) => cell.trim())
          .slice(1, 4),
      );
    expect(cells).toEqual(
      Object.entries(settings).map(([name, [fallback, description]]) => [
        `\`${name}\``,
        fallback,
        description,
      ]),
    );
    for (const flag of Object.keys(otherFlags)) expect(usage()).toContain(`--${flag}`);
    for (const name of Object.keys(settings)) expect(usage()).toContain(`, ${name}\n`);
  });
});

describe("the host's address", () => {
  const address = (text: string, internal = false) => ({
    ...{ address: text, internal, mac: '', netmask: '', cidr: null },
    family: text.includes(':') ? ('IPv6' as const) : ('IPv4' as const),
    ...(text.includes(':') ? { scopeid: 0 } : {}),
  });
  type Interfaces = Parameters<typeof hostAddress>[0];

  it.each([
    [{ lo: [address('127.0.0.1', true)], eth0: [address('192.0.2.5')] }, '192.0.2.5'],
    [
      { docker0: [address('172.17.0.1')], 'br-1': [address('172.18.0.1')], eth0: [address('192.0.2.5')] },
      '192.0.2.5',
    ],
    [{ eth0: [address('fe80::1'), address('2001:db8::1'), address('192.0.2.5')] }, '192.0.2.5'],
    [{ eth0: [address('fe80::1'), address('2001:db8::1')] }, '2001:db8::1'],
    [{ lo: [address('127.0.0.1', true)] }, '127.0.0.1'],
  ])('is the first that others reach: %j', (interfaces, expected) => {
    expect(hostAddress(interfaces as Interfaces)).toBe(expected);
  });
});
