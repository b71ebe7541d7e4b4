import { describe, expect, it } from 'vitest';
import {
  type HostView,
  type MemberView,
  plan,
  type Situation,
  type Step,
} from '../../../../src/cluster/formation/plan.js';

const wanted = { voters: 3, graceMs: 60_000, stallMs: 300_000 };
const urlOf = (node: string) => `https://${node}:23791`;

function host(node: string, more: Partial<HostView> = {}): HostView {
  return {
    node,
    name: node,
    peerUrl: urlOf(node),
    clientUrl: `https://${node}:23790`,
    alive: true,
    awayMs: 0,
    member: null,
    lost: false,
    unwanted: false,
    resting: false,
    duty: null,
    ...more,
  };
}

function member(node: string, more: Partial<MemberView> = {}): MemberView {
  return {
    id: `m-${node}`,
    peerUrl: urlOf(node),
    learner: false,
    started: true,
    unreachableMs: 0,
    lag: 0,
    leader: false,
    learnerMs: 0,
    ...more,
  };
}

/** A host with its member. */
const both = (node: string, ofMember: Partial<MemberView> = {}, ofHost: Partial<HostView> = {}) => ({
  host: host(node, { member: `m-${node}`, ...ofHost }),
  member: member(node, ofMember),
});

function decide(
  pairs: readonly { host: HostView; member: MemberView }[],
  spares: readonly HostView[] = [],
  more: Partial<Situation> = {},
): Step {
  return plan({
    wanted,
    hosts: [...pairs.map((pair) => pair.host), ...spares],
    members: pairs.map((pair) => pair.member),
    corrupt: false,
    renewing: null,
    ...more,
  });
}

const told = (step: Step): string => {
  switch (step.kind) {
    case 'none':
      return step.why === '' ? 'content' : `waits: ${step.why}`;
    case 'add':
      return `add ${step.host.node}`;
    case 'assign':
    case 'promote':
    case 'remove':
      return `${step.kind} ${step.member.id}`;
    case 'hand over':
      return `hand over ${step.from.id} to ${step.to.id}`;
  }
};

const away = { alive: false, awayMs: 10_000 };
const dead = { unreachableMs: 60_000, lag: null };
const leader = { leader: true };

