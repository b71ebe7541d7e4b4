/** `docker openebs cluster ...` against a socket that plays the plugin: it starts anew, refuses, hangs, lies. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClusterMessage, FormationMessage } from '../../src/admin/messages.js';
import type { Input } from '../../src/cli/command.js';
import { runProgram } from '../../src/cli/run.js';
import { type AdminSocket, refusal, type Route, startAdminSocket } from '../fakes/admin-socket.js';

let folder: string;
let plugin: AdminSocket;

const ADDRESS = '10.0.0.1';
const listed = {
  id: 't1',
  createdAt: '2026-01-02T03:04:05Z',
  expiresAt: '2026-01-02T04:04:05Z',
  joined: 0,
};
const token = { ...listed, token: 'SECRET' };
const formation: FormationMessage = {
  advertise: ADDRESS,
  joinAt: `${ADDRESS}:23792`,
  role: 'voter',
  voters: 3,
  members: [],
  doing: null,
  manager: 'ID-A',
  problem: null,
  alarms: [],
  backup: null,
};
const alone: FormationMessage = { ...formation, advertise: null, joinAt: null, role: 'alone', manager: null };

function clusterWith(more: Partial<ClusterMessage>, problem: string | null = null): ClusterMessage {
  const etcd = {
    own: true,
    endpoints: ['https://10.0.0.1:23790'],
    usable: problem === null,
    problem,
    answerMs: problem === null ? 3 : null,
  };
  return { id: 'c1', createdAt: '2026-01-01T00:00:00Z', node: 'ID-A', etcd, formation, ...more };
}

const answer =
  (body: unknown, status = 200): Route =>
  () => ({ status, body });

/** One answer after the other, the last one for ever. */
function inTurn(...bodies: readonly unknown[]): Route {
  let at = 0;
  return () => ({ body: bodies[Math.min(at++, bodies.length - 1)] });
}

/** Answers, and one look more, and is away then; what it answers when it is back is `then`. */
function startsAnew(body: unknown, then: AdminSocket['routes'], awayMs = 600): Route {
  return () => {
    const before = plugin.routes['GET /v1/cluster'];
    const lastLook: Route = (request) => {
      plugin.routes = { ...plugin.routes, 'GET /v1/cluster': before ?? answer({}) };
      setTimeout(() => {
        void plugin.goAway().then(() => {
          plugin.routes = { ...plugin.routes, ...then };
          setTimeout(() => void plugin.comeBack(), awayMs).unref();
        });
      }, 20);
      return before?.(request) ?? { body: {} };
    };
    plugin.routes = { ...plugin.routes, 'GET /v1/cluster': lastLook };
    return { body };
  };
}

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const like = (expression: RegExp): unknown => expect.stringMatching(expression);
const silent: Input = { isTerminal: false, readLine: () => Promise.resolve(null) };
const typing = (line: string | null, isTerminal = true): Input => ({
  isTerminal,
  readLine: () => Promise.resolve(line),
});

async function runWith(input: Input, ...args: string[]): Promise<Ran> {
  let [out, err] = ['', ''];
  const code = await runProgram({
    args: ['openebs', ...args, '--socket', plugin.path],
    env: { HOME: folder },
    version: '0.1.0',
    isRoot: true,
    input,
    print: (text) => (out += text),
    complain: (text) => (err += text),
  });
  return { code, out, err };
}

const run = (...args: string[]): Promise<Ran> => runWith(silent, ...args);

async function json(...args: string[]): Promise<unknown> {
  return JSON.parse((await run(...args, '--format', 'json')).out) as unknown;
}

/** What was asked for but looks. */
const changes = () => plugin.requests.filter(([call]) => !call.startsWith('GET '));
const looks = () => plugin.requests.filter(([call]) => call === 'GET /v1/cluster').length;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'cluster-cli-'));
  plugin = await startAdminSocket(path.join(folder, 'admin.sock'));
});

afterEach(async () => {
  await plugin.close();
  await rm(folder, { recursive: true, force: true });
});

