import { describe, expect, it } from 'vitest';
import {
  type AgentService,
  registrationOf,
  stepOf,
} from '../../../../../src/registrator/backends/consul/registration.js';
import { serviceIdOf } from '../../../../../src/registrator/backends/consul/service-key.js';

const wanted = (registration: unknown, source = 'p container c') => ({
  value: typeof registration === 'string' ? registration : JSON.stringify(registration),
  merge: 'min' as const,
  overwrite: false,
  source,
});
const web = { Name: 'web', Tags: ['a'], Port: 80 };
const registered = (registration: unknown, owner = 'one') =>
  registrationOf('id', wanted(registration), owner).service;
const stepFor = (registration: unknown, there: AgentService | undefined, overwrite = false) =>
  stepOf('id', registration === null ? null : { ...wanted(registration), overwrite }, { there, owner: 'one' })
    .kind;

describe('the registration of a service', () => {
  it('has its id and the marks, whatever was given for them', () => {
    const given = {
      ...web,
      ID: 'other',
      Meta: { x: 'y', 'openebs-owner': 'other' },
      Weights: { Passing: 3 },
    };
    const { body, service } = registrationOf('id', wanted(given), 'one');
    expect(JSON.parse(body)).toEqual({
      ...web,
      ID: 'id',
      Weights: { Passing: 3 },
      Meta: {
        x: 'y',
        'openebs-owner': 'one',
        'openebs-source': 'p container c',
        'openebs-digest': service.meta['openebs-digest'],
      },
    });
  });

  it('has a digest of all its content, and not of its order', () => {
    const digestOf = (registration: unknown) => registered(registration).meta['openebs-digest'];
    const check = { HTTP: 'http://a', Interval: '10s' };
    expect(digestOf({ ...web, Check: check })).toBe(
      digestOf(`{"Check":{"Interval":"10s","HTTP":"http://a"},"Port":80,"Tags":["a"],"Name":"web"}`),
    );
    const others = [{ ...check, Interval: '11s' }, { HTTP: 'http://a' }, null];
    const digests = others.map((one) => digestOf({ ...web, Check: one }));
    expect(new Set([digestOf({ ...web, Check: check }), ...digests]).size).toBe(4);
  });

  it('has a source that fits into its Meta', () => {
    const { service } = registrationOf('id', wanted(web, `a${'ü'.repeat(400)}`), 'one');
    expect(service.meta['openebs-source']).toBe(`a${'ü'.repeat(255)}`);
  });

  it.each([
    ['no JSON', 'it is not JSON'],
    [[], 'it is no registration'],
    [{ Port: 80 }, 'Name'],
    [{ ...web, Port: 65_536 }, 'Port'],
    [{ ...web, Tags: 'a' }, 'Tags'],
    [{ ...web, Meta: { a: 1 } }, 'Meta.a'],
    // Consul would take the last of two whose names are the same to it.
    [{ ...web, id: 'other' }, 'its field id is to be written ID'],
    [{ ...web, meta: {} }, 'its field meta is to be written Meta'],
  ])('is not made of %j', (registration, problem) => {
    expect(() => registrationOf('id', wanted(registration), 'one')).toThrow(problem);
  });
});

describe('what is done about a service', () => {
  it('follows from what is wanted, and from what is there', () => {
    const ours = registered(web);
    const theirs = registered(web, 'two');
    const strangers = { ...ours, meta: {} };
    expect(stepFor(web, undefined)).toBe('register');
    expect(stepFor(web, ours)).toBe('none');
    expect(stepFor({ ...web, Check: { TTL: '1s' } }, ours)).toBe('register');
    for (const changed of [
      { port: 1 },
      { tags: [] },
      { name: 'x' },
      { address: 'x' },
      { meta: { ...ours.meta, a: 'b' } },
    ])
      expect(stepFor(web, { ...ours, ...changed })).toBe('register');
    for (const foreign of [theirs, strangers]) {
      expect(stepFor(web, foreign)).toBe('foreign');
      expect(stepFor(web, foreign, true)).toBe('register');
      expect(stepFor(null, foreign)).toBe('none');
    }
    expect(stepFor(null, ours)).toBe('deregister');
    expect(stepFor(null, undefined)).toBe('none');
  });

  it('leaves tags alone where others may change them', () => {
    const open = { ...web, EnableTagOverride: true };
    expect(stepFor(open, { ...registered(open), tags: ['theirs'] })).toBe('none');
  });
});

describe('the id in a key', () => {
  it.each([
    ['consul:/host:web.1:80', 'host:web.1:80'],
    ['consul:/...', '...'],
    [`consul:/${'a'.repeat(256)}`, 'a'.repeat(256)],
    [`consul:/${'a'.repeat(257)}`, null],
    ['consul:/', null],
    ['consul:/.', null],
    ['consul:/..', null],
    ['consul:/a/b', null],
    ['consul:/a\n', null],
    ['consul:/ü', null],
    ['/consul/a', null],
  ])('of %j is %j', (key, id) => {
    expect(serviceIdOf(key)).toBe(id);
  });
});
