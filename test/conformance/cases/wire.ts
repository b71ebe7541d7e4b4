import type { Case, Group } from '../case.js';
import { failed, must, ok, sleep, type Trial } from '../trial.js';
import { dockerHeaders, request } from '../wire.js';

const rfc3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;
const capabilities = request('/VolumeDriver.Capabilities', '{}');

async function alive(trial: Trial): Promise<void> {
  ok(await trial.call('Capabilities'), 'the driver must go on answering');
}

function createWith(name: string, headers: readonly string[]): Case {
  return {
    name: `a call with ${name} is understood`,
    why: 'engines and clients differ in the headers they send',
    async run(trial) {
      const volume = trial.name();
      ok(await trial.call('Create', { Name: volume, Opts: trial.settings.createOpts }, { headers }));
      await trial.present(volume);
      return undefined;
    },
  };
}

const headerCases = [
  createWith('an empty Host and no Content-Type', dockerHeaders),
  createWith('a Host name', ['Host: plugin.moby.localhost', ...dockerHeaders.slice(1)]),
  createWith('no Accept and no User-Agent', ['Host: ']),
  createWith('a Content-Type of JSON', [...dockerHeaders, 'Content-Type: application/json']),
  createWith('a Content-Type of something else', [
    ...dockerHeaders,
    'Content-Type: application/x-www-form-urlencoded',
  ]),
  createWith('Connection: close', [...dockerHeaders, 'Connection: close']),
];

const bodyCases: Case[] = [
  {
    name: 'a chunked body is read',
    why: 'HTTP/1.1',
    async run(trial) {
      const name = trial.name();
      trial.touched.add(name);
      const body = JSON.stringify({ Name: name, Opts: trial.settings.createOpts });
      const connection = await trial.open();
      const [first, second] = [body.slice(0, 9), body.slice(9)];
      const head = ['POST /VolumeDriver.Create HTTP/1.1', ...dockerHeaders, 'Transfer-Encoding: chunked'];
      connection.send(`${head.join('\r\n')}\r\n\r\n${first.length.toString(16)}\r\n${first}\r\n`);
      await sleep(50);
      connection.send(`${Buffer.byteLength(second).toString(16)}\r\n${second}\r\n0\r\n\r\n`);
      ok(await trial.answer(connection, 'Create', `chunked Create ${body}`));
      connection.close();
      await trial.present(name);
      return undefined;
    },
  },
  {
    name: 'a head and a body in several packets are read',
    why: 'a stream has no packets',
    async run(trial) {
      const name = trial.name();
      trial.touched.add(name);
      const bytes = request(
        '/VolumeDriver.Create',
        JSON.stringify({ Name: name, Opts: trial.settings.createOpts }),
      );
      const connection = await trial.open();
      for (const [from, to] of [
        [0, 20],
        [20, bytes.length - 12],
        [bytes.length - 12, bytes.length],
      ] as const) {
        connection.send(bytes.subarray(from, to));
        await sleep(60);
      }
      ok(await trial.answer(connection, 'Create', `Create ${name} in three packets`));
      connection.close();
      await trial.present(name);
      return undefined;
    },
  },
  {
    name: 'Expect: 100-continue is answered',
    why: 'a client may wait for it before it sends the body',
    async run(trial) {
      const name = await trial.volume();
      const body = JSON.stringify({ Name: name });
      const head = ['POST /VolumeDriver.Get HTTP/1.1', ...dockerHeaders, 'Expect: 100-continue'];
      const connection = await trial.open();
      connection.send(`${head.join('\r\n')}\r\nContent-Length: ${String(body.length)}\r\n\r\n`);
      const until = performance.now() + 1000;
      while (connection.interim === 0 && performance.now() < until && !connection.ended) await sleep(20);
      const answer = await trial.answer(connection.send(body), 'Get', `Expect, then Get ${body}`);
      connection.close();
      must(answer.status === 417 || answer.err === '', 'it must be served, or refused with 417', answer);
      return undefined;
    },
  },
  {
    name: 'a body of 8 MiB does no harm',
    why: 'a driver that keeps all it is sent can be filled up',
    async run(trial) {
      const name = trial.name();
      trial.touched.add(name);
      const body = JSON.stringify({ Name: name, Opts: { size: 'x'.repeat(8 * 2 ** 20) } });
      const answer = await trial.post('Create', body);
      await alive(trial);
      must(answer.err !== '', 'a size of 8 MiB of x must not be taken', answer);
      await trial.absent(name);
      return answer.took;
    },
  },
];

