/** What happens to hosts, one thing at a time. Each fault resolves when it is over; what follows is not its matter. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { sleep, waitFor } from '../support/exec.js';
import type { LabHost } from '../support/lab.js';
import { statusOf } from '../support/product.js';
import type { Random } from './random.js';

/** The pool, as the host names it: a disk of its own. */
export const pool = '/var/lib/openebs/pools/default';

export interface Fault {
  readonly name: string;
  /** How often it comes, relative to the others. */
  readonly weight: number;
  /** True when no container may notice more than a pause: the same process of each goes on. */
  readonly unnoticed?: boolean;
  /** `volume`: one in use, for faults that hit one. */
  run(host: LabHost, volume: string, random: Random): Promise<unknown>;
}

async function role(host: LabHost, volume: string, kind: 'target' | 'initiator'): Promise<string> {
  return `openebs-${kind}-${(await statusOf(host, volume)).id}`;
}

async function killMain(host: LabHost, container: string): Promise<void> {
  const pid = await host.ok('inspect', '--format', '{{.State.Pid}}', container);
  await host.shellOk(`kill -KILL ${pid}`);
}

async function killPlugin(host: LabHost): Promise<void> {
  const killed = await host.killPlugin();
  await waitFor('the plugin has a new process', async () => (await host.pluginPid()) !== killed);
}

async function pause(host: LabHost, container: string, ms: number): Promise<void> {
  await host.ok('pause', container);
  await sleep(ms);
  await host.ok('unpause', container);
}

async function ours(host: LabHost, ...more: string[]): Promise<string[]> {
  const listed = await host.ok('ps', '-aq', ...more, '--filter', 'label=openebs.role');
  return listed.split('\n').filter((id) => id !== '');
}

export const faults: readonly Fault[] = [
  { name: 'plugin killed', weight: 4, unnoticed: true, run: (host) => killPlugin(host) },
  {
    name: 'plugin killed during a mount',
    weight: 3,
    async run(host, volume, random) {
      const restarting = host.docker('restart', volume);
      await sleep(random.below(1500));
      await killPlugin(host);
      await restarting;
    },
  },
  {
    name: 'plugin disabled by force, and enabled',
    weight: 2,
    unnoticed: true,
    async run(host, _volume, random) {
      await host.ok('plugin', 'disable', '-f', 'openebs');
      await sleep(random.below(5000));
      await host.ok('plugin', 'enable', 'openebs');
    },
  },
  {
    name: 'plugin stands still for a while',
    weight: 1,
    unnoticed: true,
    async run(host, _volume, random) {
      const pid = String(await host.pluginPid());
      await host.shellOk(`kill -STOP ${pid}`);
      await sleep(1000 + random.below(15_000));
      await host.shellOk(`kill -CONT ${pid}`);
    },
  },
  {
    name: '/run/openebs and the cache removed, and the plugin killed',
    weight: 1,
    unnoticed: true,
    async run(host) {
      rmSync(join(host.run, 'openebs'), { recursive: true, force: true });
      rmSync(join(host.lib, 'openebs/cache'), { recursive: true, force: true });
      await killPlugin(host);
    },
  },
  {
    name: 'engine stopped and started',
    weight: 2,
    async run(host) {
      await host.stopEngine({ timeoutMs: 240_000 });
      await host.startEngine();
    },
  },
  {
    name: 'engine killed and started',
    weight: 2,
    async run(host) {
      await host.stopEngine({ signal: 'SIGKILL' });
      await host.startEngine();
    },
  },
  { name: 'power lost', weight: 2, run: (host) => host.reboot() },
  {
    name: 'target killed',
    weight: 2,
    unnoticed: true,
    run: async (host, volume) => killMain(host, await role(host, volume, 'target')),
  },
  {
    name: 'target removed',
    weight: 2,
    unnoticed: true,
    run: async (host, volume) => host.ok('rm', '-f', await role(host, volume, 'target')),
  },
  {
    name: 'target restarted',
    weight: 1,
    unnoticed: true,
    run: async (host, volume) => await host.ok('restart', '-t', '1', await role(host, volume, 'target')),
  },
  {
    name: 'target paused',
    weight: 2,
    unnoticed: true,
    run: async (host, volume, random) =>
      pause(host, await role(host, volume, 'target'), 2000 + random.below(18_000)),
  },
  {
    name: 'initiator killed',
    weight: 2,
    run: async (host, volume) => killMain(host, await role(host, volume, 'initiator')),
  },
  {
    name: 'initiator removed',
    weight: 1,
    run: async (host, volume) => host.ok('rm', '-f', await role(host, volume, 'initiator')),
  },
  { name: 'etcd killed', weight: 1, unnoticed: true, run: (host) => killMain(host, 'openebs-etcd') },
  { name: 'etcd removed', weight: 1, unnoticed: true, run: (host) => host.ok('rm', '-f', 'openebs-etcd') },
  {
    name: 'etcd paused',
    weight: 1,
    unnoticed: true,
    run: (host, _volume, random) => pause(host, 'openebs-etcd', 1000 + random.below(15_000)),
  },
  {
    name: 'all of ours removed',
    weight: 1,
    run: async (host) => host.ok('rm', '-f', ...(await ours(host))),
  },
  {
    name: 'system pruned',
    weight: 1,
    unnoticed: true,
    run: (host) => host.ok('system', 'prune', '-af', '--volumes'),
  },
  {
    name: 'copied out of and into a container',
    weight: 2,
    unnoticed: true,
    async run(host, volume) {
      const file = `${host.dir}/copied`;
      for (let round = 0; round < 3; round += 1) {
        await host.docker('cp', `${volume}:/etc/passwd`, file);
        await host.docker('cp', file, `${volume}:/tmp/copied`);
      }
    },
  },
  {
    name: 'container restarted',
    weight: 2,
    run: async (host, volume) => host.ok('restart', volume),
  },
  {
    name: 'container killed',
    weight: 2,
    async run(host, volume) {
      await host.ok('kill', volume);
      await host.ok('start', volume);
    },
  },
  {
    name: 'pool full for a while',
    weight: 2,
    async run(host, _volume, random) {
      await host.shellOk(`
        cd ${pool}
        free=$(df -k --output=avail . | tail -n 1)
        [ "$free" -lt 49152 ] || fallocate -l $((free - 49152))K filler`);
      await sleep(5000 + random.below(10_000));
      await host.shellOk(`rm -f ${pool}/filler`);
    },
  },
];
