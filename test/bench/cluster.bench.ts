/** The cluster's figures beside their bars: the real plugin on four hosts that lose a member, a host, and all of their power. */
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { afterAll, beforeAll, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import {
  closeAll,
  GRACE,
  initCluster,
  joinCluster,
  startHosts,
  waitForFormation,
  waitForVoters,
} from '../support/forming.js';
import type { LabHost, LabProcess } from '../support/lab.js';
import { createVolume, runOn, tryOn } from '../support/product.js';
import type { Told } from './cluster-writer.js';
import { atMost, report } from './table.js';

const certificates = '/var/lib/openebs/certificates';
const graceMs = Number.parseInt(GRACE.MEMBER_GRACE) * 1000;
const KILLS = 3;
const POWER_CUTS = 2;
let hosts: LabHost[];

beforeAll(async () => {
  hosts = await startHosts(['cb-a', 'cb-b', 'cb-c', 'cb-d']);
});

afterAll(async () => {
  await closeAll(hosts);
  report('cluster');
});

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;
const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`;
const clientUrl = ({ address }: LabHost) => `https://${address}:23790`;

function row(name: string, tookMs: number, barSeconds: number, yardstick = ''): void {
  atMost(name, tookMs / 1000, {
    bar: barSeconds,
    unit: 's',
    yardstick: yardstick === '' ? 'fixed' : `fixed; ${yardstick}`,
  });
}

/** Of the hosts that vote, as one of those that are up sees them. */
async function votersOf(seenBy: LabHost): Promise<{ voters: LabHost[]; leader: LabHost }> {
  const members = (await waitForVoters(seenBy, 3, 120_000)).members;
  const at = (url: string) => hosts.find(({ address }) => url.includes(`//${address}:`));
  const voters = members.map(({ peerUrl }) => at(peerUrl)).filter((host) => host !== undefined);
  const leader = at(members.find((member) => member.leader)?.peerUrl ?? '');
  if (!leader || voters.length !== 3)
    throw new Error(`which host leads is not known: ${JSON.stringify(members)}`);
  return { voters, leader };
}

function startWriter(
  host: LabHost,
  kind: 'product' | 'plain',
  prefix: string,
  at: readonly LabHost[],
): LabProcess {
  const program = resolve('test/bench/cluster-writer.ts');
  const dist = resolve('build/plugin/rootfs/app/dist');
  return host.spawn(process.execPath, [program, kind, dist, certificates, prefix, ...at.map(clientUrl)]);
}

/** All that have ended so far. A line that a power cut has torn is no answer. */
function toldBy(writer: LabProcess): Told[] {
  const lines = writer.output().split('\n').slice(0, -1);
  const strange = lines.find((line) => !line.startsWith('{'));
  if (strange !== undefined) throw new Error(writer.output().slice(0, 2000));
  return lines.map((line) => JSON.parse(line) as Told);
}

const acknowledged = (told: readonly Told[]) => told.filter(({ error }) => error === '');

/** What etcd has, from etcd itself: key -> value. */
async function storedBelow(prefix: string, host: LabHost): Promise<Map<string, string>> {
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  const text = (encoded: string) => Buffer.from(encoded, 'base64').toString();
  const range = { key: base64(prefix), range_end: base64(`${prefix.slice(0, -1)}0`) };
  const { kvs = [] } = JSON.parse(
    await host.shellOk(
      `curl -sS --fail --max-time 20 --cacert ${certificates}/ca.crt --cert ${certificates}/client.crt ` +
        `--key ${certificates}/client.key ${clientUrl(host)}/v3/kv/range -d '${JSON.stringify(range)}'`,
    ),
  ) as { kvs?: { key: string; value: string }[] };
  return new Map(kvs.map(({ key, value }) => [text(key), text(value)]));
}

/** Over all faults of this run. */
const sum = { acknowledged: 0, lost: 0, refused: 0, doubted: 0, resent: 0, carriedOut: 0, open: 0 };

/** In which words the writes that stayed in doubt ended, and how many. */
const unknown = new Map<string, number>();

async function count(told: readonly Told[], prefix: string, host: LabHost): Promise<void> {
  const stored = await storedBelow(prefix, host);
  for (const { key, nonce, error, sent, readBack } of told) {
    const isThere = stored.get(key) === nonce;
    if (readBack > 0) sum.doubted += 1;
    if (error === '') {
      sum.acknowledged += 1;
      if (!isThere) sum.lost += 1;
      if (readBack > 0) sum[sent > 1 ? 'resent' : 'carriedOut'] += 1;
    } else if (error.includes('whether it was carried out is not known')) {
      sum.open += 1;
      const [round = ''] = prefix.split('/').slice(-2);
      const told = `${round}: ${error.replaceAll(key, 'KEY')} (sent ${String(sent)}, read ${String(readBack)})`;
      unknown.set(told, (unknown.get(told) ?? 0) + 1);
    } else sum.refused += 1;
  }
}

interface Loss {
  /** When it began, and when no write could be answered any more by who is lost. */
  readonly beganMs: number;
  readonly lostMs: number;
}

/** From the loss to the first write that was begun after it and is acknowledged. */
function firstAfter({ beganMs, lostMs }: Loss, told: readonly Told[]): number {
  const answered = acknowledged(told).filter(({ began }) => began >= lostMs);
  return Math.min(...answered.map(({ ended }) => ended)) - beganMs;
}

/** With both writers at work: what the loss costs each of them. */
async function measure(
  round: string,
  from: LabHost,
  lose: (leader: LabHost) => Promise<Loss>,
): Promise<{ leader: LabHost; loss: Loss; firstMs: number; plainMs: number; slowestMs: number }> {
  const { voters, leader } = await votersOf(from);
  const others = voters.filter((host) => host !== leader);
  const [host = leader] = hosts.filter((one) => one !== leader && !others.includes(one));
  const prefix = `/bench/${round}/`;
  const product = startWriter(host, 'product', prefix, voters);
  const plain = startWriter(host, 'plain', `/bench/plain-${round}/`, others);
  const both = [product, plain];
  await waitFor('both write', () => both.every((writer) => acknowledged(toldBy(writer)).length > 100));
  const loss = await lose(leader);
  await waitFor(
    'both write again',
    () =>
      both.every(
        (writer) => acknowledged(toldBy(writer)).filter(({ began }) => began > loss.lostMs).length > 200,
      ),
    { timeoutMs: 120_000 },
  );
  await Promise.all(both.map((writer) => writer.stop()));
  const told = toldBy(product);
  await count(told, prefix, others[0] ?? host);
  const touched = told.filter(({ ended }) => ended > loss.beganMs);
  return {
    leader,
    loss,
    firstMs: firstAfter(loss, told),
    plainMs: firstAfter(loss, toldBy(plain)),
    slowestMs: Math.max(...touched.map(({ began, ended }) => ended - began)),
  };
}

type Measured = Awaited<ReturnType<typeof measure>>;

function rowOf(name: string, rounds: readonly Measured[]): void {
  const worst = (of: (round: Measured) => number) => Math.max(...rounds.map(of));
  const each = (of: (round: Measured) => number) => rounds.map((round) => seconds(of(round))).join(', ');
  row(
    `${name} -> first write, worst of ${String(rounds.length)}`,
    worst(({ firstMs }) => firstMs),
    3,
    `each ${each(({ firstMs }) => firstMs)}; plain HTTP to the two others ${each(({ plainMs }) => plainMs)}; ` +
      `the slowest write took ${seconds(worst(({ slowestMs }) => slowestMs))}`,
  );
}

/** As this process numbers them. */
function processesOf(container: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && textOf(`/proc/${String(pid)}/cgroup`).includes(container));
}