const connectionCases: Case[] = [
  {
    name: 'a connection stays open when idle and serves again',
    why: 'Docker keeps connections without limit; what meets a closed one is repeated WITHOUT its body',
    async run(trial) {
      const { idleMs } = trial.settings;
      const connection = await trial.open();
      ok(await trial.on(connection, 'Capabilities', '{}'));
      await sleep(idleMs);
      must(!connection.ended, `the driver closed a connection that was idle for ${String(idleMs / 1000)} s`);
      ok(await trial.on(connection, 'List', '{}'));
      connection.close();
      return `idle for ${String(idleMs / 1000)} s`;
    },
  },
  {
    name: 'pipelined calls are answered in order',
    why: 'HTTP/1.1',
    async run(trial) {
      const name = await trial.volume();
      const connection = await trial.open();
      const get = request('/VolumeDriver.Get', JSON.stringify({ Name: name }));
      connection.send(Buffer.concat([capabilities, get, capabilities]));
      const answers = [];
      for (const what of ['first', 'second', 'third'])
        answers.push(ok(await trial.answer(connection, 'Get', `${what} of three pipelined calls`)));
      connection.close();
      const fields = answers.map(({ json }) => ['Capabilities', 'Volume'].find((field) => field in json));
      const inOrder = fields.join() === 'Capabilities,Volume,Capabilities';
      must(inOrder, `they came as ${fields.join()}`);
      return undefined;
    },
  },
  {
    name: 'sixty connections, idle or broken off, hold up no call',
    why: 'engines open one per call at times, and are killed with calls half sent',
    async run(trial) {
      const connections = await Promise.all(Array.from({ length: 60 }, () => trial.open()));
      for (const [index, connection] of connections.entries()) {
        if (index % 3 === 1) connection.send('POST /VolumeDriver.Create HTTP/1.1\r\nHost: \r\nContent-');
        if (index % 3 === 2) connection.send(capabilities.subarray(0, capabilities.length - 1));
      }
      await alive(trial);
      for (const connection of connections) connection.close();
      await alive(trial);
      return undefined;
    },
  },
  {
    name: 'what is no HTTP is refused',
    why: 'one bad client must not end the driver for all',
    async run(trial) {
      for (const bytes of [
        '\r\n\r\n',
        'hello driver\r\n\r\n',
        '\0\0\0\0\r\n\r\n',
        `GET ${'/'.repeat(70_000)}`,
      ]) {
        const connection = await trial.open();
        connection.send(bytes);
        await sleep(30);
        connection.close();
        await alive(trial);
      }
      return undefined;
    },
  },
];

const pathCases: Case[] = [
  {
    name: 'an unknown path is answered 404 and changes nothing',
    why: 'newer engines may ask for more; the process must go on',
    async run(trial) {
      const name = await trial.volume();
      const body = JSON.stringify({ Name: name, ID: trial.id() });
      for (const path of ['/VolumeDriver.Resize', '/VolumeDriver.', '/', '/nothing/here']) {
        const connection = await trial.open();
        connection.send(request(path, body));
        const answer = await trial.answer(connection, 'Get', `POST ${path}`);
        connection.close();
        must(answer.status >= 400, 'it must be answered with a status of 4xx or 5xx', answer);
      }
      await trial.present(name);
      return undefined;
    },
  },
  {
    name: 'another method than POST changes nothing',
    why: 'the protocol knows POST alone',
    async run(trial) {
      const [kept, never] = [await trial.volume(), trial.name()];
      trial.touched.add(never);
      for (const method of ['GET', 'PUT', 'DELETE', 'PATCH']) {
        const bodies = [
          ['Remove', { Name: kept }],
          ['Create', { Name: never, Opts: trial.settings.createOpts }],
        ] as const;
        for (const [call, body] of bodies) {
          const answer = await trial.post(call, JSON.stringify(body), { method });
          must(answer.err !== '', 'it must not be answered as success', answer);
        }
      }
      await trial.present(kept);
      await trial.absent(never);
      return undefined;
    },
  },
  {
    name: 'Plugin.Activate names VolumeDriver',
    why: 'sent to plugins that run outside the engine, with an empty body',
    async run(trial) {
      const connection = await trial.open();
      connection.send(request('/Plugin.Activate', ''));
      const answer = ok(await trial.answer(connection, 'Get', 'POST /Plugin.Activate'));
      connection.close();
      const list = answer.json['Implements'];
      must(Array.isArray(list) && list.includes('VolumeDriver'), 'Implements must have VolumeDriver', answer);
      return undefined;
    },
  },
];

const answerCases: Case[] = [
  {
    name: 'every answer is JSON, with an Err that is a string',
    why: 'anything else fails to decode, and fails the operation',
    async run(trial) {
      const name = await trial.volume();
      for (const method of ['Get', 'Path'] as const) ok(await trial.call(method, { Name: name }));
      ok(await trial.call('List'));
      ok(await trial.call('Capabilities'));
      ok(await trial.remove(name));
      for (const method of ['Get', 'Path'] as const) failed(await trial.call(method, { Name: name }));
      return undefined;
    },
  },
  {
    name: 'CreatedAt is RFC 3339, the same in Get and List, and stays',
    why: 'another string breaks the decoding of the whole List',
    async run(trial) {
      const name = await trial.volume();
      const seen = [];
      for (let round = 0; round < 3; round += 1) {
        seen.push((await trial.get(name)).CreatedAt, (await trial.listed(name))[0]?.CreatedAt);
        await sleep(round === 0 ? 1100 : 0);
        await trial.create(name);
      }
      const [first] = seen;
      // Docker leaves it out when a driver does.
      if (seen.every((value) => value === undefined)) return 'not given';
      const valid = typeof first === 'string' && rfc3339.test(first) && !Number.isNaN(Date.parse(first));
      must(valid, `CreatedAt is ${JSON.stringify(first)}`);
      const given = seen.filter((value) => value !== undefined);
      must(
        given.every((value) => value === first),
        `CreatedAt changes: ${given.map((value) => JSON.stringify(value)).join(', ')}`,
      );
      return first;
    },
  },
  {
    name: 'every CreatedAt of the List is RFC 3339',
    why: 'one bad string hides all volumes of this driver',
    async run(trial) {
      await trial.volume();
      for (const volume of await trial.list()) {
        must(typeof volume.Name === 'string', `a Name is ${JSON.stringify(volume.Name)}`);
        const at = volume.CreatedAt;
        const valid = at === undefined || (typeof at === 'string' && rfc3339.test(at));
        must(valid, `CreatedAt of ${volume.Name} is ${JSON.stringify(at)}`);
      }
      return undefined;
    },
  },
];

export const wire: Group = {
  name: 'wire',
  cases: [...headerCases, ...bodyCases, ...connectionCases, ...pathCases, ...answerCases],
};
