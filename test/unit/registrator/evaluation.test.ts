import { beforeEach, describe, expect, it } from 'vitest';
import type { ObjectKind } from '../../../src/docker/objects.js';
import { AppError } from '../../../src/errors.js';
import type { Wanted } from '../../../src/registrator/claims/step.js';
import { Evaluation } from '../../../src/registrator/evaluation.js';
import { instanceOf } from '../../../src/registrator/policies/built-in/built-in.js';
import { objects } from '../../../src/registrator/policies/built-in/objects.js';
import { skydns } from '../../../src/registrator/policies/built-in/skydns.js';
import type { Policy } from '../../../src/registrator/policies/policy.js';
import type { Subject } from '../../../src/registrator/policies/subject.js';
import { createRegistry } from '../../../src/registrator/registry.js';
import { createLogLines } from '../../support/log-lines.js';

const node = { id: 'n1', hostname: 'host-1', address: '192.168.1.102' };
let wanted: Map<string, Wanted>;
let evaluation: Evaluation;
let lines: ReturnType<typeof createLogLines>['lines'];

beforeEach(() => {
  wanted = new Map();
  const logged = createLogLines();
  lines = logged.lines;
  const want = (key: string, wish: Wanted | null) => {
    if (wish) wanted.set(key, wish);
    else wanted.delete(key);
  };
  evaluation = new Evaluation({ registry: createRegistry({ want }, logged.log), node, log: logged.log });
});

const values = () => Object.fromEntries([...wanted].map(([key, { value }]) => [key, value]));

function container(hostname: string, ip: string, more: Record<string, unknown> = {}) {
  return {
    Name: `/${hostname}`,
    Config: { Hostname: hostname, Image: 'alpine', Env: ['A=1', 'B=x=y'], Labels: { role: 'web' } },
    State: { Running: true },
    NetworkSettings: {
      Networks: { bridge: { IPAddress: ip } },
      Ports: { '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8080' }] },
    },
    ...more,
  };
}

function policy(name: string, run: (subject: Subject) => unknown, more: Partial<Policy> = {}): Policy {
  const kinds = new Set<ObjectKind>(['container']);
  return {
    name,
    merge: 'min',
    overwrite: false,
    kinds,
    run: (subject) => Promise.resolve(subject).then(run),
    ...more,
  };
}

const is = (id: string, object: Record<string, unknown> | null) =>
  evaluation.onChange('container', id, object);

async function two(): Promise<void> {
  await is('1', container('test-1', '172.18.0.2'));
  await is('2', container('test-2', '172.18.0.3'));
}

