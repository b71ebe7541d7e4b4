/**
 * The plan in a world of its own: hosts that die, come back, lose their data, are drained and join at any moment, a manager
 * that dies between any two effects of a step, and an etcd that refuses what etcd refuses. Whatever happens, as long
 * as not more than a minority is down at once, a majority of the voters is up after every step of ours, and when the
 * faults end the cluster comes to rest at the wanted size.
 */
import { expect, it } from 'vitest';
import { type HostView, type MemberView, plan, type Step } from '../../../../src/cluster/formation/plan.js';
import { randomOf } from '../../../support/random.js';

class Random {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = randomOf(seed);
  }

  /** 0 to limit - 1. */
  below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

interface Host {
  up: boolean;
  awayFor: number;
  unwanted: boolean;
  /** Whose data it has. */
  data: string | null;
  lost: boolean;
  duty: string | null;
  restsUntil: number;
}

interface Member {
  readonly id: string;
  readonly node: string;
  learner: boolean;
  started: boolean;
  behind: number;
  unreachableFor: number;
  learnerFor: number;
}

const TICK_MS = 2000;
const wanted = { graceMs: 20_000, stallMs: 60_000 };
const urlOf = (node: string) => `https://${node}:23791`;

class World {
  readonly hosts = new Map<string, Host>();
  members: Member[] = [];
  voters = 3;
  now = 0;
  #count = 0;
  readonly #random: Random;

  constructor(random: Random, names: readonly string[]) {
    this.#random = random;
    for (const name of names) this.#join(name);
    const [seed = ''] = names;
    this.members = [this.#member(seed, { learner: false, started: true })];
    this.hosts.get(seed)!.data = this.members[0]!.id;
  }

  #join(name: string): void {
    this.hosts.set(name, {
      up: true,
      awayFor: 0,
      unwanted: false,
      data: null,
      lost: false,
      duty: null,
      restsUntil: 0,
    });
  }

