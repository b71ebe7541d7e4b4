/** Which of three members takes a call, asked in the way of etcd3: in an order of its own, until one makes the call. */
import { PassThrough } from 'node:stream';
import { beforeEach, describe, expect, it } from 'vitest';
import { EtcdHosts, type HostPolicy } from '../../../src/state/etcd-hosts.js';

const noLeader = '14 UNAVAILABLE: etcdserver: no leader';
const late = '4 DEADLINE_EXCEEDED: Deadline exceeded after 2.0s';
const refused = '14 UNAVAILABLE: No connection established. Last error: connect ECONNREFUSED 10.0.0.1:23790';

/** Of the classes that make etcd3 close connections. */
class Recoverable extends Error {}

let now: number;
let policies: readonly HostPolicy[];
/** Where the members answer something else than that all is well. */
let failing: Map<number, string>;
let closed: number[];
let first: number;

beforeEach(() => {
  now = 1000;
  failing = new Map();
  closed = [];
  first = 0;
  const hosts = new EtcdHosts(() => now);
  policies = [hosts.policy(), hosts.policy(), hosts.policy()];
});

/** The member that was asked, and how it went. etcd3 begins with another one each time. */
async function call(answer: () => unknown = () => 'well'): Promise<string> {
  const order = [0, 1, 2].map((index) => (index + first) % 3);
  first += 1;
  for (const member of order) {
    const asked: number[] = [];
    try {
      await policies[member]!.execute(async () => {
        asked.push(member);
        const text = failing.get(member);
        const given = await Promise.resolve(answer());
        if (text !== undefined) throw new Recoverable(text);
        return given;
      });
      return `${String(member)} well`;
    } catch (reason) {
      if (reason instanceof Recoverable) closed.push(member);
      if (asked.length > 0) return `${String(member)} ${(reason as Error).message}`;
    }
  }
  return 'nobody';
}

async function calls(count: number): Promise<string[]> {
  const told: string[] = [];
  for (let index = 0; index < count; index += 1) told.push(await call());
  return told;
}

describe('the choice of a member', () => {
  it('is that of etcd3 while all serve', async () => {
    expect(await calls(3)).toEqual(['0 well', '1 well', '2 well']);
  });

  it('passes over who was silent, once', async () => {
    failing.set(1, late);
    expect(await calls(7)).toEqual([
      ...['0 well', `1 ${late}`, '2 well', '0 well'],
      // In the place of 1, the next in that order.
      ...['2 well', '2 well', '0 well'],
    ]);
  });

  it('prefers who says that it has no leader to who says nothing, and who serves to both', async () => {
    failing = new Map([
      [0, refused],
      [1, noLeader],
      [2, noLeader],
    ]);
    expect(new Set((await calls(12)).slice(3).map((told) => told[0]))).toEqual(new Set(['1', '2']));
    failing.delete(2);
    await calls(6);
    expect(new Set(await calls(6))).toEqual(new Set(['2 well']));
  });

  it('takes the silent ones by turns, and goes on with the one that answers', async () => {
    failing = new Map([0, 1, 2].map((member) => [member, late]));
    expect((await calls(9)).map((told) => told[0]).join('')).toBe('012012012');
    failing.delete(1);
    expect(await calls(5)).toEqual([`0 ${late}`, '1 well', '1 well', '1 well', '1 well']);
  });

  it('passes over who lets a call wait, and takes it again when it has answered', async () => {
    const held = Promise.withResolvers<string>();
    const waiting = call(() => held.promise);
    first = 0;
    expect(await call()).toBe('0 well');
    const heldAgain = Promise.withResolvers<string>();
    first = 0;
    const waitingAgain = call(() => heldAgain.promise);
    now += 1000;
    first = 0;
    expect(await call()).toBe('1 well');
    held.resolve('late');
    heldAgain.resolve('late');
    expect(await Promise.all([waiting, waitingAgain])).toEqual(['0 well', '0 well']);
    first = 0;
    expect(await call()).toBe('0 well');
  });

  it('prefers who lets a call wait to who was silent', async () => {
    failing.set(0, late);
    await call();
    for (const member of [1, 2]) {
      first = member;
      void call(() => new Promise(() => undefined));
    }
    now += 1000;
    expect(new Set(await calls(4))).toEqual(new Set(['1 well']));
    for (const member of [1, 2]) failing.set(member, late);
    await calls(2);
    now += 1000;
    expect(
      (await calls(6))
        .map((told) => told[0])
        .toSorted()
        .join(''),
    ).toBe('001122');
  });

  it('learns nothing from a stream that could be opened', async () => {
    failing.set(0, refused);
    await call();
    failing.delete(0);
    for (const member of [1, 2]) failing.set(member, refused);
    await calls(2);
    first = 0;
    expect(await call(() => new PassThrough())).toBe('0 well');
    first = 1;
    // It is the turn of the one that was tried first: nobody is taken for one that serves.
    expect((await call())[0]).toBe('1');
  });
});

describe('connections', () => {
  it('are closed once for all calls that waited for a silent member', async () => {
    failing = new Map([0, 1, 2].map((member) => [member, late]));
    const held = Promise.withResolvers<string>();
    const waiting = Array.from({ length: 30 }, () => call(() => held.promise));
    held.resolve('');
    await Promise.all(waiting);
    expect(closed.toSorted()).toEqual([0, 1, 2]);
    await call();
    expect(closed).toHaveLength(4);
  });

  it('stay when the member answers, whatever it says, and when it has answered another call since', async () => {
    failing = new Map([0, 1, 2].map((member) => [member, noLeader]));
    await calls(6);
    failing.clear();
    const held = Promise.withResolvers<string>();
    first = 0;
    const waiting = call(() => held.promise);
    first = 0;
    await call();
    failing.set(0, late);
    held.resolve('');
    await waiting;
    expect(closed).toEqual([]);
  });

  it('keep the words of the error', async () => {
    failing = new Map([0, 1, 2].map((member) => [member, 'etcdserver: too many requests']));
    expect(await call()).toBe('0 etcdserver: too many requests');
  });
});
