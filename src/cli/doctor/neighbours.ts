/** The other hosts of the cluster, as the plugin reaches them: it has the certificates. */
import type { NeighbourMessage, NeighboursMessage } from '../../admin/messages.js';
import type { AdminClient } from '../admin-client.js';
import { count, few } from '../table.js';
import { type Check, fail, ok, warn } from './check.js';

/** None for a host that is alone, and where the plugin cannot tell, which another check says. */
export async function lookAtNeighbours(admin: Pick<AdminClient, 'get'>): Promise<Check[]> {
  const shape = { neighbours: 'array' } as const;
  return admin.get<NeighboursMessage>('/v1/cluster/neighbours', {}, { shape }).then(
    ({ neighbours }) => judgeNeighbours(neighbours),
    () => [],
  );
}

export function judgeNeighbours(neighbours: readonly NeighbourMessage[]): Check[] {
  if (neighbours.length === 0) return [];
  return [...judgeReach(neighbours), ...judgeClocks(neighbours)];
}

const REACH = 'other hosts';

function judgeReach(neighbours: readonly NeighbourMessage[]): Check[] {
  const troubled = neighbours.flatMap((one) => judgeHost(one) ?? []);
  if (troubled.length > 0) return troubled;
  return [
    ok(
      REACH,
      `${count(neighbours.length, 'host answers', 'hosts answer')} at the ports of etcd and of joining`,
    ),
  ];
}

function judgeHost({ hostname, address, alive, ports }: NeighbourMessage): Check | null {
  const silent = ports.filter(({ problem }) => problem !== null);
  if (silent.length === 0) return null;
  const what = silent.map(({ port, purpose, problem }) => `${String(port)} (${purpose}): ${problem ?? ''}`);
  const found = `${hostname}, ${address}: ${few(what)}`;
  const todo =
    `let TCP ${few(silent.map(({ port }) => String(port)))} pass from this host to ${address}: the firewalls of both hosts, and ` +
    'of the network between';
  if (!alive && silent.length === ports.length)
    return warn(
      REACH,
      found,
      'that host is away, or cannot be reached from here',
      `bring it back; if it runs, ${todo}`,
    );
  return fail(REACH, found, 'etcd cannot keep its members together, or hosts cannot join there', todo);
}

/** From then on etcd itself warns. */
const MOST_MS = 1000;
const CLOCKS = 'clocks';

function judgeClocks(neighbours: readonly NeighbourMessage[]): Check[] {
  const told = neighbours.flatMap(({ hostname, clock }) => (clock === null ? [] : [{ hostname, ...clock }]));
  if (told.length === 0) return [];
  const wrong = told.filter(({ aheadMs, withinMs }) => Math.abs(aheadMs) - withinMs > MOST_MS);
  if (wrong.length === 0) {
    const most = Math.max(...told.map(({ aheadMs, withinMs }) => Math.abs(aheadMs) + withinMs));
    return [ok(CLOCKS, `${count(told.length, 'other host')} within ${seconds(most)} of this one`)];
  }
  const found = wrong.map(
    ({ hostname, aheadMs }) =>
      `${hostname} is ${seconds(Math.abs(aheadMs))} ${aheadMs > 0 ? 'ahead' : 'behind'}`,
  );
  const means = 'times of events, tokens and backups differ from host to host, and etcd warns; volumes go on';
  return [
    warn(
      CLOCKS,
      few(found),
      means,
      'let NTP set the clocks of all hosts (chrony, systemd-timesyncd), this one too',
    ),
  ];
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
