/** Several hosts with the product that share one etcd. */
import { waitFor } from './exec.js';
import { type LabHost, type LabProcess, startLabHost } from './lab.js';
import { installPlugin, recordsOf } from './product.js';

export interface Cluster {
  /** The last one runs etcd: it is not to be cut off or switched off. */
  readonly hosts: readonly LabHost[];
  stopEtcd(): Promise<void>;
  startEtcd(): Promise<void>;
  close(): Promise<void>;
}

export async function startCluster(
  names: readonly string[],
  settingsOf: (host: LabHost) => Readonly<Record<string, string>> = () => ({}),
): Promise<Cluster> {
  const hosts: LabHost[] = [];
  let etcd: LabProcess | undefined;
  const startEtcd = async (on: LabHost): Promise<void> => {
    const url = `http://${on.address}:2379`;
    const urls = ['--listen-client-urls', url, '--advertise-client-urls', url];
    etcd = on.spawn('/usr/bin/etcd', ['--data-dir', '/var/lib/shared-etcd', ...urls]);
    await waitFor('etcd serves', () => /serving (insecure )?client requests/.test(etcd?.output() ?? ''));
  };
  const close = async (): Promise<void> => {
    await Promise.all(hosts.map((host) => host.close()));
  };
  try {
    for (const name of names) hosts.push(await startLabHost({ name, plugin: true }));
    const keeper = hosts.at(-1)!;
    await startEtcd(keeper);
    for (const host of hosts) {
      const settings = { ETCD_ENDPOINTS: `http://${keeper.address}:2379`, TARGET_ADDRESS: host.address };
      await installPlugin(host, { settings: { ...settings, ...settingsOf(host) } });
    }
    await untilAlive(keeper, hosts.length);
    return {
      hosts,
      stopEtcd: async () => etcd?.stop(),
      startEtcd: () => startEtcd(keeper),
      close,
    };
  } catch (reason) {
    const log = hosts.map((host) => host.log().split('\n').slice(-10).join('\n')).join('\n');
    await close();
    throw new Error(`${String(reason)}\nends of the engines' logs:\n${log}`);
  }
}

/** Waits until so many nodes are on the list of the living. */
export async function untilAlive(host: LabHost, count: number): Promise<void> {
  await waitFor(`${String(count)} nodes are alive`, async () => {
    const entries = await recordsOf(host);
    return entries.filter(({ key }) => key.startsWith('/openebs/alive/')).length === count;
  });
}
