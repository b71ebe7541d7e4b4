import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatAddress, readAddress } from '../../../../src/cluster/discovery/address.js';
import { defaultGroup, discoveryKinds, parseDiscovery } from '../../../../src/cluster/discovery/spec.js';
import { AppError } from '../../../../src/errors.js';

describe('which discovery is meant', () => {
  it.each([
    ['token', { kind: 'token' }],
    ['  swarm ', { kind: 'swarm' }],
    ['static:host1', { kind: 'static', hosts: [{ host: 'host1', port: null }] }],
    [
      'static:Host1., 10.0.0.2:4000 ,[::1]:80,[2001:DB8:0:0::1],a_b.example.org:1',
      {
        kind: 'static',
        hosts: [
          { host: 'host1', port: null },
          { host: '10.0.0.2', port: 4000 },
          { host: '::1', port: 80 },
          { host: '2001:db8::1', port: null },
          { host: 'a_b.example.org', port: 1 },
        ],
      },
    ],
    ['dns:Example.org.', { kind: 'dns', name: '_openebs._tcp.example.org' }],
    ['dns:_storage._tcp.example.org', { kind: 'dns', name: '_storage._tcp.example.org' }],
    ['multicast', { kind: 'multicast', ...defaultGroup }],
    ['multicast:239.1.2.3:5000', { kind: 'multicast', group: '239.1.2.3', port: 5000 }],
    ['multicast:224.0.1.0:1', { kind: 'multicast', group: '224.0.1.0', port: 1 }],
    ['unix:/run/found.sock', { kind: 'unix', path: '/run/found.sock' }],
    ['unix:///var/run/found.sock', { kind: 'unix', path: '/run/found.sock' }],
    ['unix:/var/lib/found/it.sock', { kind: 'unix', path: '/var/lib/found/it.sock' }],
  ])('is read: %s', (text, spec) => {
    expect(parseDiscovery(text)).toEqual(spec);
  });

  it.each([
    ['', 'give token, static:HOST'],
    ['statik:host1', 'did you mean static?'],
    ['consul:x', 'give token, static:HOST[:PORT],..., dns:NAME, multicast[:GROUP:PORT], swarm, or unix:PATH'],
    ['toString', 'give token'],
    ['token:', 'nothing may follow'],
    ['swarm:2377', 'nothing may follow'],
    ['static', '"" is none'],
    ['static:', '"" is none'],
    ['static:a,,b', '"" is none'],
    ['static:::1', '"::1" is none'],
    ['static:2001:db8::1', 'IPv6 in brackets'],
    ['static:a:0', '"a:0" is none'],
    ['static:a:65536', '"a:65536" is none'],
    ['static:a:', '"a:" is none'],
    ['static:0.0.0.0', '"0.0.0.0" is none'],
    ['static:[::]:80', 'is none'],
    ['static:[0:0::0]', 'is none'],
    ['static:[::ffff:0.0.0.0]', 'is none'],
    ['static:[fe80::1%eth0]:80', 'is none'],
    ['static:[host]:80', 'is none'],
    ['static:239.0.0.1', 'is none'],
    ['static:255.255.255.255', 'is none'],
    ['static:10.0.0.256', 'is none'],
    ['static:10.1', 'is none'],
    ['static:0x7f000001', 'is none'],
    ['static:https://host1', 'is none'],
    ['static:-a', 'is none'],
    ['static:a..b', 'is none'],
    [`static:${'a'.repeat(64)}`, 'is none'],
    [`static:${Array(65).fill('a').join(',')}`, 'at most 64 hosts'],
    ['dns', 'give dns:NAME'],
    ['dns:', 'give dns:NAME'],
    ['dns:10.0.0.1', 'give dns:NAME'],
    ['dns:a b', 'give dns:NAME'],
    [`dns:${'a.'.repeat(120)}example.org`, 'give dns:NAME'],
    ['multicast:', 'GROUP:PORT'],
    ['multicast:239.1.2.3', 'GROUP:PORT'],
    ['multicast:224.0.0.251:5353', 'from 224.0.1.0'],
    ['multicast:10.0.0.1:5000', 'from 224.0.1.0'],
    ['multicast:240.0.0.1:5000', 'from 224.0.1.0'],
    ['multicast:239.1.2.3:0', 'GROUP:PORT'],
    ['unix', 'below /run'],
    ['unix:found.sock', 'below /run'],
    ['unix:/run/../etc/passwd', 'below /run'],
    ['unix:/tmp/found.sock', 'below /run'],
    ['unix:/var/lib/../../x', 'below /var/lib'],
  ])('is refused with a reason that names the option: %s', (text, reason) => {
    let said: unknown;
    try {
      said = parseDiscovery(text);
    } catch (refusal) {
      said = refusal;
    }
    expect(said).toMatchObject({ name: 'AppError', code: 'invalid_argument' });
    expect((said as Error).message).toMatch(/^option --discovery: ".*/);
    expect((said as Error).message).toContain(reason);
  });

  it('is refused with the name of the setting that it is given by', () => {
    expect(() => parseDiscovery('x', 'DISCOVERY')).toThrow(/^option DISCOVERY: "x" is not allowed/);
  });

  it('is whatever text it is either read or refused, and what is read stays in its place', () => {
    const part = fc.oneof(
      fc.constantFrom(
        ...discoveryKinds,
        ':',
        ',',
        '[',
        ']',
        '.',
        '/',
        '..',
        '//',
        '/run',
        '0',
        '::',
        '%',
        '\n',
        '\0',
        '224',
      ),
      fc.string({ unit: 'binary' }),
      fc.ipV4(),
      fc.ipV6(),
      fc.domain(),
      fc.nat(70_000).map(String),
    );
    const texts = fc.array(part, { maxLength: 9 }).map((parts) => parts.join(''));
    const texted = fc.oneof(
      texts,
      fc.tuple(fc.constantFrom(...discoveryKinds), texts).map(([kind, rest]) => `${kind}:${rest}`),
    );
    fc.assert(
      fc.property(texted, (text) => {
        try {
          const spec = parseDiscovery(text);
          // No text of these has more than plain characters of paths, names and addresses.
          expect(JSON.stringify(spec)).toMatch(/^[\x20-\x7e\p{L}\p{M}\p{N}\p{P}\p{S}\p{Z}]*$/u);
          if (spec.kind === 'static')
            for (const { host, port } of spec.hosts) {
              expect(host).toMatch(/^[0-9a-z_.:-]+$/);
              expect(readAddress(formatAddress({ host, port: port ?? 1 }))).toEqual({
                host,
                port: port ?? 1,
              });
            }
          if (spec.kind === 'dns') expect(spec.name).toMatch(/^_[0-9a-z_.-]+$/);
          if (spec.kind === 'unix') expect(spec.path).toMatch(/^\/(run|var\/lib)\/(?!.*\/\.\.(\/|$))/s);
        } catch (reason) {
          if (!(reason instanceof AppError)) throw reason;
          expect(reason.code).toBe('invalid_argument');
          // It is shown on a terminal, as one line.
          expect(reason.message).not.toMatch(/\p{Cc}/u);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('is read back as an address is written', () => {
    const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
    fc.assert(
      fc.property(host, fc.integer({ min: 1, max: 65_535 }), (text, port) => {
        const written = text.includes(':') ? `[${text}]:${String(port)}` : `${text}:${String(port)}`;
        const read = readAddress(written);
        if (read === null) return;
        const again = formatAddress({ host: read.host, port });
        expect(readAddress(again)).toEqual(read);
      }),
      { numRuns: 1_000 },
    );
  });
});
