import { describe, expect, it } from 'vitest';
import { type GateMember, gateOf, type GateSituation } from '../../../../src/cluster/renewal/gate.js';

function member(id: string, more: Partial<GateMember> = {}): GateMember {
  return {
    id,
    name: id,
    peerUrl: `https://${id}:23791`,
    learner: false,
    started: true,
    unreachableMs: 0,
    lag: 0,
    leader: false,
    learnerMs: 0,
    ...more,
  };
}

const leader = { leader: true };
const silent = { unreachableMs: 1, lag: null };

function decide(members: readonly GateMember[], more: Partial<GateSituation> = {}): string {
  const gate = gateOf({ me: 'a', members, alarms: [], busy: null, ...more });
  switch (gate.kind) {
    case 'wait':
      return `waits: ${gate.why}`;
    case 'hand over':
      return `hand over ${gate.from.id} to ${gate.to.id}`;
    case 'renew':
      return 'renew';
  }
}

describe('whether the member here may be made anew now', () => {
  it.each([
    ['the only one', decide([member('a', leader)]), 'renew'],
    ['one of three', decide([member('a'), member('b', leader), member('c')]), 'renew'],
    [
      'one of five',
      decide([member('a'), member('b', leader), member('c'), member('d'), member('e')]),
      'renew',
    ],
    [
      'one that does not answer itself',
      decide([member('a', silent), member('b', leader), member('c')]),
      'renew',
    ],
    [
      'the leader: it goes to who is least behind',
      decide([member('a', leader), member('b', { lag: 9 }), member('c', { lag: 2 })]),
      'hand over a to c',
    ],
    ['the leader of two', decide([member('a', leader), member('b')]), 'hand over a to b'],
    [
      'another does not answer',
      decide([member('a'), member('b', leader), member('c', silent)]),
      'waits: all others have to answer, and c does not',
    ],
    [
      'of five one does not answer: of two one might be too many at the next fault',
      decide([member('a'), member('b', leader), member('c'), member('d'), member('e', silent)]),
      'waits: all others have to answer, and e does not',
    ],
    [
      'another has just come back and is behind',
      decide([member('a'), member('b', leader), member('c', { lag: 501 })]),
      'waits: c has to catch up first',
    ],
    [
      'another does not tell how far it is, as nobody leads',
      decide([member('a'), member('b', { lag: null }), member('c')]),
      'waits: b has to catch up first',
    ],
    [
      'a new member without a vote',
      decide([member('a', leader), member('b', { learner: true })]),
      'waits: the new member on b has no vote yet',
    ],
    [
      'it is the new one itself',
      decide([member('a', { learner: true }), member('b', leader)]),
      'waits: the new member on a has no vote yet',
    ],
    ['not in the list', decide([member('b', leader)]), 'waits: it is not known yet which member is here'],
    [
      'nobody knows which is here',
      decide([member('a', leader)], { me: null }),
      'waits: it is not known yet which member is here',
    ],
    ['somebody is at it', decide([member('a', leader)], { busy: 'b is at it' }), 'waits: b is at it'],
    [
      'an alarm',
      decide([member('a', leader)], { alarms: ['CORRUPT', 'NOSPACE'] }),
      'waits: etcd raises the alarm CORRUPT, NOSPACE',
    ],
  ])('%s', (_name, decided, expected) => {
    expect(decided).toBe(expected);
  });
});
