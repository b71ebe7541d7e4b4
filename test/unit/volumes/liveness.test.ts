import { afterEach, expect, it, vi } from 'vitest';
import { keys } from '../../../src/state/keys.js';
import type { WatchListener } from '../../../src/state/state.js';
import { Liveness } from '../../../src/volumes/liveness.js';

let now = 1000;
vi.spyOn(performance, 'now').mockImplementation(() => now);
afterEach(() => {
  now = 1000;
});

function watched() {
  let tell: WatchListener = () => undefined;
  const liveness = new Liveness({
    watch: (_prefix, listener) => {
      tell = listener;
      return { close: () => undefined };
    },
  });
  const entry = (node: string) => ({ key: keys.alive(node), value: '', createRevision: 1, modRevision: 1 });
  return {
    liveness,
    list: (...nodes: string[]) => {
      tell({ type: 'snapshot', snapshot: { entries: nodes.map(entry), revision: 1 } });
    },
    comes: (node: string) => {
      tell({ type: 'changes', revision: 2, changes: [{ type: 'put', entry: entry(node) }] });
    },
    goes: (node: string) => {
      tell({ type: 'changes', revision: 3, changes: [{ type: 'delete', key: keys.alive(node) }] });
    },
  };
}

it('says of nobody that it is away before etcd was asked', () => {
  const { liveness } = watched();
  now += 60_000;
  expect(liveness.awayMs('b')).toBe(0);
});

it('counts from when the sign of life went, and stops when it is back', () => {
  const { liveness, list, comes, goes } = watched();
  list('b');
  now += 60_000;
  expect(liveness.awayMs('b')).toBe(0);
  goes('b');
  now += 5000;
  expect(liveness.awayMs('b')).toBe(5000);
  comes('b');
  expect(liveness.awayMs('b')).toBe(0);
});

it('counts for a node that it never saw from when it began to look', () => {
  const { liveness, list } = watched();
  list();
  now += 5000;
  expect(liveness.awayMs('b')).toBe(5000);
});

it('begins anew after a gap: while etcd was away nobody could give a sign of life', () => {
  const { liveness, list, goes } = watched();
  list('b');
  goes('b');
  now += 60_000;
  list();
  expect(liveness.awayMs('b')).toBe(1);
  now += 5000;
  expect(liveness.awayMs('b')).toBe(5000);
});
