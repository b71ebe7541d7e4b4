/** The plugins of three hosts are upgraded at once: their members of etcd are made anew one after the other. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { waitFor } from '../support/exec.js';
import { closeAll, formationOf, initCluster, joinCluster, waitForVoters } from '../support/forming.js';
import type { LabHost, LabProcess } from '../support/lab.js';
import { startRegistry } from '../support/lab-seed.js';
import { startNumberedWrites } from '../support/numbered.js';
import { laterImage, laterName, registryWithLater } from '../support/plugin-variant.js';
import { startProductHost } from '../support/product.js';

const etcd = 'openebs-etcd';
const hosts: LabHost[] = [];
let a: LabHost;
let b: LabHost;
let c: LabHost;

beforeAll(async () => {
  const storage = await registryWithLater();
  for (const name of ['roll-a', 'roll-b', 'roll-c']) {
    const host = await startProductHost({ name, images: false });
    hosts.push(host);
    await startRegistry(host, storage);
  }
  [a, b, c] = hosts as [LabHost, LabHost, LabHost];
  const token = await initCluster(a);
  await joinCluster(b, token);
  await joinCluster(c, token);
  await waitForVoters(a, 3);
}, 600_000);

afterAll(() => closeAll(hosts));

async function upgrade(host: LabHost): Promise<void> {
  await host.ok('plugin', 'disable', '-f', 'openebs');
  await host.ok('plugin', 'upgrade', '--skip-remote-check', '--grant-all-permissions', 'openebs', laterName);
}

const lifeOf = (host: LabHost) => host.ok('inspect', '--format', '{{.Id}} {{.State.StartedAt}}', etcd);
const imageOf = (host: LabHost) => host.ok('inspect', '--format', '{{.Config.Image}}', etcd);

/** From the end of the former member to the word of the new one that it serves, by the clock that all hosts share. */
async function downtimeOf(host: LabHost, events: LabProcess): Promise<{ from: number; to: number }> {
  const died = events
    .output()
    .split('\n')
    .filter((line) => line.endsWith(' die'));
  expect(died).not.toEqual([]);
  const { stdout, stderr } = await host.docker('logs', '-t', etcd);
  const ready = `${stdout}\n${stderr}`.split('\n').find((line) => line.endsWith(': ready'))!;
  return { from: Number(died.at(-1)!.split(' ')[0]) / 1e6, to: Date.parse(ready.split(' ')[0]!) };
}

test('three plugins are upgraded at once: while one member is away none is made anew, then one after the other', async () => {
  const events = hosts.map((host) =>
    host.spawn('docker', [
      ...['events', '--filter', `container=${etcd}`, '--format', '{{.TimeNano}} {{.Action}}'],
    ]),
  );
  const writes = startNumberedWrites(
    a,
    hosts.map(({ address }) => address),
  );
  await writes.goOn();
  await Promise.all(hosts.map(upgrade));
  await writes.goOn();

  await c.ok('stop', etcd);
  const before = [await lifeOf(a), await lifeOf(b)];
  await Promise.all([a, b].map((host) => host.ok('plugin', 'enable', 'openebs')));
  for (const host of [a, b]) {
    await waitFor(
      `${host.name} says why its member is not made anew`,
      async () => {
        const { renewal } = await formationOf(host).catch(() => ({ renewal: null }));
        return renewal?.failed === false && renewal.why.includes('roll-c does not');
      },
      { timeoutMs: 120_000 },
    );
  }
  expect([await lifeOf(a), await lifeOf(b)]).toEqual(before);
  await writes.goOn();
  await c.ok('start', etcd);
  await c.ok('plugin', 'enable', 'openebs');

  await waitFor(
    'all members are of the later image',
    async () => (await Promise.all(hosts.map(imageOf))).every((image) => image === laterImage),
    { timeoutMs: 180_000, everyMs: 500 },
  );
  for (const host of hosts) {
    await waitForVoters(host, 3);
    expect((await formationOf(host)).renewal).toBeNull();
  }
  const { count, slowestMs } = await writes.finish();
  const down = await Promise.all(hosts.map((host, index) => downtimeOf(host, events[index]!)));
  const inOrder = down.toSorted((one, other) => one.from - other.from);
  for (const [index, { from, to }] of inOrder.entries()) {
    expect(to).toBeGreaterThan(from);
    if (index > 0) expect(from).toBeGreaterThan(inOrder[index - 1]!.to);
  }
  // One of the three led.
  expect(hosts.map((host) => host.log()).join('\n')).toContain('another member leads before');
  console.log(
    `members away ${inOrder.map(({ from, to }) => `${String(Math.round(to - from))} ms`).join(', ')}; all upgraded within ` +
      `${String(Math.round((inOrder[2]!.to - inOrder[0]!.from) / 1000))} s; ${String(count)} writes, the slowest ${String(slowestMs)} ms`,
  );
}, 900_000);