describe('docker openebs cluster init', () => {
  const tokens = { 'POST /v1/cluster/tokens': answer(token) };

  it('waits while the plugin starts anew, and prints the line that others join with', async () => {
    plugin.routes = {
      ...tokens,
      'GET /v1/cluster': answer(clusterWith({ formation: alone })),
      'POST /v1/cluster/init': startsAnew(
        { cluster: 'c1', advertise: ADDRESS },
        {
          'GET /v1/cluster': inTurn(
            clusterWith({}, 'etcd does not answer since 1 s'),
            clusterWith({}, 'etcd does not answer since 2 s'),
            clusterWith({}),
          ),
        },
      ),
    };
    const { code, out, err } = await run('cluster', 'init', '--advertise', ADDRESS, '--voters', '5');
    expect([code, out]).toEqual([0, 'docker openebs cluster join SECRET\n']);
    expect(err.split('\n')).toEqual([
      `the plugin does not serve at ${ADDRESS} yet`,
      `waiting for the plugin: nobody answers at ${plugin.path}`,
      'etcd does not serve yet: etcd does not answer since 1 s',
      'etcd serves at https://10.0.0.1:23790',
      'until 2026-01-02T04:04:05Z other hosts join with this line, each of them (the token is secret, its ID t1):',
      '',
    ]);
    expect(changes()).toEqual([
      ['POST /v1/cluster/init', { advertise: ADDRESS, voters: 5 }],
      ['POST /v1/cluster/tokens', {}],
    ]);
  });

  it('again makes another token, and no more', async () => {
    plugin.routes = {
      ...tokens,
      'GET /v1/cluster': answer(clusterWith({})),
      'POST /v1/cluster/init': answer({ cluster: 'c1', advertise: ADDRESS }),
    };
    expect(await json('cluster', 'init', '--advertise', ADDRESS)).toEqual({
      cluster: 'c1',
      advertise: ADDRESS,
      token: 'SECRET',
      expiresAt: '2026-01-02T04:04:05Z',
    });
    expect(looks()).toBe(1);
  });

  it('is done though the answer was lost', async () => {
    plugin.routes = {
      ...tokens,
      'GET /v1/cluster': inTurn(clusterWith({ formation: alone }), clusterWith({})),
      'POST /v1/cluster/init': () => 'drop',
    };
    const { code, out, err } = await run('cluster', 'init', '--advertise', ADDRESS);
    expect([code, out]).toEqual([0, 'docker openebs cluster join SECRET\n']);
    expect(err).toMatch(/^the connection ended before the answer: looking/);
  });

  it('waits for the change that was decided, not for what looks like it', async () => {
    plugin.routes = {
      ...tokens,
      'GET /v1/cluster': inTurn(
        clusterWith({ formation: { ...formation, change: null } }),
        clusterWith({ formation: { ...formation, change: 'x1' } }),
      ),
      'POST /v1/cluster/init': answer({ cluster: 'c1', advertise: ADDRESS, change: 'x1' }),
    };
    const { code, err } = await run('cluster', 'init', '--advertise', ADDRESS);
    expect([code, looks()]).toEqual([0, 2]);
    expect(err).toMatch(/^the plugin starts anew\n/);
  });

  it('says what is missing when the time is over', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({}, 'port 23790 is taken')),
      'POST /v1/cluster/init': answer({ cluster: 'c1', advertise: ADDRESS }),
    };
    const { code, out, err } = await run('cluster', 'init', '--advertise', ADDRESS, '--timeout', '600ms');
    expect([code, out]).toEqual([1, '']);
    expect(err).toBe(
      'etcd does not serve yet: port 23790 is taken\n' +
        'not done within 600ms. The plugin goes on with it by itself: docker openebs cluster status shows how far it is. ' +
        'Last: etcd does not serve yet: port 23790 is taken\n',
    );
  });

  it('says why when the plugin does not come back', async () => {
    plugin.routes = { 'POST /v1/cluster/init': startsAnew({ cluster: 'c1' }, {}, 3_600_000) };
    const { code, err } = await run('cluster', 'init', '--advertise', ADDRESS, '--timeout', '600ms');
    expect(code).toBe(3);
    expect(err).toMatch(
      /not done within 600ms\. The plugin goes on .*\. nobody listens at .*: correct --socket/,
    );
  });

  it('gives up a plugin that answers nothing', async () => {
    plugin.routes = {
      'GET /v1/cluster': () => 'hang',
      'GET /v1/health': answer({}),
      'POST /v1/cluster/init': answer({ cluster: 'c1' }),
    };
    const { code, err } = await run('cluster', 'init', '--advertise', ADDRESS, '--timeout', '500ms');
    expect(code).toBe(1);
    expect(err).toMatch(/not done within 500ms.* Last: waiting for the plugin: nobody answers at /);
  });

  it('tells that the host is ready though there is no token', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({})),
      'POST /v1/cluster/init': answer({ cluster: 'c1', advertise: ADDRESS }),
      'POST /v1/cluster/tokens': () => refusal('unavailable', 'etcd has no leader', 503),
    };
    const { code, err } = await run('cluster', 'init', '--advertise', ADDRESS);
    expect(code).toBe(1);
    expect(err).toMatch(
      /can join this one, but there is no token yet: etcd has no leader.*cluster token create\n$/,
    );
  });

  it.each([
    [['--advertise', 'host'], 2, /^--advertise is "host": give the IP address/],
    [['--advertise', ADDRESS, '--voters', '2'], 2, /^--voters is "2": give 1 or 3 or 5/],
    [['--advertise', ADDRESS, '--timeout', '5'], 2, /^--timeout is "5": give a number with a unit/],
    [[], 2, /^cluster init needs --advertise ADDR /],
  ])('%j is refused before anything is asked', async (options, code, message) => {
    const ran = await run('cluster', 'init', ...options);
    expect(ran).toEqual({ code, out: '', err: like(message) });
    expect(plugin.requests).toEqual([]);
  });

  it.each([
    [
      refusal('invalid_argument', '10.0.0.1 is no address of this host', 400),
      2,
      '10.0.0.1 is no address of this host',
    ],
    [refusal('conflict', 'it has joined c2 already'), 1, 'it has joined c2 already'],
    [refusal('not_found', 'there is no POST /v1/cluster/init', 404), 1, 'is older than this program'],
    [{ body: '<html>' }, 3, 'is not the plugin'],
    [{ status: 500, body: 'null' }, 3, 'is not the plugin'],
    [{ status: 500, body: '{"error":{"code":"internal"}}' }, 3, 'is not the plugin'],
  ] as const)('ends with what the plugin says: %j', async (scripted, code, message) => {
    plugin.routes = { 'POST /v1/cluster/init': () => scripted };
    const ran = await run('cluster', 'init', '--advertise', ADDRESS);
    expect(ran).toEqual({ code, out: '', err: expect.stringContaining(message) as unknown });
  });

  it.each(['null', '[]', '7', '{}', '{"etcd":{}}', '{"etcd":null,"formation":3}', '<html>'])(
    'waits for a plugin that answers %s to looks',
    async (text) => {
      plugin.routes = {
        'GET /v1/cluster': () => ({ body: text }),
        'GET /v1/health': answer({}),
        'POST /v1/cluster/init': answer(null),
      };
      const { code, out, err } = await run('cluster', 'init', '--advertise', ADDRESS, '--timeout', '300ms');
      expect([code, out]).toEqual([1, '']);
      expect(err).toMatch(/not done within 300ms/);
    },
  );

  it('takes no token that is none', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({})),
      'POST /v1/cluster/init': answer({}),
      'POST /v1/cluster/tokens': answer({ ...token, token: 7 }),
    };
    const { code, out, err } = await run('cluster', 'init', '--advertise', ADDRESS);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(
      /answer to POST \/v1\/cluster\/tokens has no token that is understood: .*another version/,
    );
  });
});

