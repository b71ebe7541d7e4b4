/** What must not grow: counted before the faults and after them, when everything is at rest. */
import type { LabHost } from '../support/lab.js';
import { listeningPorts, recordsOf, registered } from '../support/product.js';

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
}

export async function figuresOf(host: LabHost): Promise<Figures> {
  const plugin = `/proc/${String(await host.pluginPid())}`;
  const memory = await host.shellOk(`grep VmRSS ${plugin}/status`);
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
    pluginDescriptors: Number(await host.shellOk(`ls ${plugin}/fd | wc -l`)),
    pluginMemoryMb: Math.round(Number(/(\d+) kB/.exec(memory)?.[1] ?? '0') / 1024),
  };
}

/** What may differ: a process or descriptor that comes and goes, and memory within its budget. */
const slack: Partial<Record<keyof Figures, number>> = { processes: 3, pluginDescriptors: 8, mounts: 0 };
export const memoryLimitMb = 160;

export function leaks(before: Figures, after: Figures): string[] {
  const grown = (Object.keys(before) as (keyof Figures)[])
    .filter((name) => name !== 'pluginMemoryMb' && after[name] > before[name] + (slack[name] ?? 0))
    .map((name) => `${name}: ${String(before[name])} before, ${String(after[name])} after`);
  if (after.pluginMemoryMb > memoryLimitMb) grown.push(`pluginMemoryMb: ${String(after.pluginMemoryMb)}`);
  return grown;
}

export function figureTable(before: Figures, after: Figures): string {
  const rows = (Object.keys(before) as (keyof Figures)[]).map(
    (name) => `${name.padEnd(24)}${String(before[name]).padStart(8)}${String(after[name]).padStart(8)}`,
  );
  return [`${''.padEnd(24)}${'before'.padStart(8)}${'after'.padStart(8)}`, ...rows].join('\n');
}
