/** Several hosts with the product and its own etcd, formed into a cluster by the admin socket. */
import { join } from 'node:path';
import type {
  ChangingMessage,
  ClusterMessage,
  FormationMessage,
  NewTokenMessage,
} from '../../src/admin/messages.js';
import { waitFor } from './exec.js';
import type { LabHost } from './lab.js';
import { askAdmin, exchange, startProductHost } from './product.js';

/** Short, so that a test need not wait for minutes. */
export const GRACE = { MEMBER_GRACE: '8s' } as const;

export async function startHosts(
  names: readonly string[],
  settings: Readonly<Record<string, string>> = GRACE,
): Promise<LabHost[]> {
  const hosts: LabHost[] = [];
  try {
    for (const name of names) hosts.push(await startProductHost({ name }, settings));
    return hosts;
  } catch (reason) {
    await closeAll(hosts);
    throw reason;
  }
}

export async function closeAll(hosts: readonly LabHost[]): Promise<void> {
  await Promise.all(hosts.map((host) => host.close()));
}

/** Any call of the admin socket; throws with the plugin's words for a status of 400 or more. */
export async function admin<T>(host: LabHost, method: string, path: string, body?: unknown): Promise<T> {
  const [code, text] = await exchange(
    join(host.run, 'openebs/admin.sock'),
    method,
    path,
    body === undefined ? '' : JSON.stringify(body),
  );
  if (code >= 400) throw new Error(`${path}: ${String(code)} ${text}`);
  return JSON.parse(text) as T;
}

export async function clusterOf(host: LabHost): Promise<ClusterMessage> {
  return JSON.parse(await askAdmin(host, '/v1/cluster')) as ClusterMessage;
}

export async function formationOf(host: LabHost): Promise<FormationMessage> {
  const { formation } = await clusterOf(host);
  if (!formation) throw new Error(`${host.name} runs no etcd of its own`);
  return formation;
}

/** While the plugin starts anew its socket is away for a moment. */
export async function waitForFormation(
  host: LabHost,
  what: string,
  fits: (formation: FormationMessage, cluster: ClusterMessage) => boolean,
  timeoutMs = 60_000,
): Promise<FormationMessage> {
  let last = '';
  return waitFor(
    `${host.name}: ${what}`,
    async () => {
      const cluster = await clusterOf(host).catch((reason: unknown) => {
        last = String(reason);
        return null;
      });
      if (cluster) last = JSON.stringify({ etcd: cluster.etcd, formation: cluster.formation });
      return cluster?.formation && fits(cluster.formation, cluster) ? cluster.formation : false;
    },
    { timeoutMs, everyMs: 200 },
  ).catch((reason: unknown) => {
    throw new Error(`${String(reason)}\nlast seen: ${last}\n${lastWords(host)}`);
  });
}

export async function initCluster(host: LabHost, voters?: 1 | 3 | 5): Promise<string> {
  await waitFor('etcd serves', async () => (await clusterOf(host)).etcd.usable, { timeoutMs: 60_000 });
  await admin<ChangingMessage>(host, 'POST', '/v1/cluster/init', { advertise: host.address, voters });
  await waitForFormation(
    host,
    'others can join',
    ({ advertise, role }, { etcd }) => advertise === host.address && role === 'voter' && etcd.usable,
  );
  return (await admin<NewTokenMessage>(host, 'POST', '/v1/cluster/tokens', {})).token;
}

export async function joinCluster(host: LabHost, token: string): Promise<void> {
  const { cluster } = await waitFor(
    'its etcd serves, so that it is not in its first start',
    async () => {
      const now = await clusterOf(host);
      return now.etcd.usable && admin<ChangingMessage>(host, 'POST', '/v1/cluster/join', { token });
    },
    { timeoutMs: 60_000 },
  );
  await waitForFormation(
    host,
    'it has joined',
    ({ advertise }, { id, etcd }) => advertise !== null && id === cluster && etcd.usable,
  );
}

/** Waits until so many voters are well, and nothing is left to do. */
export function waitForVoters(host: LabHost, count: number, timeoutMs = 90_000): Promise<FormationMessage> {
  return waitForFormation(
    host,
    `${String(count)} voters are well`,
    ({ members, doing }) =>
      members.length === count &&
      members.every(({ role, healthy }) => role === 'voter' && healthy) &&
      doing === null,
    timeoutMs,
  );
}

/** What the plugin logged last, without stacks. */
function lastWords(host: LabHost): string {
  const told = [
    ...host
      .log()
      .matchAll(/\\"level\\":\\"(\w+)\\".*?(?:\\"message\\":\\"(.{0,200}).*?)?\\"msg\\":\\"(.{0,200}?)\\"/g),
  ];
  return told
    .slice(-12)
    .map(([, level = '', message = '', text = '']) => `${level} ${text} ${message}`)
    .join('\n');
}