describe('docker openebs cluster join', () => {
  const joined = clusterWith({ id: 'c2', formation: { ...formation, role: 'learner' } });

  function joins(then: AdminSocket['routes']): void {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({ formation: alone })),
      'POST /v1/cluster/join': startsAnew({ cluster: 'c2', advertise: '10.0.0.2' }, then),
    };
  }

  it('waits until the host is in the cluster, and tells what it is there', async () => {
    joins({
      'GET /v1/cluster': inTurn(clusterWith({ id: null }), clusterWith({ id: 'c2' }, 'no leader'), joined),
    });
    const options = ['--advertise', '10.0.0.2', '--discovery', 'static:10.0.0.1'];
    const { code, out, err } = await run('cluster', 'join', 'SECRET', ...options);
    expect([code, out]).toEqual([0, like(/^node ID-A is in cluster c2; learner: it runs /)]);
    expect(err).toBe(
      'this host has not joined c2 yet\n' +
        `waiting for the plugin: nobody answers at ${plugin.path}\n` +
        'etcd does not serve yet: no leader\n' +
        'etcd serves at https://10.0.0.1:23790\n',
    );
    expect(changes()).toEqual([
      ['POST /v1/cluster/join', { token: 'SECRET', advertise: '10.0.0.2', discovery: 'static:10.0.0.1' }],
    ]);
  });

  it('takes the token from the input', async () => {
    joins({ 'GET /v1/cluster': answer(joined) });
    const { code, out } = await runWith(typing('SECRET', false), 'cluster', 'join', '-', '--format', 'json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual({ cluster: 'c2', node: 'ID-A', advertise: ADDRESS, role: 'learner' });
    expect(changes()).toEqual([['POST /v1/cluster/join', { token: 'SECRET' }]]);
    expect(await run('cluster', 'join', '-')).toMatchObject({ code: 2, err: like(/no token on the input/) });
  });

  it('asks a person for it', async () => {
    joins({ 'GET /v1/cluster': answer(joined) });
    expect((await runWith(typing('SECRET'), 'cluster', 'join', '-')).err).toMatch(/^token: /);
  });

  it('is done though the answer was lost', async () => {
    const before = clusterWith({ id: 'c1', formation: alone });
    plugin.routes = {
      'GET /v1/cluster': inTurn(before, before, joined),
      'POST /v1/cluster/join': () => 'drop',
    };
    expect(await run('cluster', 'join', 'SECRET')).toMatchObject({
      code: 0,
      out: like(/is in cluster c2; learner/),
      err: like(/this host has not joined the cluster yet\n/),
    });
  });

  it('is not taken for done where the host was in a cluster before', async () => {
    plugin.routes = { 'GET /v1/cluster': answer(clusterWith({})), 'POST /v1/cluster/join': () => 'drop' };
    const { code, out } = await run('cluster', 'join', 'SECRET', '--timeout', '300ms');
    expect([code, out]).toEqual([1, '']);
  });

  it('says what hinders it', async () => {
    const problem = 'the token has expired';
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({ formation: { ...alone, problem } })),
      'POST /v1/cluster/join': answer({ cluster: 'c2', advertise: null }),
    };
    const { code, err } = await run('cluster', 'join', 'SECRET', '--timeout', '300ms');
    expect(code).toBe(1);
    expect(err).toMatch(
      /not done within 300ms.*Last: this host has not joined c2 yet: the token has expired\n$/,
    );
  });

  it('tells a role that it does not know', async () => {
    joins({ 'GET /v1/cluster': answer({ ...joined, formation: { ...formation, role: 'toString' } }) });
    expect((await run('cluster', 'join', 'SECRET')).out).toBe('node ID-A is in cluster c2; toString\n');
  });
});

