/** What may happen to a host with a member of etcd, and is taken back again. */
import type { MemberMessage } from '../../src/admin/messages.js';
import { sleep, waitFor } from './exec.js';
import { formationOf, waitForVoters } from './forming.js';
import type { LabHost } from './lab.js';
import { processesNamed } from './product.js';
import type { Register } from './register.js';

export interface MemberFault {
  readonly name: string;
  /** @returns what takes it back, and waits for nothing */
  begin(host: LabHost): Promise<() => Promise<unknown>>;
}

const rule = (name: string, chain: string): MemberFault => ({
  name,
  async begin(host) {
    await host.shellOk(`iptables -w -I ${chain} -j DROP`);
    return () => host.shellOk(`iptables -w -D ${chain} -j DROP`);
  },
});

export const cutBothWays: MemberFault = {
  name: 'cut off both ways',
  async begin(host) {
    await host.cut();
    return () => host.mend();
  },
};

export const cutInbound = rule('hears nobody', 'INPUT -i eth0');
export const cutOutbound = rule('is heard by nobody', 'OUTPUT -o eth0');

export const killed: MemberFault = {
  name: 'etcd killed',
  async begin(host) {
    await host.shellOk(`kill -KILL ${String(await etcdPid(host))}`);
    return () => Promise.resolve();
  },
};

export const stopped: MemberFault = {
  name: 'etcd stopped',
  async begin(host) {
    const pid = String(await etcdPid(host));
    await host.shellOk(`kill -STOP ${pid}`);
    return () => host.shellOk(`kill -CONT ${pid}`);
  },
};

export const paused: MemberFault = {
  name: 'etcd paused by docker',
  async begin(host) {
    await host.ok('pause', 'openebs-etcd');
    return () => host.ok('unpause', 'openebs-etcd');
  },
};

/** As slow as this kernel can make it: few have netem, all that run Docker drop at random and most shape. */
export const slowLink: MemberFault = {
  name: 'slow link that loses packets',
  async begin(host) {
    const netem = await host.shell('tc qdisc add dev eth0 root netem delay 200ms loss 5%');
    if (netem.code === 0) return () => host.shellOk('tc qdisc del dev eth0 root');
    const loss = 'INPUT -i eth0 -m statistic --mode random --probability 0.05 -j DROP';
    await host.shellOk(
      `tc qdisc add dev eth0 root tbf rate 400kbit burst 4k latency 400ms && iptables -w -I ${loss}`,
    );
    console.log('this kernel has no netem: 400 kbit/s and a loss of 5 % instead of a delay');
    return () => host.shellOk(`tc qdisc del dev eth0 root; iptables -w -D ${loss}`);
  },
};

export const flaps: readonly MemberFault[] = [
  cutBothWays,
  cutInbound,
  cutOutbound,
  killed,
  stopped,
  paused,
  slowLink,
];

async function etcdPid(host: LabHost): Promise<number> {
  const found = (await processesNamed(host, 'etcd')).filter((line) => line.endsWith(' etcd'));
  if (found.length !== 1) throw new Error(`${host.name} runs ${String(found.length)} etcds`);
  return Number(found[0]!.split(' ')[0]);
}

/** Whether one of the members is on this host. */
export function runsOneOf({ address }: LabHost, members: readonly MemberMessage[]): boolean {
  return members.some(({ peerUrl }) => peerUrl.includes(`//${address}:`));
}

/** The host with the member that leads, as one of the others sees it. */
export function leaderAmong(hosts: readonly LabHost[]): Promise<LabHost> {
  return waitFor(
    'somebody leads',
    async () => {
      for (const host of hosts) {
        const formation = await formationOf(host).catch(() => null);
        const leader = formation?.members.find((member) => member.leader && member.healthy);
        const found = leader && hosts.find((one) => runsOneOf(one, [leader]));
        if (found) return found;
      }
      return false;
    },
    { timeoutMs: 60_000 },
  );
}

export interface Meeting {
  readonly voters: readonly LabHost[];
  /** Told when all are well again. */
  readonly watcher: LabHost;
  /** With clients on all voters. */
  readonly register: Register;
  /** How long the fault lasts, if the others get on by then. */
  readonly leastMs: number;
}

/** The host that leads meets the fault: the others get on meanwhile, and all do afterwards. */
export async function leaderMeets(fault: MemberFault, meeting: Meeting): Promise<void> {
  const { voters, watcher, register, leastMs } = meeting;
  const leader = await leaderAmong(voters);
  const began = performance.now();
  const takeBack = await fault.begin(leader);
  const over = sleep(leastMs);
  await register.goesOn(voters.filter((host) => host !== leader));
  const went = performance.now() - began;
  await over;
  await takeBack();
  const healed = performance.now();
  await register.goesOn(voters);
  await waitForVoters(watcher, voters.length, 120_000);
  const seconds = (ms: number) => (ms / 1000).toFixed(1);
  console.log(
    `${leader.name}, which leads: ${fault.name}: five writes of each other host after ${seconds(went)} s, ` +
      `all voters well ${seconds(performance.now() - healed)} s after its end`,
  );
}
