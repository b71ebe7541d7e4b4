import { expect, test } from 'vitest';
import { createEventStream } from '../../src/docker/events.js';
import { createJournal } from '../../src/registrator/journal.js';
import { createEtcdState } from '../../src/state/etcd-state.js';
import { keys } from '../../src/state/keys.js';
import { records } from '../../src/state/records.js';
import { containerEvent, startFakeEngine, type FakeEngine } from '../fakes/engine-server.js';
import { startEtcd } from '../support/etcd.js';
import { waitFor } from '../support/exec.js';
import { createLogLines } from '../support/log-lines.js';

async function emit(engine: FakeEngine, from: number, count: number): Promise<void> {
  for (let sent = from; sent < from + count; sent += 1) {
    engine.emit(containerEvent('start', `c${String(sent)}`, { name: 'web', image: 'alpine' }));
    if (sent % 100 === 0) await engine.drained();
  }
}

test('the journal in a real etcd: written, trimmed, and caught up after etcd was away', async () => {
  await using etcd = await startEtcd();
  const engine = await startFakeEngine();
  const { log, lines } = createLogLines();
  const state = createEtcdState({ endpoints: [etcd.endpoint], log });
  const stream = createEventStream({ socketPath: engine.socketPath, log });
  const limits = { maxRecords: 300, retryMaxMs: 500 };
  const journal = createJournal({ state, stream, node: 'n1', log, limits });
  try {
    await waitFor('the stream is open', () => engine.streams === 1);
    await emit(engine, 0, 500);
    await waitFor('all are written', () => journal.stats().written === 501); // and the gap at the start
    await etcd.stop();
    await emit(engine, 500, 250);
    await waitFor('etcd is missed', () => journal.stats().failures > 0);
    await etcd.start();
    await waitFor(
      'the rest is written',
      () => journal.stats().queued === 0 && journal.stats().records === 300,
    );
    const ctx = { log, signal: AbortSignal.timeout(10_000), requestId: 'test' };
    const { entries } = await state.range(ctx, keys.eventsOf('n1'));
    const found = entries.map(({ key, value }) => records.event.decode(key, value));
    const ids = found.filter(({ type }) => type === 'container').map(({ actor }) => actor);
    expect(ids.slice(-250)).toEqual(Array.from({ length: 250 }, (_, n) => `c${String(n + 500)}`));
    expect(entries).toHaveLength(300);
    expect(journal.stats().lost).toBe(0);
    const warnings = lines.filter(({ msg, level }) => level === 'warn' && msg.includes('journal'));
    expect(warnings).toHaveLength(1);
  } finally {
    await journal.close();
    stream.close();
    await state.close();
    await engine.close();
  }
});