describe('docker openebs cluster token', () => {
  it('create prints the line, the token alone, or all for programs', async () => {
    plugin.routes = { 'POST /v1/cluster/tokens': answer(token) };
    const line = await run('cluster', 'token', 'create', '--ttl', '90m');
    expect([line.code, line.out]).toEqual([0, 'docker openebs cluster join SECRET\n']);
    expect(await run('cluster', 'token', 'create', '-q')).toEqual({ code: 0, out: 'SECRET\n', err: '' });
    expect(await json('cluster', 'token', 'create')).toEqual(token);
    expect(changes().map(([, body]) => body)).toEqual([{ ttlMs: 5_400_000 }, {}, {}]);
    expect(await run('cluster', 'token', 'create', '--ttl', 'soon')).toMatchObject({ code: 2 });
  });

  it('create says that a token may have been made when the answer was lost', async () => {
    plugin.routes = { 'POST /v1/cluster/tokens': () => 'drop' };
    expect(await run('cluster', 'token', 'create')).toMatchObject({
      code: 3,
      out: '',
      err: like(/cannot be reached at .*may be done all the same: look before you ask again\n$/),
    });
    await plugin.goAway();
    expect((await run('cluster', 'token', 'create')).err).toMatch(/^nobody listens at .*plugin there\n$/);
  });

  it('ls lists them', async () => {
    plugin.routes = { 'GET /v1/cluster/tokens': answer({ tokens: [listed] }) };
    expect((await run('cluster', 'token', 'ls')).out).toBe(
      'TOKEN   CREATED                EXPIRES                JOINED\n' +
        't1      2026-01-02T03:04:05Z   2026-01-02T04:04:05Z   0\n',
    );
    expect((await run('cluster', 'token', 'ls', '-q')).out).toBe('t1\n');
    expect(await json('cluster', 'token', 'ls')).toEqual({ tokens: [listed] });
    plugin.routes = { 'GET /v1/cluster/tokens': answer({ tokens: {} }) };
    expect(await run('cluster', 'token', 'ls')).toMatchObject({
      code: 1,
      err: like(/has no tokens that is understood/),
    });
  });

  it('revoke goes on behind one that is not there', async () => {
    plugin.routes = {
      'DELETE /v1/cluster/tokens/no': () => refusal('not_found', 'there is no token "no"', 404),
      'DELETE /v1/cluster/tokens/*': () => ({ status: 204, body: '' }),
    };
    expect(await run('cluster', 'token', 'revoke', 't1', 'no', '../x')).toEqual({
      code: 1,
      out: 't1\n../x\n',
      err: 'there is no token "no"\n',
    });
    expect(changes().map(([call]) => call)).toContain('DELETE /v1/cluster/tokens/..%2Fx');
    expect(await json('cluster', 'token', 'revoke', 't1')).toEqual({ revoked: ['t1'] });
  });
});

