import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createRawServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createExternalDiscovery } from '../../../../src/cluster/discovery/external.js';
import { formatAddress } from '../../../../src/cluster/discovery/address.js';
import type { Ctx } from '../../../../src/context.js';
import { createLog } from '../../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
let directory: string;
let socketPath: string;
let server: Server | undefined;
const connections = new Set<Socket>();

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'external-discovery-'));
  socketPath = join(directory, 'plugin.sock');
});
afterEach(async () => {
  for (const connection of connections) connection.destroy();
  if (server?.listening === true) {
    server.close();
    await once(server, 'close');
  }
  server = undefined;
  await rm(directory, { recursive: true });
});

async function listen(made: Server): Promise<void> {
  server = made;
  made.on('connection', (connection) => {
    connections.add(connection);
    connection.on('error', () => undefined).on('close', () => connections.delete(connection));
  });
  made.listen(socketPath);
  await once(made, 'listening');
}

/** A plugin that is activated, and then does this. */
async function serve(
  find: RequestListener,
  activated = '{"Implements":["VolumeDriver","openebs.discovery"]}',
) {
  await listen(
    createServer((request, response) => {
      if (request.url === '/Plugin.Activate') response.end(activated);
      else find(request, response);
    }),
  );
}
const saying = (body: string, status = 200): RequestListener => {
  return (_request, response) => response.writeHead(status).end(body);
};

const find = async (limitMs = 300): Promise<string[]> => {
  const discovery = createExternalDiscovery({
    path: '/run/plugin.sock',
    socketPath,
    fingerprint: 'ab:cd',
    defaultPort: 23_792,
    limitMs,
  });
  return (await discovery.find(ctx)).map(formatAddress);
};
const fails = (said: string) => ({
  code: 'unavailable',
  message: expect.stringMatching(
    new RegExp(`^discovery unix:/run/plugin\\.sock: .*${said.replaceAll(/[.[\]{}()*+?]/g, '\\$&')}`),
  ) as string,
});