describe('the next step for the members', () => {
  it.each([
    ['one host alone', decide([both('a')]), 'content'],
    ['two hosts: never left at two', decide([both('a')], [host('b')]), 'content'],
    ['three hosts', decide([both('a')], [host('b'), host('c')]), 'add b'],
    ['at two on the way to three', decide([both('a'), both('b')], [host('c')]), 'add c'],
    ['three voters', decide([both('a'), both('b'), both('c')], [host('d')]), 'content'],
    [
      'two, and the third host is away for a moment',
      decide([both('a', leader), both('b')], [host('c', away)]),
      'waits: 2 voters, one too many or too few: c may be back soon',
    ],
    [
      'two, and the third host is gone for longer',
      decide([both('a', leader), both('b')], [host('c', { alive: false, awayMs: 70_000 })]),
      'remove m-b',
    ],
    [
      'two, and one does not answer: nothing can be changed',
      decide([both('a', leader), both('b', { unreachableMs: 5000, lag: null })], [host('c')]),
      'waits: b does not answer; given time to come back',
    ],
    [
      'two, and one is dead: its vote is needed to remove it',
      decide([both('a', leader), both('b', dead)], [host('c')]),
      'waits: the member on b is dead; too few others answer to remove it',
    ],
    [
      'three voters, of whom one has another address now than its host has told',
      decide([both('a'), both('b'), both('c', { peerUrl: urlOf('new') })]),
      'content',
    ],
    [
      'three hosts, while one is made anew',
      decide([both('a')], [host('b'), host('c')], { renewing: 'a' }),
      'waits: the member on a is made anew from the image of its plugin',
    ],
    [
      'four hosts and five wanted',
      decide([both('a'), both('b'), both('c')], [host('d')], { wanted: { ...wanted, voters: 5 } }),
      'content',
    ],
    [
      'five hosts and five wanted',
      decide([both('a'), both('b'), both('c')], [host('d'), host('e')], { wanted: { ...wanted, voters: 5 } }),
      'add d',
    ],
  ])('%s', (_name, step, expected) => {
    expect(told(step)).toBe(expected);
  });

  it.each([
    ['not started', { started: false, lag: null, unreachableMs: 1 }, 'waits: the new member on c starts'],
    ['behind', { lag: 501 }, 'waits: the new member on c catches up'],
    ['does not answer', { unreachableMs: 4000, lag: null }, 'waits: the new member on c catches up'],
    ['caught up', { lag: 3 }, 'promote m-c'],
    ['stalled', { lag: 10_000, learnerMs: 300_000 }, 'remove m-c'],
    ['caught up at last', { lag: 0, learnerMs: 400_000 }, 'promote m-c'],
  ])('a learner that is %s', (_name, of, expected) => {
    const step = decide([both('a'), both('b'), both('c', { learner: true, ...of }, { duty: 'm-c' })]);
    expect(told(step)).toBe(expected);
  });

  it.each([
    ['was added by a manager that died before it told the host', { duty: null }, 'assign m-c'],
    ['whose host was told of an older one', { duty: 'm-old' }, 'assign m-c'],
    ['whose host is to leave', { duty: 'm-c', unwanted: true }, 'remove m-c'],
    ['whose data is gone', { duty: 'm-c', lost: true }, 'remove m-c'],
  ])('a learner that %s', (_name, of, expected) => {
    const learner = { learner: true, started: false, lag: null };
    expect(told(decide([both('a'), both('b'), both('c', learner, of)]))).toBe(expected);
  });

  it('a learner of a host that nobody knows goes', () => {
    const pair = both('x', { learner: true });
    expect(
      told(
        plan({
          wanted,
          hosts: [host('a')],
          members: [member('a'), pair.member],
          corrupt: false,
          renewing: null,
        }),
      ),
    ).toBe('remove m-x');
  });

  it.each([
    ['with a spare', [host('d')], 'remove m-c'],
    ['without one', [], 'waits: the member on c is dead, and no other host can take its place'],
    [
      'with a spare that is away',
      [host('d', away)],
      'waits: the member on c is dead, and no other host can take its place',
    ],
    [
      'with a spare whose last try failed',
      [host('d', { resting: true })],
      'waits: the member on c is dead, and no other host can take its place',
    ],
    [
      'with a spare that has data of a former member',
      [host('d', { member: 'm-former' })],
      'waits: the member on c is dead, and no other host can take its place',
    ],
    [
      'with a drained one',
      [host('d', { unwanted: true })],
      'waits: the member on c is dead, and no other host can take its place',
    ],
  ])('a dead voter %s', (_name, spares, expected) => {
    expect(told(decide([both('a', leader), both('b'), both('c', dead, away)], spares))).toBe(expected);
  });

  it('a voter that is away for less than the grace time changes nothing', () => {
    const step = decide([both('a'), both('b'), both('c', { unreachableMs: 59_999, lag: null })], [host('d')]);
    expect(told(step)).toBe('waits: c does not answer; given time to come back');
  });

  it('a voter whose data is lost is replaced at once, by its own host if need be', () => {
    const lost = both('c', { unreachableMs: 1, lag: null }, { lost: true });
    expect(told(decide([both('a'), both('b'), lost]))).toBe('remove m-c');
  });

  it('a dead voter of a host that was taken out goes without a spare', () => {
    const step = plan({
      wanted,
      hosts: [both('a').host, both('b').host],
      members: [member('a', leader), member('b'), member('c', dead)],
      corrupt: false,
      renewing: null,
    });
    expect(told(step)).toBe('remove m-c');
  });

  it('with the majority gone nothing is removed', () => {
    const step = decide([both('a'), both('b', dead), both('c', dead)], [host('d')]);
    expect(told(step)).toBe('waits: the member on b is dead; too few others answer to remove it');
  });

  it.each([
    ['a spare takes its place first', [host('d')], 'add d'],
    ['without a spare the count goes down to one', [], 'remove m-c'],
  ])('a voter that shall go: %s', (_name, spares, expected) => {
    expect(told(decide([both('a', leader), both('b'), both('c', {}, { unwanted: true })], spares))).toBe(
      expected,
    );
  });

  it('a leader that shall go hands over first', () => {
    const pairs = [both('a', leader, { unwanted: true }), both('b'), both('c'), both('d')];
    expect(told(decide(pairs))).toBe('hand over m-a to m-b');
  });

  it('fewer wanted than there are: one goes, not the leader', () => {
    const pairs = [both('a', leader), both('b'), both('c'), both('d'), both('e')];
    expect(told(decide(pairs))).toBe('remove m-b');
  });

  it('corrupt data stops everything', () => {
    expect(told(decide([both('a')], [host('b'), host('c')], { corrupt: true }))).toMatch(/^waits: .*CORRUPT/);
  });
});