describe('docker openebs cluster down', () => {
  const nodes = answer({ nodes: [{ id: 'ID-B', hostname: 'b' }], problem: null });
  const ending = (...waitingFor: string[]) => ({ cluster: 'c1', purge: false, waitingFor });
  const DOWN = 'POST /v1/cluster/down';

  /** Answers these in turn, and is away for good after the last. */
  function goesDown(...bodies: readonly unknown[]): Route {
    let at = 0;
    return () => {
      const body = bodies[Math.min(at++, bodies.length - 1)];
      if (at === bodies.length) setTimeout(() => void plugin.goAway(), 20);
      return { body };
    };
  }

  it('tells who is missing, and ends when the plugin has gone', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({})),
      'GET /v1/nodes': nodes,
      [DOWN]: goesDown(ending('ID-A', 'ID-B'), ending('ID-B'), ending()),
    };
    const { code, out, err } = await run('cluster', 'down');
    expect([code, out]).toEqual([
      0,
      like(/^cluster c1 is down: .* all data is kept\. "docker plugin enable/),
    ]);
    expect(err).toBe(
      'waiting for b\nall hosts have stopped serving volumes; etcd is stopped, and the plugin disabled\n',
    );
    expect(changes().every(([call, body]) => call === DOWN && JSON.stringify(body) === '{}')).toBe(true);
  });

  it('a plugin that goes while hosts are missing has not ended', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({})),
      'GET /v1/nodes': nodes,
      [DOWN]: goesDown(ending('ID-B'), ending('ID-B')),
    };
    const { code, out, err } = await run('cluster', 'down', '--timeout', '2s');
    expect([code, out]).toEqual([3, '']);
    expect(err).toMatch(/not done within 2 ?s/);
  });

  it('what is refused is told at once', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({})),
      'GET /v1/nodes': nodes,
      [DOWN]: () => refusal('in_use', 'containers use 1 volume(s): db'),
    };
    expect(await run('cluster', 'down', '--force')).toMatchObject({ code: 1, err: like(/containers use 1/) });
    expect(changes()).toEqual([[DOWN, { force: true }]]);
  });

  it.each([
    [typing('c2'), [], 2],
    [silent, [], 2],
    [silent, ['--confirm', 'c2'], 2],
  ] as const)('nothing is purged without the ID: %j %j', async (input, options, code) => {
    plugin.routes = { 'GET /v1/cluster': answer(clusterWith({})), 'GET /v1/nodes': nodes };
    expect(await runWith(input, 'cluster', 'down', '--purge', ...options)).toMatchObject({ code, out: '' });
    expect(changes()).toEqual([]);
  });

  it('purges with it', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({})),
      'GET /v1/nodes': nodes,
      [DOWN]: goesDown({ ...ending(), purge: true }),
    };
    const { code, out } = await runWith(typing('c1'), 'cluster', 'down', '--purge');
    expect([code, out]).toEqual([0, like(/no data is left/)]);
    expect(changes()[0]).toEqual([DOWN, { purge: true, confirm: 'c1' }]);
  });
});

