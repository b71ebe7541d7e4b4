import { describe, expect, it } from 'vitest';
import { type CareMember, type CareSituation, planCare } from '../../../../src/cluster/care/care-plan.js';

const MIB = 2 ** 20;
const HOUR = 60 * 60_000;

function member(id: string, bytes: number, inUse: number, more: Partial<CareMember> = {}): CareMember {
  return {
    id,
    name: id,
    clientUrl: `https://${id}:23790`,
    learner: false,
    leader: false,
    unreachableMs: 0,
    size: { bytes: bytes * MIB, inUse: inUse * MIB },
    ...more,
  };
}

interface Past {
  readonly compactedMs?: number;
  readonly defragmentedMs?: Readonly<Record<string, number>>;
  readonly caringMs?: number;
}

function decide(members: readonly CareMember[], past: Past = {}, more: Partial<CareSituation> = {}): string {
  const step = planCare({
    members,
    corrupt: false,
    noSpace: false,
    quotaBytes: 2048 * MIB,
    graceMs: 300_000,
    past: {
      compactedMs: past.compactedMs ?? Infinity,
      defragmentedMs: (id) => past.defragmentedMs?.[id] ?? Infinity,
      caringMs: past.caringMs ?? HOUR,
    },
    ...more,
  });
  if (step.kind === 'none' || step.kind === 'full') return `${step.kind} ${step.why}`.trim();
  if (step.kind === 'hand over') return `hand over ${step.from.id} to ${step.to.id}`;
  return step.kind === 'disarm' ? step.kind : `${step.kind} ${step.member.id}`;
}

const lead = { leader: true };
const away = { unreachableMs: 10_000, size: null };
const dead = { unreachableMs: 300_000, size: null };

describe('an etcd without space', () => {
  const full = [member('a', 2048, 100, lead), member('b', 2048, 100), member('c', 2048, 100)];
  const done = { a: 1000, b: 1000, c: 1000 };
  const cases: [string, readonly CareMember[], Past, string][] = [
    ['is compacted first, by its leader', full, {}, 'compact a'],
    ['then has a follower defragmented', full, { compactedMs: 100 }, 'defragment b'],
    ['then the next', full, { compactedMs: 100, defragmentedMs: { b: 1 } }, 'defragment c'],
    ['and the leader last', full, { compactedMs: 100, defragmentedMs: { b: 1, c: 1 } }, 'defragment a'],
    [
      'and takes writes again once all are small',
      [member('a', 100, 100, lead), member('b', 100, 100), member('c', 110, 100)],
      { compactedMs: 100 },
      'disarm',
    ],
    [
      'but not while one is large still',
      [member('a', 100, 100, lead), member('b', 1900, 100), member('c', 110, 100)],
      { compactedMs: 100, defragmentedMs: done },
      'full etcd has used up its space, and 100 MiB of 2048 MiB are data',
    ],
    [
      'is left full when what it has is too much',
      [member('a', 2000, 1900, lead)],
      { compactedMs: 100, defragmentedMs: done },
      'full etcd has used up its space, and 1900 MiB of 2048 MiB are data',
    ],
    [
      'which is tried once all the same, as what is in use is told late',
      [member('a', 2000, 1900, lead)],
      { compactedMs: 100 },
      'defragment a',
    ],
    [
      'and again after five minutes when something was deleted',
      [member('a', 2000, 1000, lead)],
      { compactedMs: 100, defragmentedMs: { a: 300_000 } },
      'defragment a',
    ],
    [
      'is compacted each minute meanwhile',
      [member('a', 2000, 1900, lead)],
      { compactedMs: 60_000, defragmentedMs: done },
      'compact a',
    ],
    [
      'waits for a voter that may come back',
      [member('a', 2048, 100, lead), member('b', 2048, 100), member('c', 0, 0, away)],
      { compactedMs: 100 },
      'none etcd has used up its space: waits for c to answer before room is made',
    ],
    [
      'does not wait for a dead one, which nobody could remove',
      [member('a', 2048, 100, lead), member('b', 2048, 100), member('c', 0, 0, dead)],
      { compactedMs: 100 },
      'defragment b',
    ],
    [
      'never asks a learner, which refuses',
      [member('a', 100, 100, lead), member('b', 2048, 100, { learner: true })],
      { compactedMs: 100 },
      'disarm',
    ],
    [
      'waits for a leader',
      [member('a', 2048, 100), member('b', 2048, 100)],
      {},
      'none etcd has used up its space: waits for a leader before room is made',
    ],
  ];
  for (const [name, members, past, expected] of cases)
    it(name, () => {
      expect(decide(members, past, { noSpace: true })).toBe(expected);
    });

  it('with corrupt data is a person’s business', () => {
    expect(decide(full, {}, { noSpace: true, corrupt: true })).toBe('none');
  });
});

describe('by routine', () => {
  const cases: [string, readonly CareMember[], Past, string][] = [
    ['nothing is done to a small database', [member('a', 99, 1, lead)], {}, 'none'],
    ['nor to one that is in use', [member('a', 900, 500, lead)], {}, 'none'],
    ['a lone member is defragmented', [member('a', 300, 100, lead)], {}, 'defragment a'],
    ['once an hour', [member('a', 300, 100, lead)], { defragmentedMs: { a: HOUR - 1 } }, 'none'],
    ['a follower goes first', [member('a', 300, 100, lead), member('b', 300, 100)], {}, 'defragment b'],
    [
      'a leader hands that on before',
      [member('a', 300, 100, lead), member('b', 100, 100)],
      {},
      'hand over a to b',
    ],
    [
      'none while another does not answer',
      [member('a', 300, 100, lead), member('b', 300, 100), member('c', 0, 0, dead)],
      {},
      'none',
    ],
    [
      'none while one is new',
      [member('a', 300, 100, lead), member('b', 300, 100, { learner: true })],
      {},
      'none',
    ],
    ['none right after another cared', [member('a', 300, 100, lead)], { caringMs: 299_999 }, 'none'],
  ];
  for (const [name, members, past, expected] of cases)
    it(name, () => {
      expect(decide(members, past)).toBe(expected);
    });
});
