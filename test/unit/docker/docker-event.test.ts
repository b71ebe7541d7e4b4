import { expect, test } from 'vitest';
import { actionName, eventIdentity, parseDockerEvent } from '../../../src/docker/docker-event.js';

const nano = '1763697600123456789';
const id = 'ede54ee1afda366ab42f824e8a5ffd195155d853ceaec74a927f249ea270c743';
const local = { scope: 'local', timeNano: nano };

// Up to API 1.51 with status, id and from; from 1.52 on without; podman and very old engines in their own way.
const messages: [string, string, object][] = [
  [
    'a container event of an engine up to API 1.51',
    `{"status":"start","id":"${id}","from":"alpine","Type":"container","Action":"start","Actor":{"ID":"${id}","Attributes":{"com.example":"x","image":"alpine","name":"my-container"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'container',
      action: 'start',
      actorId: id,
      attributes: { 'com.example': 'x', image: 'alpine', name: 'my-container' },
      ...local,
    },
  ],
  [
    'the same from API 1.52 on',
    `{"Type":"container","Action":"start","Actor":{"ID":"${id}","Attributes":{"image":"alpine","name":"my-container"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'container',
      action: 'start',
      actorId: id,
      attributes: { image: 'alpine', name: 'my-container' },
      ...local,
    },
  ],
  [
    'an exec with its command',
    `{"Type":"container","Action":"exec_create: sh -c \\"echo \\\\\\"timeNano\\\\\\":5\\"","Actor":{"ID":"${id}","Attributes":{"execID":"e1"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'container',
      action: 'exec_create: sh -c "echo \\"timeNano\\":5"',
      actorId: id,
      attributes: { execID: 'e1' },
      ...local,
    },
  ],
  [
    'a pulled image, named by reference',
    `{"status":"pull","id":"alpine:latest","Type":"image","Action":"pull","Actor":{"ID":"alpine:latest","Attributes":{"name":"alpine"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'image',
      action: 'pull',
      actorId: 'alpine:latest',
      attributes: { name: 'alpine' },
      ...local,
    },
  ],
  [
    'a volume, named by name',
    `{"Type":"volume","Action":"create","Actor":{"ID":"db","Attributes":{"driver":"openebs"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    { type: 'volume', action: 'create', actorId: 'db', attributes: { driver: 'openebs' }, ...local },
  ],
  [
    'a network with its container',
    `{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"${id}","name":"bridge","type":"bridge"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'network',
      action: 'connect',
      actorId: 'n1',
      attributes: { container: id, name: 'bridge', type: 'bridge' },
      ...local,
    },
  ],
  [
    'a plugin',
    `{"Type":"plugin","Action":"enable","Actor":{"ID":"p1","Attributes":{"name":"openebs:latest"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    { type: 'plugin', action: 'enable', actorId: 'p1', attributes: { name: 'openebs:latest' }, ...local },
  ],
  [
    'a reload of the daemon',
    `{"Type":"daemon","Action":"reload","Actor":{"ID":"ABCD:EF","Attributes":{"debug":"false","labels":"[]","name":"host"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'daemon',
      action: 'reload',
      actorId: 'ABCD:EF',
      attributes: { debug: 'false', labels: '[]', name: 'host' },
      ...local,
    },
  ],
  [
    'a prune, which is about no single object',
    `{"Type":"volume","Action":"prune","Actor":{"ID":"","Attributes":{"reclaimed":"0","name":"no"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'volume',
      action: 'prune',
      actorId: '',
      attributes: { reclaimed: '0', name: 'no' },
      ...local,
    },
  ],
  [
    'a swarm service',
    `{"Type":"service","Action":"update","Actor":{"ID":"s1","Attributes":{"name":"web","replicas.new":"3","replicas.old":"1"}},"scope":"swarm","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'service',
      action: 'update',
      actorId: 's1',
      attributes: { name: 'web', 'replicas.new': '3', 'replicas.old': '1' },
      scope: 'swarm',
      timeNano: nano,
    },
  ],
  [
    "podman's health, in an attribute",
    `{"Type":"container","Action":"health_status","Actor":{"ID":"c1","Attributes":{"health_status":"healthy","name":"x"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    {
      type: 'container',
      action: 'health_status: healthy',
      actorId: 'c1',
      attributes: { health_status: 'healthy', name: 'x' },
      ...local,
    },
  ],
  [
    "podman's volume without an id",
    `{"Type":"volume","Action":"create","Actor":{"ID":"","Attributes":{"name":"db"}},"scope":"local","time":1763697600,"timeNano":${nano}}`,
    { type: 'volume', action: 'create', actorId: 'db', attributes: { name: 'db' }, ...local },
  ],
  [
    'an engine from before actors, with seconds only',
    '{"status":"die","id":"c1","from":"alpine","time":1763697600}',
    {
      type: 'container',
      action: 'die',
      actorId: 'c1',
      attributes: {},
      scope: 'local',
      timeNano: '1763697600000000000',
    },
  ],
  [
    'an old engine about an image',
    '{"status":"untag","id":"sha256:1","time":1763697600}',
    {
      type: 'image',
      action: 'untag',
      actorId: 'sha256:1',
      attributes: {},
      scope: 'local',
      timeNano: '1763697600000000000',
    },
  ],
  [
    'values that are no strings, and no attributes at all',
    `{"Type":"thing","Action":"become","Actor":{"ID":"t","Attributes":{"n":1,"timeNano":"7","o":{"a":null}}},"timeNano":${nano}}`,
    {
      type: 'thing',
      action: 'become',
      actorId: 't',
      attributes: { n: '1', timeNano: '7', o: '{"a":null}' },
      ...local,
    },
  ],
  [
    'null where an object belongs',
    `{"Type":"builder","Action":"prune","Actor":null,"timeNano":${nano}}`,
    { type: 'builder', action: 'prune', actorId: '', attributes: {}, ...local },
  ],
];

test.each(messages)('reads %s', (_name, line, expected) => {
  expect(parseDockerEvent(line)).toEqual(expected);
});

test.each([
  '',
  'null',
  '7',
  '[]',
  '"start"',
  '{',
  '{}',
  '{"Type":"container","Action":"start"}',
  `{"Type":"container","Action":{},"timeNano":${nano}}`,
  '{"Type":"container","Action":"start","time":-1}',
  '{"Type":"container","Action":"start","time":1e300}',
])('takes %s for no event', (line) => {
  expect(parseDockerEvent(line)).toBeNull();
});

test('a label named __proto__ is a label like any other', () => {
  const event = parseDockerEvent(
    `{"Type":"container","Action":"start","Actor":{"ID":"c","Attributes":{"__proto__":"x"}},"timeNano":${nano}}`,
  );
  expect(Object.entries(event!.attributes)).toEqual([['__proto__', 'x']]);
  expect(event!.attributes['name']).toBeUndefined();
});

test('identity tells nanoseconds, objects and actions apart', () => {
  const base = { type: 'a', action: 'b', actorId: 'c', attributes: {}, scope: 'local', timeNano: nano };
  const others = [
    { ...base, type: 'x' },
    { ...base, action: 'x' },
    { ...base, actorId: 'x' },
    { ...base, timeNano: '1763697600123456790' },
  ];
  expect(new Set([base, ...others].map(eventIdentity)).size).toBe(5);
  expect(eventIdentity({ ...base, attributes: { more: 'said' } })).toBe(eventIdentity(base));
  expect(actionName({ ...base, action: 'exec_create: a: b' })).toBe('exec_create');
});