describe('docker openebs cluster recover, restore', () => {
  const backup = {
    file: '/var/lib/openebs/backups/1.json',
    createdAt: '2026-01-02T03:04:05Z',
    cluster: 'c1',
    keys: 7,
    bytes: 2048,
    revision: 12,
  };
  const backups = answer({ backups: [backup] });

  it('recover waits until the plugin has started anew, whatever it looks like before', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({})),
      'POST /v1/cluster/recover': startsAnew({ cluster: 'c1', advertise: ADDRESS }, {}),
    };
    const { code, out, err } = await run('cluster', 'recover', '--confirm', 'c1');
    expect([code, out]).toEqual([0, like(/^node ID-A is in cluster c1; voter: /)]);
    expect(err).toBe(
      'the plugin has not started anew yet\n' +
        `waiting for the plugin: nobody answers at ${plugin.path}\n` +
        'etcd serves at https://10.0.0.1:23790\n',
    );
    expect(changes()).toEqual([['POST /v1/cluster/recover', { confirm: 'c1' }]]);
  });

  it('recover asks a person to type the ID', async () => {
    plugin.routes = {
      'GET /v1/cluster': inTurn(
        clusterWith({}, 'no leader'),
        clusterWith({}, 'no leader'),
        clusterWith({ formation: { ...formation, change: 'x' } }),
      ),
      'POST /v1/cluster/recover': answer({ cluster: 'c1', advertise: ADDRESS, change: 'x' }),
    };
    const { code, err } = await runWith(typing('c1'), 'cluster', 'recover');
    expect(code).toBe(0);
    expect(err).toMatch(/^etcd begins anew .*\nType the cluster's ID, c1, to do it: /);
    expect(changes()).toEqual([['POST /v1/cluster/recover', { confirm: 'c1' }]]);
  });

  it.each([
    [typing('c2'), [], /"c2" is not the cluster's ID, which is c1: nothing was done\n$/],
    [typing(null), [], /nothing was typed: nothing was done\n$/],
    [silent, [], /has to be confirmed: run it on a terminal, or give --confirm c1\n$/],
    [silent, ['--confirm', 'c2'], /^"c2" is not the cluster's ID/],
    // Somebody may have piped something into it.
    [typing('c1', false), [], /has to be confirmed/],
  ])('nothing is recovered or restored without it: %j %j', async (input, options, message) => {
    plugin.routes = { 'GET /v1/cluster': answer(clusterWith({})), 'GET /v1/cluster/backups': backups };
    for (const words of [['recover'], ['restore', '/x']]) {
      const ran = await runWith(input, 'cluster', ...words, ...options);
      expect(ran).toEqual({ code: 2, out: '', err: like(message) });
    }
    expect(changes()).toEqual([]);
  });

  it('restore names the backup by its whole path', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({ formation: { ...formation, change: 'x' } })),
      'POST /v1/cluster/recover': answer({ cluster: 'c1', advertise: ADDRESS, change: 'x' }),
    };
    const restored = await json('cluster', 'restore', 'folder/../1.json', '--confirm', 'c1');
    expect(restored).toEqual({ cluster: 'c1', node: 'ID-A', advertise: ADDRESS, role: 'voter' });
    const file = path.resolve('1.json');
    expect(changes()).toEqual([['POST /v1/cluster/recover', { backup: file, confirm: 'c1' }]]);
  });

  it('restore knows the cluster from the backup where the host has lost all', async () => {
    plugin.routes = {
      'GET /v1/cluster': answer(clusterWith({ id: null })),
      'GET /v1/cluster/backups': backups,
    };
    expect((await run('cluster', 'restore', backup.file)).err).toMatch(/give --confirm c1\n$/);
    expect((await run('cluster', 'restore', '/other')).err).toMatch(/give --confirm ID\n$/);
    plugin.routes = { 'GET /v1/cluster': answer(clusterWith({ id: null })) };
    expect((await run('cluster', 'restore', '/other')).err).toMatch(/give --confirm ID\n$/);
  });

  it('backup prints where it is, and lists what there is', async () => {
    plugin.routes = { 'POST /v1/cluster/backups': backups, 'GET /v1/cluster/backups': backups };
    expect(await run('cluster', 'backup')).toEqual({
      code: 0,
      out: `${backup.file}\n`,
      err: '7 keys of revision 12, 2 KiB, on this host alone:\n',
    });
    expect(await json('cluster', 'backup')).toEqual(backup);
    expect((await run('cluster', 'backup', 'ls')).out).toBe(
      'FILE                              CREATED                CLUSTER   KEYS   SIZE    REVISION\n' +
        '/var/lib/openebs/backups/1.json   2026-01-02T03:04:05Z   c1        7      2 KiB   12\n',
    );
    expect((await run('cluster', 'backup', 'ls', '-q')).out).toBe(`${backup.file}\n`);
    expect(await json('cluster', 'backup', 'ls')).toEqual({ backups: [backup] });
    plugin.routes = { 'POST /v1/cluster/backups': answer({ backups: [] }) };
    expect(await run('cluster', 'backup')).toEqual({
      code: 1,
      out: '',
      err: like(/^the plugin made no backup/),
    });
  });
});