  #member(node: string, { learner, started }: { learner: boolean; started: boolean }): Member {
    this.#count += 1;
    return {
      id: `m${String(this.#count)}`,
      node,
      learner,
      started,
      behind: 0,
      unreachableFor: 0,
      learnerFor: 0,
    };
  }

  isUp(member: Member): boolean {
    const host = this.hosts.get(member.node);
    return member.started && host?.up === true && host.data === member.id && !host.lost;
  }

  get hasMajority(): boolean {
    const voters = this.members.filter(({ learner }) => !learner);
    return voters.filter((member) => this.isUp(member)).length >= Math.floor(voters.length / 2) + 1;
  }

  /** A function, as the compiler takes a property that was looked at before for unchanged. */
  stillHasMajority(): boolean {
    return this.hasMajority;
  }

  /** Time goes on: hosts act on what they were told. */
  tick(): void {
    this.now += TICK_MS;
    for (const host of this.hosts.values()) host.awayFor = host.up ? 0 : host.awayFor + TICK_MS;
    if (this.hasMajority) for (const [node, host] of this.hosts) if (host.up) this.#follow(node, host);
    for (const member of this.members) {
      member.unreachableFor = this.isUp(member) ? 0 : member.unreachableFor + TICK_MS;
      member.learnerFor += TICK_MS;
      if (this.isUp(member)) member.behind = Math.max(0, member.behind - 700);
    }
  }

  #follow(node: string, host: Host): void {
    if (host.data !== null && !this.members.some(({ id }) => id === host.data)) {
      host.data = null;
      host.lost = false;
    }
    if (host.data !== null) return;
    const member = this.members.find(({ id }) => id === host.duty);
    if (member?.node !== node) return;
    host.data = member.id;
    if (member.started) host.lost = true;
    else if (this.#random.below(10) > 0) member.started = true;
    else host.data = null;
  }

  view(): { hosts: HostView[]; members: MemberView[] } {
    const leader = this.members.find((member) => !member.learner && this.isUp(member));
    return {
      hosts: [...this.hosts].map(([node, host]) => ({
        node,
        name: node,
        peerUrl: urlOf(node),
        clientUrl: '',
        alive: host.up,
        awayMs: host.awayFor,
        member: host.data,
        lost: host.lost,
        unwanted: host.unwanted,
        resting: host.restsUntil > this.now,
        duty: host.duty,
      })),
      members: this.members.map((member) => ({
        id: member.id,
        peerUrl: urlOf(member.node),
        learner: member.learner,
        started: member.started,
        unreachableMs: this.isUp(member) ? 0 : Math.max(1, member.unreachableFor),
        lag: this.isUp(member) ? member.behind : null,
        leader: member === leader,
        learnerMs: member.learner ? member.learnerFor : 0,
      })),
    };
  }

  next(): Step {
    return plan({
      ...this.view(),
      wanted: { ...wanted, voters: this.voters },
      corrupt: false,
      renewing: null,
    });
  }

  /** With a manager that may die before, between and after the effects. What etcd refuses has no effect. */
  carryOut(step: Step, effects: number): void {
    if (effects === 0 || step.kind === 'none' || step.kind === 'hand over') return;
    if (step.kind === 'add') this.#add(step.host.node, effects);
    else if (step.kind === 'assign') this.hosts.get(step.host.node)!.duty = step.member.id;
    else if (step.kind === 'promote') this.#memberOf(step.member.id).learner = false;
    else this.#remove(this.#memberOf(step.member.id), effects);
  }

  #memberOf(id: string): Member {
    return this.members.find((member) => member.id === id)!;
  }

  #upAmong(members: readonly Member[]): number {
    return members.filter((member) => !member.learner && this.isUp(member)).length;
  }

  #add(node: string, effects: number): void {
    const voters = this.members.filter(({ learner }) => !learner);
    const needed = voters.length === 1 ? 1 : Math.floor((voters.length + 1) / 2) + 1;
    if (voters.length < this.members.length || this.#upAmong(voters) < needed) return;
    const added = this.#member(node, { learner: true, started: false });
    added.behind = this.#random.below(3000);
    this.members.push(added);
    if (effects > 1) this.hosts.get(node)!.duty = added.id;
  }

  #remove(gone: Member, effects: number): void {
    const stay = this.members.filter((member) => member !== gone);
    const voters = stay.filter(({ learner }) => !learner).length;
    if (!gone.learner && this.#upAmong(stay) < Math.floor(voters / 2) + 1) return;
    this.members = stay;
    const host = this.hosts.get(gone.node)!;
    if (gone.learner) host.restsUntil = this.now + 10_000;
    if (effects > 1 && host.duty === gone.id) host.duty = null;
  }

  /** One that leaves a majority of the voters up, and each single one of them dispensable where it can be. */
  disturb(): void {
    const nodes = [...this.hosts.keys()];
    const node = this.#random.pick(nodes);
    const host = this.hosts.get(node)!;
    const before = { ...host };
    const kind = this.#random.below(6);
    if (kind <= 1) host.up = !host.up;
    else if (kind === 2) host.unwanted = !host.unwanted;
    else if (kind === 3 && host.data !== null) host.lost = true;
    else if (kind === 4 && nodes.length < 7) this.#join(`n${String(nodes.length)}`);
    else this.voters = this.#random.pick([1, 3, 5]);
    if (!this.hasMajority) Object.assign(host, before);
  }

  calm(): void {
    for (const host of this.hosts.values()) {
      host.up = true;
      host.unwanted = false;
    }
  }
}

it('1,000 lives of a cluster: a majority after each step, and rest at the wanted size in the end', () => {
  for (let seed = 1; seed <= 1000; seed++) {
    const random = new Random(seed);
    const world = new World(random, ['a', 'b', 'c', 'd', 'e'].slice(0, 1 + random.below(5)));
    const history: string[] = [];
    const live = (disturbed: boolean): void => {
      if (disturbed && random.below(4) === 0) world.disturb();
      world.tick();
      if (!world.hasMajority) throw new Error(`seed ${String(seed)}: no majority by a fault alone`);
      const step = world.next();
      const voters = world.members.filter(({ learner }) => !learner).length;
      world.carryOut(step, disturbed ? random.below(3) : 2);
      if (step.kind !== 'none') history.push(`${String(world.now)} ${step.kind}: ${step.why}`);
      if (!world.stillHasMajority())
        throw new Error(
          `seed ${String(seed)}: the step took the majority away\n${history.slice(-12).join('\n')}`,
        );
      const after = world.members.filter(({ learner }) => !learner).length;
      if (Math.abs(after - voters) > 1) throw new Error(`seed ${String(seed)}: two changes in one step`);
    };
    for (let tick = 0; tick < 200; tick++) live(true);
    world.calm();
    for (let tick = 0; tick < 200; tick++) live(false);
    const hosts = world.hosts.size;
    const most = Math.min(world.voters, hosts);
    const expected = most % 2 === 1 ? most : most - 1;
    const state = `seed ${String(seed)}: ${JSON.stringify(world.members)} ${JSON.stringify([...world.hosts])}\n${history.slice(-12).join('\n')}`;
    expect(
      world.members.filter((member) => !member.learner && world.isUp(member)),
      state,
    ).toHaveLength(expected);
    expect(world.members, state).toHaveLength(expected);
    expect(world.next(), state).toEqual({ kind: 'none', why: '' });
  }
});
