import { describe, expect, it } from 'vitest';
import { checkAdvertised, ownAddresses } from '../../../src/cluster/advertised.js';

const own = ['127.0.0.1', '::1', '10.0.0.1', 'fd00::0a', 'fe80::1'];

describe('the address that a host gives the others', () => {
  it.each(['10.0.0.1', 'fd00::a', 'FD00:0:0:0:0:0:0:A'])('is one that it has: %s', (address) => {
    expect(() => {
      checkAdvertised(address, own);
    }).not.toThrow();
  });

  it.each(['', 'host', '127.0.0.1', '0.0.0.0', '::', '::1', '10.0.0.1/24'])('is no %j', (address) => {
    expect(() => {
      checkAdvertised(address, own);
    }).toThrow(/cannot be advertised: give the IP address of this host/);
  });

  it('is none of another host, as etcd could not listen there', () => {
    expect(() => {
      checkAdvertised('10.0.0.2', own);
    }).toThrow(
      '"10.0.0.2" is no address of this host, so etcd cannot listen there; it has 10.0.0.1, fd00::0a',
    );
    expect(() => {
      checkAdvertised('10.0.0.2', ['127.0.0.1']);
    }).toThrow('it has none that others reach');
  });

  it('may be looked for among those that the kernel tells', () => {
    expect(ownAddresses()).toContain('127.0.0.1');
  });
});