function isGone(pid: number): boolean {
  const state = textOf(`/proc/${String(pid)}/stat`);
  return state === '' || state.includes(') Z ');
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It went with another.
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The container as a whole; its engine starts it again. */
async function killMember(host: LabHost): Promise<Loss> {
  const pids = processesOf(await host.ok('inspect', '--format', '{{.Id}}', 'openebs-etcd'));
  if (pids.length < 2) throw new Error(`etcd and its role do not run on ${host.name}`);
  const beganMs = nowMs();
  for (const pid of pids.toReversed()) kill(pid);
  await waitFor('it is dead', () => pids.every(isGone), { everyMs: 1 });
  return { beganMs, lostMs: nowMs() };
}

/** Its processes would end their connections; without power nobody does. */
async function cutPower(host: LabHost): Promise<Loss> {
  const beganMs = nowMs();
  await host.cut();
  const lostMs = nowMs();
  await host.powerOff();
  return { beganMs, lostMs };
}

test('forming', async () => {
  const [a, b, c, d] = hosts as [LabHost, LabHost, LabHost, LabHost];
  await createVolume(a, 'kept', { size: '200M' });
  await runOn(a, 'kept', 'echo kept > /data/word');
  const token = await initCluster(a);
  await joinCluster(b, token);
  await joinCluster(c, token);
  const began = nowMs();
  await waitForVoters(a, 3);
  row('end of the second join -> three healthy voters', nowMs() - began, 30);
  await joinCluster(d, token);
  await waitForFormation(d, 'it is a spare', ({ role }) => role === 'spare');
});

test('loss of the leader', async () => {
  const kills: Measured[] = [];
  for (let round = 0; round < KILLS; round += 1)
    kills.push(await measure(`kill-${String(round)}`, hosts[0]!, killMember));
  rowOf("leader's etcd killed", kills);
  const cuts: Measured[] = [];
  const replacedMs: number[] = [];
  for (let round = 0; round < POWER_CUTS; round += 1) {
    const cut = await measure(`power-${String(round)}`, hosts[0]!, cutPower);
    cuts.push(cut);
    const { leader, loss } = cut;
    const rest = hosts.filter((host) => host !== leader);
    await waitForFormation(
      rest[0]!,
      'a spare has taken its place',
      ({ members }) =>
        rest.every(({ address }) =>
          members.some(
            ({ peerUrl, role, healthy }) => role === 'voter' && healthy && peerUrl.includes(`//${address}:`),
          ),
        ) && members.length === 3,
      180_000,
    );
    replacedMs.push(nowMs() - loss.beganMs - graceMs);
    await leader.powerOn();
    await waitForFormation(leader, 'it is a spare', ({ role }) => role === 'spare', 120_000);
  }
  rowOf("leader's host without power", cuts);
  row(
    'end of the grace time -> a spare votes, three healthy',
    Math.max(...replacedMs),
    60,
    `each ${replacedMs.map(seconds).join(', ')}`,
  );
});

test('all hosts without power', async () => {
  const [a, b] = hosts as [LabHost, LabHost];
  const { voters } = await votersOf(a);
  const writer = startWriter(b, 'product', '/bench/all/', voters);
  await waitFor('it writes', () => acknowledged(toldBy(writer)).length > 100);
  await Promise.all(hosts.map((host) => host.powerOff()));
  const began = nowMs();
  const mounts = await Promise.all(
    hosts.map(async (host) => {
      await host.powerOn();
      const engineMs = nowMs() - began;
      await waitFor(
        `${host.name} mounts`,
        async () => (await tryOn(host, 'kept', 'grep -q kept /data/word')).code === 0,
        { timeoutMs: 240_000 },
      );
      return { engineMs, mountMs: nowMs() - began };
    }),
  );
  const first = Math.min(...mounts.map(({ mountMs }) => mountMs));
  const last = Math.max(...mounts.map(({ mountMs }) => mountMs));
  const engines = mounts.map(({ engineMs }) => seconds(engineMs)).join(', ');
  row(
    'power for all four hosts -> first mount by a container',
    first,
    60,
    `the last of four ${seconds(last)}; their engines answered after ${engines}`,
  );
  const [voter = a] = (await votersOf(a)).voters;
  await count(toldBy(writer), '/bench/all/', voter);
});

test('what became of the writes', () => {
  const { carriedOut, doubted, lost, open, refused, resent } = sum;
  const faults = `${String(KILLS)} kills, ${String(POWER_CUTS)} hosts and then all hosts without power`;
  atMost('acknowledged writes that are lost', lost, {
    bar: 0,
    unit: '',
    yardstick: `fixed; ${String(sum.acknowledged)} acknowledged, one every 10 ms over ${faults}`,
  });
  atMost('writes in doubt that were not resolved', open, {
    bar: 0,
    unit: '',
    yardstick: `fixed; ${String(doubted)} in doubt: ${String(carriedOut)} had been carried out, ${String(resent)} were sent again`,
  });
  for (const [told, times] of unknown) console.log(`  ${String(times)} x ${told}`);
  atMost('writes refused', refused, { bar: 0, unit: '', yardstick: 'fixed; a call has 5 s' });
});