describe('docker openebs cluster leave', () => {
  const volumes = answer({
    volumes: [
      { name: 'db', status: { node: 'ID-A' } },
      { name: 'web', status: {} },
    ],
  });
  const own = {
    'GET /v1/cluster': inTurn(
      clusterWith({ id: null, formation: alone }),
      clusterWith({ formation: alone }),
      clusterWith({ id: 'c9', formation: alone }),
    ),
  };

  it('says what it does, and waits for a cluster of its own', async () => {
    plugin.routes = {
      'GET /v1/volumes': volumes,
      'GET /v1/cluster': answer(clusterWith({})),
      'POST /v1/cluster/leave': startsAnew({ cluster: null, advertise: null }, own),
    };
    const { code, out, err } = await run('cluster', 'leave', '--force');
    expect([code, out]).toEqual([0, like(/^node ID-A is in cluster c9; alone: /)]);
    expect(err).toMatch(
      /^this host leaves the cluster c1 .*; the cluster loses 1 volume with data here: db\nthis host has not left c1 yet\n/,
    );
    expect(changes()).toEqual([['POST /v1/cluster/leave', { force: true }]]);
  });

  it('prints what is in the way', async () => {
    plugin.routes = {
      'GET /v1/volumes': volumes,
      'GET /v1/cluster': answer(clusterWith({})),
      'POST /v1/cluster/leave': () => refusal('in_use', 'volumes have their data here:\n  db'),
    };
    const { code, out, err } = await run('cluster', 'leave');
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(/which it refuses to lose without --force\nvolumes have their data here:\n {2}db\n$/);
    expect(changes()).toEqual([['POST /v1/cluster/leave', {}]]);
  });
});