describe('policies over objects', () => {
  it('register no more together than the process should keep, whoever comes last', async () => {
    const want = (key: string, wish: Wanted | null) => {
      if (wish) wanted.set(key, wish);
      else wanted.delete(key);
    };
    const { log } = createLogLines();
    evaluation = new Evaluation({ registry: createRegistry({ want }, log, 100), node, log });
    let length = 40;
    evaluation.add(policy('own', ({ id }) => (length === 0 ? null : { [`/p/${id}`]: 'x'.repeat(length) })));
    for (const id of ['1', '2']) await is(id, container('a', ''));
    // It has its turn when there is room: whoever looks has to look again.
    await expect(is('3', container('a', ''))).rejects.toMatchObject({ code: 'no_space' });
    expect([...wanted.keys()]).toEqual(['/p/1', '/p/2']);
    expect(evaluation.problems.map(({ problem }) => problem)).toEqual([
      'all that policies register of this host would have more than 100 characters',
    ]);
    length = 0;
    await is('1', container('b', ''));
    length = 40;
    await is('3', container('b', ''));
    length = 46;
    await is('2', container('b', ''));
    await is('3', null);
    await is('1', container('c', ''));
    expect([...wanted].map(([key, { value }]) => [key, value.length])).toEqual([
      ['/p/2', 46],
      ['/p/1', 46],
    ]);
  });

  it('write a key for each container, as JSON or as the text it is', async () => {
    evaluation.add(
      policy('json', ({ container: c }) => ({
        [`/kontena/test/${c!.hostname}`]: { host: c!.networks['bridge']!.ip },
      })),
    );
    evaluation.add(
      policy('text', ({ container: c }) => ({ [`/kontena/text/${c!.hostname}`]: c!.networks['bridge']!.ip })),
    );
    await two();
    expect(values()).toEqual({
      '/kontena/test/test-1': '{"host":"172.18.0.2"}',
      '/kontena/test/test-2': '{"host":"172.18.0.3"}',
      '/kontena/text/test-1': '172.18.0.2',
      '/kontena/text/test-2': '172.18.0.3',
    });
    await is('2', null);
    expect([...wanted.keys()]).toEqual(['/kontena/test/test-1', '/kontena/text/test-1']);
  });

  it('of skydns write what CoreDNS reads, on the network that is asked for', async () => {
    evaluation.add(instanceOf(skydns, 'kontena-local', { domain: 'kontena.local' }));
    await two();
    expect(values()).toEqual({
      '/skydns/local/kontena/test-1': '{"host":"172.18.0.2"}',
      '/skydns/local/kontena/test-2': '{"host":"172.18.0.3"}',
    });
    // Stopped, it has no address.
    await is('1', container('test-1', ''));
    expect([...wanted.keys()]).toEqual(['/skydns/local/kontena/test-2']);
    expect(() => instanceOf(skydns, 'bad', { domain: 7, more: 1 })).toThrow(
      /configuration bad of policy skydns .*domain.*more/s,
    );
  });

  it('settle on the smaller value with one warning, and on the other when that goes', async () => {
    evaluation.add(policy('p', ({ container: c }) => ({ '/kontena/test': { hostname: c!.hostname } })));
    await two();
    expect(values()).toEqual({ '/kontena/test': '{"hostname":"test-1"}' });
    expect(lines.filter(({ msg }) => msg.includes('different values'))).toHaveLength(1);
    await is('1', null);
    expect(values()).toEqual({ '/kontena/test': '{"hostname":"test-2"}' });
    await is('2', null);
    expect(values()).toEqual({});
  });

  it('share a key of the same value without a warning, until the last object of it is gone', async () => {
    evaluation.add(policy('p', () => ({ '/kontena/test': 'same' })));
    await two();
    await is('1', null);
    expect(values()).toEqual({ '/kontena/test': 'same' });
    await is('2', null);
    expect(values()).toEqual({});
    expect(lines).toEqual([]);
  });

  it('give nothing for null, and leave out keys that are null', async () => {
    evaluation.add(policy('a', () => null));
    evaluation.add(policy('b', () => ({ '/x/a': null, '/x/b': 1, '/x/c': false })));
    await two();
    expect(values()).toEqual({ '/x/b': '1', '/x/c': 'false' });
  });

  it.each([
    ['test', 'it returns a string'],
    [[1], 'it returns a list'],
    [7, 'it returns a number'],
    [{ name: 1 }, 'the key "name" is not of the form'],
    [{ '/one': 1 }, 'the key "/one" is not of the form'],
    [{ '/a/\nb': 1 }, 'control characters'],
    [{ '/openebs/volumes/db': 1 }, "the product's own records"],
    [{ '/openebs/registry/claims/x/y': 1 }, "the product's own records"],
    [{ '/a/b': 'x'.repeat(70_000) }, 'has 70000 characters'],
  ])('are told what is wrong with a result, and others go on: %j', async (result, text) => {
    evaluation.add(policy('bad', () => result));
    evaluation.add(policy('good', () => ({ '/good/key': 1 })));
    await two();
    expect(values()).toEqual({ '/good/key': '1' });
    expect(evaluation.problems).toMatchObject([{ policy: 'bad', object: 'container test-2' }]);
    expect(evaluation.problems[0]!.problem).toContain(text);
  });

  it('that fail keep what they gave, and go on when they can', async () => {
    let broken = false;
    evaluation.add(
      policy('p', ({ name }) => {
        if (broken) throw new AppError('invalid_argument', 'so be it');
        return { [`/x/${name}`]: 1 };
      }),
    );
    await two();
    broken = true;
    await two();
    expect(values()).toEqual({ '/x/test-1': '1', '/x/test-2': '1' });
    expect(evaluation.problems).toMatchObject([{ problem: 'so be it' }]);
    broken = false;
    await two();
    expect(evaluation.problems).toEqual([]);
  });

  it('that are slow again and again are left out until they are changed', async () => {
    let runs = 0;
    const slow = policy('slow', () => {
      runs += 1;
      throw new AppError('deadline_exceeded', 'it took longer than 100 ms');
    });
    evaluation.add(slow);
    const look = () => is('1', container('test-1', ''));
    // A busy machine, perhaps: whoever looks has to look again.
    for (let count = 0; count < 5; count += 1) await expect(look()).rejects.toThrow('longer than 100 ms');
    for (let count = 0; count < 3; count += 1) await look();
    expect(runs).toBe(5);
    expect(evaluation.problems[0]!.problem).toContain('left out until it is changed');
    evaluation.add(slow);
    await expect(look()).rejects.toThrow('longer than 100 ms');
    expect(runs).toBe(6);
  });

  it('that only wait for a slow one are not taken for slow', async () => {
    evaluation.add(
      policy('patient', async () => {
        await new Promise((resolve) => setTimeout(resolve, 110));
        throw new AppError('invalid_argument', 'so be it');
      }),
    );
    for (let count = 0; count < 6; count += 1) await is('1', container('test-1', ''));
    expect(evaluation.problems[0]!.problem).toBe('so be it');
  });

  it('whose answer is not to be had are tried again, and the others have given theirs', async () => {
    let isThere = false;
    evaluation.add(
      policy('away', () => {
        if (!isThere) throw new AppError('unavailable', 'its thread has ended');
        return { '/x/away': 1 };
      }),
    );
    evaluation.add(policy('other', () => ({ '/x/other': 1 })));
    await expect(is('1', container('test-1', ''))).rejects.toThrow('its thread has ended');
    expect(values()).toEqual({ '/x/other': '1' });
    isThere = true;
    await is('1', container('test-1', ''));
    expect(values()).toEqual({ '/x/away': '1', '/x/other': '1' });
  });

  it('of a version before have no say any more, however late they fail', async () => {
    const { promise, reject } = Promise.withResolvers<never>();
    evaluation.add(policy('p', () => promise));
    const late = is('1', container('test-1', ''));
    evaluation.add(policy('p', () => ({ '/x/new': 1 })));
    reject(new AppError('unavailable', 'it is not loaded'));
    await late;
    expect(evaluation.problems).toEqual([]);
  });

  it('that have no function for a kind any more give nothing for it', async () => {
    evaluation.add(policy('p', () => ({ '/x/a': 1 })));
    await is('1', container('test-1', ''));
    evaluation.add(policy('p', () => ({}), { kinds: new Set<ObjectKind>(['image']) }));
    await is('1', container('test-1', ''));
    expect(values()).toEqual({});
  });

  it('that are taken away take with them what they gave, and no more', async () => {
    evaluation.add(policy('a', () => ({ '/x/a': 1, '/x/both': 1 })));
    evaluation.add(policy('b', () => ({ '/x/b': 1, '/x/both': 1 })));
    await two();
    evaluation.remove('a');
    expect(values()).toEqual({ '/x/b': '1', '/x/both': '1' });
  });

  it('of the inventory write every object of every kind below its host', async () => {
    evaluation.add(instanceOf(objects, 'objects', {}));
    await is('c1', container('web', '172.18.0.2'));
    await evaluation.onChange('volume', 'data/../x', { Name: 'data' });
    await evaluation.onChange('image', 'sha256:1', { RepoTags: ['alpine:3'] });
    await evaluation.onChange('network', 'n', { Name: 'bridge' });
    expect(values()).toEqual({
      '/openebs/objects/n1/container/c1':
        '{"kind":"container","id":"c1","name":"web","image":"alpine","running":true,"paused":false,"health":"none","networks":{"bridge":{"ip":"172.18.0.2","ip6":"","aliases":[]}}}',
      '/openebs/objects/n1/volume/data%2F..%2Fx': '{"kind":"volume","id":"data/../x","name":"data"}',
      '/openebs/objects/n1/image/sha256%3A1':
        '{"kind":"image","id":"sha256:1","name":"alpine:3","tags":["alpine:3"]}',
      '/openebs/objects/n1/network/n': '{"kind":"network","id":"n","name":"bridge"}',
    });
  });

  it('see of a container what nearly all ask for', async () => {
    let seen: Subject | undefined;
    evaluation.add(policy('p', (subject) => void (seen = subject)));
    await is('c1', container('web', '172.18.0.2'));
    expect(seen).toMatchObject({
      name: 'web',
      labels: { role: 'web' },
      node,
      container: {
        env: { A: '1', B: 'x=y' },
        running: true,
        health: 'none',
        networks: { bridge: { ip: '172.18.0.2' } },
        ports: [{ port: 80, protocol: 'tcp', published: [{ ip: '0.0.0.0', port: 8080 }] }],
      },
    });
  });
});