describe('discovery out of process', () => {
  it('is told the cluster and how many, in the way of plugins', async () => {
    const asked: unknown[] = [];
    await serve((request, response) => {
      let body = '';
      request.on('data', (part: Buffer) => (body += part.toString()));
      request.on('end', () => {
        asked.push([request.method, request.url, request.headers['content-type'], JSON.parse(body)]);
        response.end(
          '{"Peers":[{"Host":"10.0.0.1"},{"Host":"FD00::0:1","Port":4000},{"Host":"a.org","Port":null}],"Err":""}',
        );
      });
    });
    expect(await find()).toEqual(['10.0.0.1:23792', '[fd00::1]:4000', 'a.org:23792']);
    expect(asked).toEqual([['POST', '/Discovery.Find', 'application/json', { Cluster: 'ab:cd', Limit: 64 }]]);
  });

  it.each([
    [
      'is no discovery',
      '{"Implements":["VolumeDriver"]}',
      'is no openebs.discovery: asked what it implements, it says',
    ],
    ['says nothing of itself', '{}', 'is no openebs.discovery'],
    ['says null of itself', 'null', 'is no openebs.discovery'],
    ['says a text of itself', '{"Implements":"openebs.discovery"}', 'is no openebs.discovery'],
    ['is no plugin', '<html>', 'it answers /Plugin.Activate with what is no JSON: "<html>"'],
  ])('that %s is not asked for peers', async (_what, activated, said) => {
    let calls = 0;
    await serve((_request, response) => {
      calls += 1;
      response.end('{"Peers":[]}');
    }, activated);
    await expect(find()).rejects.toMatchObject(fails(said));
    expect(calls).toBe(0);
  });

  it.each([
    ['no JSON', 'hosts: none', 'with what is no JSON: "hosts: none"'],
    ['half of it', '{"Peers":[{"Host":"10.0', 'with what is no JSON'],
    ['nothing', '', 'with what is no JSON: ""'],
    ['null', 'null', 'with something else than {"Peers":[{"Host":"..."}]}'],
    ['a list', '[]', 'with something else'],
    ['no peers', '{"peers":[]}', '(Peers '],
    ['a peer without a host', '{"Peers":[{"Host":"a"},{"Port":1}]}', '(Peers.1.Host '],
    ['a host that is none', '{"Peers":[{"Host":"0.0.0.0"}]}', '(Peers.0.Host is neither'],
    ['a host that breaks out', '{"Peers":[{"Host":"a\\r\\nb"}]}', '(Peers.0.Host is neither'],
    ['a port that is none', '{"Peers":[{"Host":"a","Port":65536}]}', '(Peers.0.Port is no port'],
    ['a port with a fraction', '{"Peers":[{"Host":"a","Port":1.5}]}', '(Peers.0.Port is no port'],
    ['a port in words', '{"Peers":[{"Host":"a","Port":"1"}]}', '(Peers.0.Port '],
    ['what is nested deeply', `${'['.repeat(30_000)}${']'.repeat(30_000)}`, 'with something else'],
  ])('that answers %s costs a clear error', async (_what, body, said) => {
    await serve(saying(body));
    await expect(find(2_000)).rejects.toMatchObject(fails(said));
  });

  it('that refuses is quoted, on one line', async () => {
    await serve(saying('{"Err":"the registry\\nis away"}'));
    await expect(find()).rejects.toMatchObject(
      fails('it refuses /Discovery.Find: "the registry\\\\u{a}is away"'),
    );
  });

  it('that answers with another status is quoted', async () => {
    await serve(saying('{"Peers":[{"Host":"a"}]}', 500));
    await expect(find()).rejects.toMatchObject(fails('it answers /Discovery.Find with status 500: '));
    await expect(find()).rejects.toMatchObject(fails('status 500'));
  });

  it('that leads elsewhere is not followed', async () => {
    await serve((_request, response) =>
      response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end('{}'),
    );
    await expect(find()).rejects.toMatchObject(fails('with status 302'));
  });

  it('that never stops talking is cut off', async () => {
    await serve((_request, response) => {
      const more = () => {
        while (response.write(' '.repeat(16_384)));
      };
      response.on('drain', more);
      more();
    });
    await expect(find(10_000)).rejects.toMatchObject(
      fails('it answers /Discovery.Find with more than 65536 bytes'),
    );
    await expect.poll(() => connections.size).toBe(0);
  });

  it('that trickles, or stands still, is left', async () => {
    await serve((_request, response) => {
      const timer = setInterval(() => response.write(' '), 10);
      response.on('close', () => {
        clearInterval(timer);
      });
    });
    await expect(find()).rejects.toMatchObject(fails('no answer within 0.3 s'));
    await expect.poll(() => connections.size).toBe(0);
  });

  it('that accepts and says nothing, not even who it is, is left', async () => {
    await listen(createRawServer((socket) => socket.resume()));
    await expect(find()).rejects.toMatchObject(fails('no answer within 0.3 s'));
    await expect.poll(() => connections.size).toBe(0);
  });

  it('that says something before headers without an end is left', async () => {
    await listen(
      createRawServer((socket) => {
        const timer = setInterval(() => socket.write('HTTP/1.1 100 Continue\r\n\r\n'), 5);
        socket.on('close', () => {
          clearInterval(timer);
        });
      }),
    );
    await expect(find()).rejects.toMatchObject(fails('no answer within 0.3 s'));
  });

  it.each([
    ['speaks no HTTP', 'SSH-2.0-OpenSSH\r\n'],
    ['sends headers without an end', `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(20_000)}`],
    ['ends in the middle', 'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{'],
    ['ends at once', ''],
  ])('that %s costs a clear error', async (_what, bytes) => {
    await listen(
      createRawServer((socket) => {
        socket.once('data', () => socket.end(bytes));
      }),
    );
    await expect(find(5_000)).rejects.toMatchObject(fails('it does not answer as a plugin does ('));
  });

  it('that is not there is told with what to do', async () => {
    await expect(find()).rejects.toMatchObject(fails('its socket does not exist: start the plugin'));
    await writeFile(socketPath, '');
    await expect(find()).rejects.toMatchObject(fails('nobody listens at its socket: start the plugin'));
  });
});
