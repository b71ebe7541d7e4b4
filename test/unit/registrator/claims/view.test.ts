import { describe, expect, it } from 'vitest';
import { createRegistryView } from '../../../../src/registrator/claims/view.js';
import { keys } from '../../../../src/state/keys.js';
import { records } from '../../../../src/state/records.js';
import type { Entry, State, Transaction, WatchEvent, WatchListener } from '../../../../src/state/state.js';
import { createLogLines } from '../../../support/log-lines.js';

const KEY = '/reg/a';
const lease = { id: '7' };
const claim = (value: string) =>
  records.claim.encode({
    schema: 1,
    key: KEY,
    owner: 'one',
    value,
    merge: 'min',
    overwrite: false,
    source: 'policy container a',
  });
const put = (value: string): Transaction => ({
  if: [],
  then: [
    { put: keys.claim(KEY, 'one'), value: claim(value), lease },
    { put: KEY, value, lease },
  ],
});
const remove: Transaction = { if: [], then: [{ delete: keys.claim(KEY, 'one') }, { delete: KEY }] };

function setUp() {
  const watches = new Map<string, WatchListener>();
  const state: Pick<State, 'watch'> = {
    watch(prefix, listener) {
      watches.set(prefix, listener);
      return { close: () => watches.delete(prefix) };
    },
  };
  const view = createRegistryView(state, createLogLines().log);
  const changed: string[] = [];
  view.onChange((names) => changed.push(...names));
  view.seen(KEY);
  const tell = (event: WatchEvent) => {
    for (const [prefix, listener] of watches) {
      if (event.type === 'snapshot') {
        const entries = event.snapshot.entries.filter(({ key }) => key.startsWith(prefix));
        listener({ type: 'snapshot', snapshot: { ...event.snapshot, entries } });
        continue;
      }
      const below = event.changes.filter((change) =>
        (change.type === 'put' ? change.entry.key : change.key).startsWith(prefix),
      );
      if (below.length > 0) listener({ ...event, changes: below });
    }
  };
  const snapshot = (revision: number, entries: Entry[] = []) => {
    tell({ type: 'snapshot', snapshot: { revision, entries } });
  };
  const entriesOf = ({ then }: Transaction, revision: number): Entry[] =>
    then.flatMap((one) =>
      'put' in one
        ? [{ key: one.put, value: one.value, createRevision: revision, modRevision: revision, leaseId: '7' }]
        : [],
    );
  const carriedOut = (transaction: Transaction, revision: number) => {
    const puts = entriesOf(transaction, revision).map((entry) => ({ type: 'put', entry }) as const);
    const gone = transaction.then.flatMap((one) =>
      'delete' in one ? [{ type: 'delete', key: one.delete } as const] : [],
    );
    tell({ type: 'changes', revision, changes: [...puts, ...gone] });
  };
  return { view, watches, changed, snapshot, carriedOut, entriesOf };
}

const valueOf = (view: ReturnType<typeof setUp>['view']) => view.seen(KEY)?.entry?.value;

describe('what is seen of the registry', () => {
  it('is what was just written, before a watch tells', () => {
    const { view, snapshot } = setUp();
    snapshot(1);
    view.applied(put('x'), 2, [KEY]);
    expect(valueOf(view)).toBe('x');
    expect(view.seen(KEY)?.revision).toBe(2);
    expect(view.claimsUnder('7')).toBe(1);
    view.applied(remove, 3, [KEY]);
    expect(valueOf(view)).toBeUndefined();
    expect(view.claimsUnder('7')).toBe(0);
  });

  it('is followed as long as a key below the same prefix is of interest', () => {
    const { view, watches, snapshot, entriesOf } = setUp();
    snapshot(2, entriesOf(put('x'), 2));
    view.followOnly(['/reg/b']);
    expect(valueOf(view)).toBe('x');
    view.followOnly(['/other/a']);
    expect([...watches.keys()]).toEqual([keys.registry]);
    expect(view.seen(KEY)).toBeNull();
    snapshot(3, entriesOf(put('y'), 3));
    expect(valueOf(view)).toBe('y');
  });

  it('stays what the watch has told when the answer of a write comes late', () => {
    const { view, snapshot, carriedOut } = setUp();
    snapshot(1);
    carriedOut(put('x'), 2);
    carriedOut(remove, 3);
    view.applied(put('x'), 2, [KEY]);
    expect(valueOf(view)).toBeUndefined();
    expect(view.claimedBy('one')).toEqual([]);
    expect(view.claimsUnder('7')).toBe(0);
  });

  it('is what a store has that went back, with all that it had before looked at', () => {
    const { view, changed, snapshot, carriedOut, entriesOf } = setUp();
    snapshot(100);
    view.applied(put('x'), 101, [KEY]);
    carriedOut(put('x'), 101);
    changed.length = 0;
    snapshot(1);
    expect(changed).toContain(KEY);
    expect(valueOf(view)).toBeUndefined();
    expect(view.seen(KEY)?.revision).toBe(1);
    expect(view.claimsUnder('7')).toBe(0);
    snapshot(3, entriesOf(put('y'), 3));
    expect(valueOf(view)).toBe('y');
  });

  it('is what a store has that went back and on again before it was heard', () => {
    const { view, changed, snapshot, carriedOut, entriesOf } = setUp();
    snapshot(1);
    carriedOut(put('x'), 50);
    changed.length = 0;
    snapshot(60, entriesOf(put('y'), 5));
    expect(valueOf(view)).toBe('y');
    expect(changed).toContain(KEY);
    expect(view.claimsUnder('7')).toBe(1);
  });
});
