import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatAddress } from '../../src/cluster/discovery/address.js';
import { createDiscovery, type DiscoveryDeps } from '../../src/cluster/discovery/create.js';
import { createStaticDiscovery } from '../../src/cluster/discovery/listed.js';
import type { Address, Announcement } from '../../src/cluster/discovery/discovery.js';
import { parseDiscovery } from '../../src/cluster/discovery/spec.js';
import { createEngineSwarm } from '../../src/docker/swarm.js';
import { startFakeEngine } from '../fakes/engine-server.js';
import { startDnsServer } from '../support/dns-server.js';
import {
  DEFAULT_PORT,
  describeDiscovery,
  type DiscoveryWorld,
  LIMIT_MS,
  newCtx,
} from './discovery-contract.js';

const nobodyIsAsked = { silence: 'never', absence: 'never' } as const;
const somebodyIsAsked = { silence: 'fails', absence: 'fails' } as const;
const whoeverIsThere = { silence: 'none', absence: 'never' } as const;

describeDiscovery('join token', nobodyIsAsked, tokenWorld);
describeDiscovery('list', nobodyIsAsked, staticWorld);
describeDiscovery('SRV records of a real name server', somebodyIsAsked, dnsWorld);
describeDiscovery('real multicast', whoeverIsThere, multicastWorld);
describeDiscovery("Swarm's nodes, as an engine lists them", somebodyIsAsked, swarmWorld);
describeDiscovery('the example plugin, a process of its own', somebodyIsAsked, pluginWorld);

const end = () => Promise.resolve();

function create(spec: string, deps: Partial<DiscoveryDeps> = {}) {
  return createDiscovery(parseDiscovery(spec), {
    addresses: [],
    fingerprint: 'f'.repeat(64),
    defaultPort: DEFAULT_PORT,
    view: (path) => path,
    swarm: { nodes: () => Promise.reject(new Error('nobody asks Swarm here')) },
    limitMs: LIMIT_MS,
    ...deps,
  });
}

function tokenWorld(): Promise<DiscoveryWorld> {
  const addresses: string[] = [];
  const publish = (peers: readonly Address[]) => {
    addresses.splice(0, Infinity, ...peers.map(formatAddress));
    return Promise.resolve();
  };
  return Promise.resolve({
    name: 'token',
    discovery: create('token', { addresses }),
    publish,
    end,
  });
}

/** What is published is what a user would type for the next search. */
function staticWorld(): Promise<DiscoveryWorld> {
  const listing = (hosts: readonly Address[]) => createStaticDiscovery({ hosts, defaultPort: DEFAULT_PORT });
  const world = {
    name: 'static',
    discovery: listing([]),
    publish(peers: readonly Address[]) {
      world.discovery = listing(peers);
      return Promise.resolve();
    },
    end,
  };
  return Promise.resolve(world);
}

async function dnsWorld(): Promise<DiscoveryWorld> {
  const server = await startDnsServer();
  const name = '_openebs._tcp.cluster.test';
  server.records.set(name, []);
  return {
    name: `dns:${name}`,
    discovery: create('dns:cluster.test', { resolver: () => server.resolver() }),
    publish(peers) {
      const records = peers.map(({ host, port }) => ({ name: host, port, priority: 1, weight: 1 }));
      server.records.set(name, records);
      return Promise.resolve();
    },
    silence: {
      begin() {
        server.mode = 'silent';
        return Promise.resolve();
      },
      end() {
        server.mode = 'answer';
        return Promise.resolve();
      },
    },
    absence: {
      begin() {
        server.mode = { rcode: 2 };
        return Promise.resolve();
      },
      end() {
        server.mode = 'answer';
        return Promise.resolve();
      },
    },
    end: () => server.close(),
  };
}

/** Each search and each member has sockets of its own, and a group that no other test has. */
function multicastWorld(): Promise<DiscoveryWorld> {
  const spec = `multicast:239.255.${String(randomInt(256))}.${String(randomInt(256))}:${String(randomInt(20_000, 30_000))}`;
  const discovery = create(spec, { fingerprint: randomBytes(32).toString('hex') });
  let members: readonly Announcement[] = [];
  let published: readonly Address[] = [];
  const leave = async () => {
    await Promise.all(members.map((member) => member.close()));
    members = [];
  };
  const publish = async (peers: readonly Address[]) => {
    await leave();
    published = peers;
    const announce = discovery.announce?.bind(discovery);
    if (announce === undefined) throw new Error('members announce themselves');
    members = await Promise.all(peers.map((peer) => announce(newCtx(), peer)));
  };
  return Promise.resolve({
    name: spec,
    discovery,
    publish,
    silence: { begin: leave, end: () => publish(published) },
    end: leave,
  });
}

async function swarmWorld(): Promise<DiscoveryWorld> {
  const engine = await startFakeEngine();
  let nodes: readonly object[] = [];
  let isSilent = false;
  engine.handle('GET', '/nodes', (_request, response) => {
    if (!isSilent) response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(nodes));
  });
  return {
    name: 'swarm',
    discovery: create('swarm', { swarm: createEngineSwarm(engine.socketPath) }),
    publish(peers) {
      nodes = peers.map(({ host }) => ({ ID: host, Status: { State: 'ready', Addr: host } }));
      return Promise.resolve();
    },
    silence: {
      begin() {
        isSilent = true;
        return Promise.resolve();
      },
      end() {
        isSilent = false;
        return Promise.resolve();
      },
    },
    absence: { begin: () => engine.stop(), end: () => engine.listen() },
    end: () => engine.close(),
  };
}

async function pluginWorld(): Promise<DiscoveryWorld> {
  const directory = await mkdtemp(join(tmpdir(), 'discovery-plugin-'));
  const [socket, file] = [join(directory, 'peers.sock'), join(directory, 'peers')];
  let plugin: ChildProcess;
  const start = async () => {
    const program = 'test/fixtures/discovery-plugin.ts';
    plugin = spawn(process.execPath, [program, socket, file], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(plugin.stdout!, 'data');
  };
  const stop = async () => {
    if (plugin.kill('SIGKILL')) await once(plugin, 'exit');
    await rm(socket, { force: true });
  };
  const send = (signal: NodeJS.Signals) => () => {
    plugin.kill(signal);
    return Promise.resolve();
  };
  await start();
  return {
    name: 'unix:/run/peers.sock',
    discovery: create('unix:/run/peers.sock', { view: () => socket }),
    publish: (peers) => writeFile(file, peers.map((peer) => `${formatAddress(peer)}\n`).join('')),
    silence: { begin: send('SIGSTOP'), end: send('SIGCONT') },
    absence: { begin: stop, end: start },
    async end() {
      await stop();
      await rm(directory, { recursive: true });
    },
  };
}
