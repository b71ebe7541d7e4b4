import { setImmediate as nextTurn } from 'node:timers/promises';
import { createKeptState } from './kept-state.js';
import { StateMachine } from './state-machine.js';
import type { State } from './state.js';

/**
 * Shared state in memory, for tests: the same revisions, comparisons, watches and leases as etcd's, including
 * that answers and watch events come later, never inside the call. It passes the suite that etcd passes.
 */
export function createMemoryState(): State {
  return createKeptState({
    machine: new StateMachine(),
    // Every call crosses an event-loop turn, as it would on a network.
    ready: () => nextTurn(),
    keep: () => Promise.resolve(),
    close: () => Promise.resolve(),
  });
}
