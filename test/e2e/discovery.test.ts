import { resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createDiscovery } from '../../src/cluster/discovery/create.js';
import { clusterDigest, encodeQuery } from '../../src/cluster/discovery/datagram.js';
import { formatAddress } from '../../src/cluster/discovery/address.js';
import { parseDiscovery } from '../../src/cluster/discovery/spec.js';
import { createEngineSwarm } from '../../src/docker/swarm.js';
import { createLog } from '../../src/log.js';
import { waitFor } from '../support/exec.js';
import { type LabHost, startLabHost } from '../support/lab.js';

let one: LabHost;
let two: LabHost;

beforeAll(async () => {
  one = await startLabHost({ name: 'one', images: false });
  two = await startLabHost({ name: 'two', images: false });
});
afterAll(async () => {
  await one.close();
  await two.close();
});

const ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
const port = 23_792;
const bySwarm = async ({ socket }: LabHost) => {
  const discovery = createDiscovery(parseDiscovery('swarm'), {
    addresses: [],
    fingerprint: '',
    defaultPort: port,
    view: (path) => path,
    swarm: createEngineSwarm(socket),
  });
  return (await discovery.find(ctx)).map(formatAddress).toSorted();
};
const at = ({ address }: LabHost) => `${address}:${String(port)}`;

it('finds the nodes of a real Swarm from a manager, and its managers from a worker', async () => {
  await expect(bySwarm(one)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/^discovery swarm: .*not part of a Swarm/) as string,
  });
  await one.ok('swarm', 'init', '--advertise-addr', one.address);
  // Of this one a leader says that its address is 0.0.0.0, or its own.
  expect(await bySwarm(one)).toEqual([at(one)]);
  const token = await one.ok('swarm', 'join-token', '-q', 'worker');
  await two.ok('swarm', 'join', '--token', token, '--advertise-addr', two.address, `${one.address}:2377`);
  await waitFor('the manager sees the worker', async () => (await bySwarm(one)).length === 2);
  expect(await bySwarm(one)).toEqual([at(one), at(two)]);
  expect(await bySwarm(two)).toEqual([at(one)]);
  await two.ok('swarm', 'leave');
  await expect(bySwarm(two)).rejects.toThrow(/not part of a Swarm/);
  await one.ok('swarm', 'leave', '--force');
});

const program = resolve('test/support/multicast-member.ts');
const group = ['239.255.79.70', '23801', 'ab:cd'];
const queryHex = encodeQuery({ nonce: Buffer.alloc(16), cluster: clusterDigest('ab:cd') }).toString('hex');
const node = [process.execPath, '--import', import.meta.resolve('tsx'), program];
const [command = '', ...args] = node;
const byMulticast = async (host: LabHost, fingerprint = 'ab:cd') => {
  const script = [...node, 'find', ...group.slice(0, 2), fingerprint].join(' ');
  return (await host.shellOk(script)).split('\n').toSorted();
};

it('finds members by multicast on other hosts, as long as they are to be reached', async () => {
  const address = `${one.address}/24 dev eth0`;
  // A member that starts before its network is there.
  await one.shellOk(`ip addr del ${address}`);
  const members = [one, two].map((host) =>
    host.spawn(command, [...args, 'announce', ...group, host.address]),
  );
  for (const member of members)
    await waitFor('it is announced', () => member.output().includes('announced'), { timeoutMs: 30_000 });
  expect(await byMulticast(two)).toEqual([at(two)]);
  expect(await byMulticast(one)).toEqual([at(one)]);
  // There is no route to anywhere yet.
  await one.shellOk(`ip addr add ${address}`);
  await waitFor('it is found', async () => (await byMulticast(two)).length === 2);
  expect(await byMulticast(one)).toEqual([at(one), at(two)]);
  expect(await byMulticast(two, 'ab:ce')).toEqual(['']);

  // Whom a firewall keeps from being asked is not told as nobody.
  const wall = 'OUTPUT -o eth0 -p udp --dport 23801 -j DROP';
  await two.shellOk(`iptables -A ${wall}`);
  expect(await byMulticast(two)).toEqual([at(two)]);
  await expect(byMulticast(two, 'ab:ce')).rejects.toThrow(/cannot send to that group \(.*EPERM.*static:/);
  await two.shellOk(`iptables -D ${wall}`);

  await one.cut();
  expect(await byMulticast(two)).toEqual([at(two)]);
  await one.mend();
  await waitFor('it is found again', async () => (await byMulticast(two)).length === 2);

  // Members do not answer who is no neighbour, nor what has no answer, which does them no harm.
  await one.shellOk('ip route add 10.77.0.0/24 dev eth0');
  await two.shellOk(`ip addr del ${two.address}/24 dev eth0; ip addr add 10.77.0.2/24 dev eth0`);
  expect(await byMulticast(two)).toEqual([at(two)]);
  await two.shellOk(`ip addr del 10.77.0.2/24 dev eth0; ip addr add ${two.address}/24 dev eth0`);
  await two.shellOk(fromPortZero(two.address));
  await waitFor('it is found again', async () => (await byMulticast(two)).length === 2);
  for (const member of members) await member.stop();
  expect(await byMulticast(two)).toEqual(['']);
});

/** A query that no socket could send: from the port 0. */
const fromPortZero = (address: string) => `perl -MSocket -e '
  socket(my $raw, AF_INET, SOCK_RAW, 17) or die $!;
  setsockopt($raw, 0, 32, inet_aton($ARGV[0])) or die $!;
  my $query = pack("H*", $ARGV[1]);
  my $datagram = pack("nnnn", 0, $ARGV[2], 8 + length $query, 0) . $query;
  send($raw, $datagram, 0, pack_sockaddr_in(0, inet_aton($ARGV[3]))) or die $!;
' ${address} ${queryHex} ${group[1] ?? ''} ${group[0] ?? ''}`;
