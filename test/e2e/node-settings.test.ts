import { afterAll, beforeAll, expect, test } from 'vitest';
import type { NodeMessage, NodesMessage } from '../../src/admin/messages.js';
import { waitFor } from '../support/exec.js';
import { admin } from '../support/forming.js';
import type { LabHost } from '../support/lab.js';
import { createVolume, runOn, startProductHost } from '../support/product.js';

let host: LabHost;

beforeAll(async () => {
  host = await startProductHost({ name: 'settings' }, { NODE_LABELS: 'rack=1,site=here' });
}, 300_000);

afterAll(() => host.close());

async function self(): Promise<NodeMessage> {
  const { nodes } = await admin<NodesMessage>(host, 'GET', '/v1/nodes');
  return nodes.find((node) => node.self)!;
}

const set = async (wish: object) => admin(host, 'POST', `/v1/nodes/${(await self()).id}/settings`, wish);

test('labels that are set go before those of the host, within seconds, and give way again', async () => {
  const shown = (labels: Readonly<Record<string, string>>) =>
    waitFor(
      `labels ${JSON.stringify(labels)}`,
      async () =>
        JSON.stringify(Object.entries((await self()).labels).sort()) ===
        JSON.stringify(Object.entries(labels).sort()),
      { timeoutMs: 10_000 },
    );
  await waitFor('its record', async () => (await self()).labels['rack'] === '1', { timeoutMs: 60_000 });
  await set({ labels: { rack: '2', disk: 'ssd' } });
  await shown({ rack: '2', site: 'here', disk: 'ssd' });
  await set({ labels: { rack: null } });
  await shown({ rack: '1', site: 'here', disk: 'ssd' });
});

test('a drained host makes no new volumes and says so; what it has goes on', async () => {
  await createVolume(host, 'kept', { size: '200M' });
  await runOn(host, 'kept', 'echo before > /data/word');
  await set({ drained: true });
  expect((await self()).drained).toBe(true);
  const { id } = await self();
  await expect(createVolume(host, 'more', { size: '200M' })).rejects.toThrow(
    new RegExp(
      `volume more is not made here, as node .*${id}.* is drained: .*docker openebs node drain ${id} --undo`,
    ),
  );
  expect(await host.ok('volume', 'ls', '-q')).toBe('kept');
  expect(await runOn(host, 'kept', 'cat /data/word')).toBe('before');
  await set({ drained: false });
  await createVolume(host, 'more', { size: '200M' });
  await host.ok('volume', 'rm', 'kept', 'more');
});
