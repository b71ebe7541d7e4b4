/** What must not grow: counted before the faults and after them, when everything is at rest. */
import type { LabHost } from '../support/lab.js';
import { listeningPorts, processesNamed, recordsOf, registered } from '../support/product.js';

export interface Figures {
  readonly processes: number;
  readonly containers: number;
  readonly loopDevices: number;
  readonly mounts: number;
  readonly listeningPorts: number;
  readonly dataPlaneDirectories: number;
  readonly records: number;
  readonly pluginDescriptors: number;
  readonly pluginMemoryMb: number;
  readonly etcdDescriptors: number;
  readonly etcdMemoryMb: number;
}

export async function figuresOf(host: LabHost): Promise<Figures> {
  const plugin = `/proc/${String(await host.pluginPid())}`;
  const [daemon = ''] = await processesNamed(host, 'etcd');
  const etcd = `/proc/${daemon.split(' ')[0] ?? ''}`;
  const descriptorsOf = async (process: string) => Number(await host.shellOk(`ls ${process}/fd | wc -l`));
  const memoryOf = async (process: string) =>
    Math.round(
      Number(/(\d+) kB/.exec(await host.shellOk(`grep VmRSS ${process}/status`))?.[1] ?? '0') / 1024,
    );
  const directories = await host.shellOk(
    'ls /var/lib/openebs/containers /var/lib/openebs/pools/default | grep -c openebs- || true',
  );
  return {
    processes: host.processes().length,
    containers: (await host.ok('ps', '-aq')).split('\n').length,
    loopDevices: (await host.loops()).length,
    mounts: Number(await host.shellOk('wc -l </proc/1/mountinfo')),
    listeningPorts: (await listeningPorts(host)).length,
    dataPlaneDirectories: Number(directories),
    records: (await recordsOf(host)).filter(({ key }) => !registered.test(key)).length,
    pluginDescriptors: await descriptorsOf(plugin),
    pluginMemoryMb: await memoryOf(plugin),
    etcdDescriptors: await descriptorsOf(etcd),
    etcdMemoryMb: await memoryOf(etcd),
  };
}

/** What may differ: a process or descriptor that comes and goes, and memory within its budget. */
const slack: Partial<Record<keyof Figures, number>> = {
  processes: 3,
  pluginDescriptors: 8,
  etcdDescriptors: 8,
  mounts: 0,
};
const limits = { pluginMemoryMb: 160, etcdMemoryMb: 256 } as const;

export function leaks(before: Figures, after: Figures): string[] {
  return (Object.keys(before) as (keyof Figures)[])
    .filter((name) => after[name] > most(name, before))
    .map((name) => `${name}: ${String(before[name])} before, ${String(after[name])} after`);
}

function most(name: keyof Figures, before: Figures): number {
  return name in limits ? limits[name as keyof typeof limits] : before[name] + (slack[name] ?? 0);
}

export function figureTable(before: Figures, after: Figures): string {
  const rows = (Object.keys(before) as (keyof Figures)[]).map(
    (name) => `${name.padEnd(24)}${String(before[name]).padStart(8)}${String(after[name]).padStart(8)}`,
  );
  return [`${''.padEnd(24)}${'before'.padStart(8)}${'after'.padStart(8)}`, ...rows].join('\n');
}