describe('docker openebs: nodes and voters', () => {
  const known = {
    state: 'alive',
    since: null,
    awaySeconds: null,
    address: '10.0.0.1',
    engineVersion: '28.2.2',
    pluginVersion: '0.1.0',
    pools: {},
    labels: {},
    error: '',
  };
  const nodes = answer({
    nodes: [
      { ...known, id: 'ID-A', hostname: 'a', self: true },
      { ...known, id: 'ID/B', hostname: 'b', drained: true },
    ],
    problem: null,
  });
  const settings = answer({ labels: { rack: '7' }, drained: true });

  it('node label and drain send what changes alone', async () => {
    plugin.routes = { 'GET /v1/nodes': nodes, 'POST /v1/nodes/*': settings };
    expect(await run('node', 'label', 'b', 'rack=7', 'disk-')).toEqual({
      code: 0,
      out: 'b: rack=7; drained\n',
      err: '',
    });
    expect(await json('node', 'drain', 'ID-A')).toEqual({
      node: 'ID-A',
      labels: { rack: '7' },
      drained: true,
    });
    await run('node', 'drain', 'a', '--undo');
    expect(changes()).toEqual([
      ['POST /v1/nodes/ID%2FB/settings', { labels: { rack: '7', disk: null } }],
      ['POST /v1/nodes/ID-A/settings', { drained: true }],
      ['POST /v1/nodes/ID-A/settings', { drained: false }],
    ]);
    const unknown = await run('node', 'drain', 'c');
    expect(unknown).toEqual({ code: 1, out: '', err: like(/^there is no node "c"/) });
    expect(await run('node', 'label', 'a', 'x')).toEqual({
      code: 2,
      out: '',
      err: like(/^label "x": give /),
    });
  });

  it('node ls shows who is drained', async () => {
    plugin.routes = { 'GET /v1/nodes': nodes };
    expect((await run('node', 'ls')).out).toMatch(/\nID\/B +b +alive, drained +10/);
  });

  it('cluster remove-node removes a node by its name, or prints what is in the way', async () => {
    plugin.routes = { 'GET /v1/nodes': nodes, 'DELETE /v1/nodes/*': answer('') };
    const removed = { code: 0, out: 'b is removed from the cluster\n', err: '' };
    expect(await run('cluster', 'remove-node', 'b')).toEqual(removed);
    expect(await json('cluster', 'remove-node', 'a', '--force')).toEqual({ removed: 'ID-A' });
    expect(changes()).toEqual([['DELETE /v1/nodes/ID%2FB'], ['DELETE /v1/nodes/ID-A?force=1']]);
    plugin.routes = {
      'GET /v1/nodes': nodes,
      'DELETE /v1/nodes/*': () => refusal('conflict', 'b is alive:\n  stop it first'),
    };
    const refused = { code: 1, out: '', err: 'b is alive:\n  stop it first\n' };
    expect(await run('cluster', 'remove-node', 'b')).toEqual(refused);
  });

  it('cluster voters sets how many there shall be', async () => {
    plugin.routes = { 'POST /v1/cluster/voters': answer({}) };
    expect(await run('cluster', 'voters', '5')).toEqual({ code: 0, out: '5\n', err: like(/one by one/) });
    expect(await json('cluster', 'voters', '1')).toEqual({ voters: 1 });
    expect(changes().map(([, body]) => body)).toEqual([{ voters: 5 }, { voters: 1 }]);
  });
});

describe('docker openebs cluster status', () => {
  it('has the formation for programs, and null without', async () => {
    plugin.routes = {
      'GET /v1/health': answer({
        version: '0.1.0',
        node: 'ID-A',
        cluster: 'c1',
        healthy: true,
        problems: {},
      }),
      'GET /v1/nodes': answer({ nodes: [], problem: null }),
      'GET /v1/volumes': answer({ volumes: [] }),
      'GET /v1/cluster': answer(clusterWith({})),
    };
    expect(await json('cluster', 'status')).toMatchObject({ healthy: true, formation });
    const { id, createdAt, node, etcd } = clusterWith({});
    const without = { id, createdAt, node, etcd };
    plugin.routes = { ...plugin.routes, 'GET /v1/cluster': answer(without) };
    expect(await json('cluster', 'status')).toMatchObject({ healthy: true, formation: null });
  });
});
