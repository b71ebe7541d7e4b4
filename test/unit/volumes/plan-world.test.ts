/**
 * The plan on a small world of one volume, its host and a second host: whatever happens in whatever order, and
 * wherever an execution is cut off, plan and do lead to what is wanted, and never do harm on the way.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AttachmentRecord, TargetRecord, VolumeRecord } from '../../../src/state/records.js';
import { plan, type Observed, type Step, type Wanted } from '../../../src/volumes/plan.js';

const nodes = ['host', 'other'] as const;
type Node = (typeof nodes)[number];

interface Local {
  /** Somebody here mounts it. */
  mounted: boolean;
  initiator: { epoch: number; device: number; up: boolean; draining: boolean } | null;
  mount: { device: number; readOnly: boolean } | null;
  detachable: boolean;
}

/** What cannot be done now, as an answer to somebody: the plan is at an end for this time. */
class Refused extends Error {}

class World {
  volume: { status: VolumeRecord['status']; formatted: boolean; epoch: number } | null = {
    status: 'creating',
    formatted: false,
    epoch: 0,
  };
  attachment: { node: Node; epoch: number } | null = null;
  backing = false;
  /** Times that the disk was formatted. */
  mkfs = 0;
  target: { up: boolean; older: boolean; admits: number | null } | null = null;
  readonly at: Record<Node, Local> = { host: newLocal(), other: newLocal() };
  #devices = 0;

  planFor(node: Node): Step[] {
    return this.volume ? plan(this.#wanted(node), this.#observe(node)) : [];
  }

  #wanted(node: Node): Wanted {
    const { attachment } = this;
    return {
      node,
      // The plan looks at what this small world has, and at no other field of the records.
      volume: this.volume as unknown as VolumeRecord,
      target: { node: 'host' } as TargetRecord,
      // The cast: as above.
      attachment: attachment as unknown as AttachmentRecord | null,
      mounted: this.at[node].mounted,
    };
  }

  #observe(node: Node): Observed {
    const { initiator, mount, detachable, mounted } = this.at[node];
    return {
      backing: node === 'host' && this.backing,
      target: this.#observeTarget(node === 'host' ? this.target : null),
      initiator: {
        present: initiator !== null,
        usable: this.#isUsable(node),
        draining: isUp(initiator) && initiator.draining,
        lost: false,
      },
      detachable: detachable && !mounted,
      mount: mount && {
        current: !isUp(initiator) || mount.device === initiator.device,
        readOnly: mount.readOnly,
      },
    };
  }

  #observeTarget(target: World['target']): Observed['target'] {
    if (!target) return { present: false, serving: false, renewable: false };
    const unused = nodes.every((name) => this.at[name].initiator === null);
    const serving = target.up && target.admits === (this.attachment?.epoch ?? null);
    return { present: true, serving, renewable: target.up && target.older && unused };
  }

  #epochOf(node: Node): number | null {
    return this.attachment?.node === node ? this.attachment.epoch : null;
  }

  #isUsable(node: Node): boolean {
    const { initiator } = this.at[node];
    return (
      initiator?.up === true &&
      !initiator.draining &&
      this.attachment?.node === node &&
      initiator.epoch === this.attachment.epoch
    );
  }

  /** Who can write now. */
  admitted(): Node[] {
    const { target } = this;
    return nodes.filter((node) => {
      const { initiator } = this.at[node];
      return initiator?.up === true && target !== null && target.admits === initiator.epoch;
    });
  }

  do(node: Node, step: Step): void {
    const volume = this.volume;
    if (!volume) throw new Refused('no volume');
    this.#executors[step](node, volume);
    const writers = this.admitted();
    expect(writers.length, 'hosts that can write').toBeLessThan(2);
    for (const writer of writers) expect(this.attachment?.node, 'who can write has it attached').toBe(writer);
  }

  readonly #executors: Record<Step, (node: Node, volume: NonNullable<World['volume']>) => void> = {
    createBacking: (_node, { status }) => {
      expect(status, 'a data file is made for').toBe('creating');
      this.backing = true;
    },
    serveTarget: (node) => {
      this.#serve(node, this.attachment?.epoch ?? null);
    },
    renewTarget: (node) => {
      expect(this.admitted(), 'users of a target that is made anew').toEqual([]);
      this.#serve(node, this.attachment?.epoch ?? null);
      if (this.target) this.target.older = false;
    },
    markReady: (_node, volume) => {
      expect(this.backing && this.target?.up, 'a volume that is called ready serves').toBe(true);
      if (volume.status === 'creating') volume.status = 'ready';
    },
    claimAttachment: (node, volume) => {
      if (volume.status === 'removing') throw new Refused('being removed');
      if (this.attachment && this.attachment.node !== node) throw new Refused('in use');
      volume.epoch += 1;
      this.attachment = { node, epoch: volume.epoch };
    },
    attachDevice: (node) => {
      const local = this.at[node];
      const epoch = this.#epochOf(node);
      if (local.initiator && local.initiator.epoch !== epoch && local.mount) throw new Refused('held');
      if (isUp(local.initiator) && local.initiator.draining) throw new Refused('draining');
      if (epoch === null || this.target?.up !== true || this.target.admits !== epoch)
        throw new Refused('login');
      local.initiator = { epoch, device: ++this.#devices, up: true, draining: false };
    },
    forfeitDevice: () => {
      throw new Error('nobody takes an attachment over here');
    },
    makeFileSystem: (node, volume) => {
      expect(volume.formatted, 'formatted already').toBe(false);
      if (!this.#isUsable(node)) throw new Refused('no device');
      // blkid finds what was made by an execution that died before it could say so.
      if (this.mkfs === 0) this.mkfs = 1;
      volume.formatted = true;
    },
    mountFileSystem: (node) => {
      const { initiator } = this.at[node];
      expect(this.mkfs, 'what is mounted is formatted').toBe(1);
      if (!initiator || !this.#isUsable(node)) throw new Refused('no device');
      this.at[node].mount = { device: initiator.device, readOnly: false };
    },
    unmountFileSystem: (node) => {
      const { mounted, mount, initiator } = this.at[node];
      const isWell =
        mount &&
        !mount.readOnly &&
        initiator?.draining === false &&
        initiator.up &&
        mount.device === initiator.device;
      expect(mounted && isWell, 'a good mount is taken from its holder').toBeFalsy();
      this.at[node].mount = null;
      if (initiator?.draining) initiator.up = false;
    },
    detachDevice: (node) => {
      expect(this.at[node].mount, 'detached under a mount').toBeNull();
      expect(this.at[node].mounted && this.volume?.status === 'ready', 'detached under its holder').toBe(
        false,
      );
      this.at[node].initiator = null;
    },
    closeTarget: (node) => {
      this.#serve(node, null);
    },
    releaseAttachment: (node) => {
      expect(this.at[node].initiator, 'given back with the device').toBeNull();
      const isServed = node === 'host' && this.volume?.status === 'ready' && this.target?.up === true;
      if (isServed) expect(this.target?.admits, 'admitted after it was given back').toBeNull();
      if (this.attachment?.node === node) this.attachment = null;
    },
    stopTarget: (_node, { status }) => {
      expect(status, 'a target is stopped of').toBe('removing');
      this.target = null;
    },
    deleteBacking: (_node, { status }) => {
      expect(status, 'data is deleted of').toBe('removing');
      expect([this.target, this.at.host.mount, this.at.other.mount], 'users of deleted data').toEqual([
        null,
        null,
        null,
      ]);
      this.backing = false;
    },
    deleteRecords: () => {
      expect([this.backing, this.target, this.attachment], 'forgotten').toEqual([false, null, null]);
      this.volume = null;
    },
  };

  #serve(node: Node, admits: number | null): void {
    expect(node, 'a target is served where its data is').toBe('host');
    if (!this.backing) throw new Refused('no data file');
    this.target = { up: true, older: this.target?.older ?? false, admits };
  }
}

function isUp(initiator: Local['initiator']): initiator is NonNullable<Local['initiator']> {
  return initiator?.up === true;
}

function newLocal(): Local {
  return { mounted: false, initiator: null, mount: null, detachable: true };
}

/** Plans and does until nothing is left, or until so many steps are done: then it was cut off. */
function converge(world: World, node: Node, most = Infinity): 'done' | 'cut' | 'refused' {
  let left = most;
  for (let round = 0; round < 20; round++) {
    const steps = world.planFor(node);
    if (steps.length === 0) return 'done';
    for (const step of steps) {
      if (left-- <= 0) return 'cut';
      try {
        world.do(node, step);
      } catch (reason) {
        if (reason instanceof Refused) return 'refused';
        throw reason;
      }
    }
  }
  throw new Error(`does not settle: ${world.planFor(node).join()}`);
}

/** What happens to the world; each takes effect at once. */
const events = {
  converge: (world: World, node: Node, most: number) => converge(world, node, most),
  /** A mount that dies on the way stays counted, or is forgotten by the next start. */
  mount(world: World, node: Node, most: number) {
    if (world.volume?.status !== 'ready') return;
    world.at[node].mounted = true;
    if (converge(world, node, most) === 'refused' && world.at[node].mount === null)
      world.at[node].mounted = false;
  },
  unmount(world: World, node: Node, most: number) {
    world.at[node].mounted = false;
    converge(world, node, most);
  },
  remove(world: World, node: Node, most: number) {
    if (!world.volume || world.attachment || world.at.host.mounted || world.at.other.mounted) return;
    world.volume.status = 'removing';
    converge(world, node, most);
  },
  killTarget(world: World) {
    if (world.target) world.target.up = false;
  },
  upgrade(world: World) {
    if (world.target) world.target.older = true;
  },
  killInitiator(world: World, node: Node) {
    const { initiator } = world.at[node];
    if (initiator) initiator.up = false;
  },
  drain(world: World, node: Node) {
    const { initiator, mount } = world.at[node];
    if (initiator) initiator.draining = true;
    // Nobody uses its device: it ends at once.
    if (initiator && !mount) initiator.up = false;
  },
  remountReadOnly(world: World, node: Node) {
    const { mount } = world.at[node];
    if (mount) mount.readOnly = true;
  },
  engineStops(world: World, node: Node) {
    world.at[node].detachable = false;
  },
  engineStarts(world: World, node: Node) {
    world.at[node].detachable = true;
  },
} as const;

const happening = fc.record({
  // By far the most are steps towards what is wanted; faults come between.
  event: fc.constantFrom<keyof typeof events>(
    ...(['converge', 'mount', 'unmount', 'remove'] as const),
    ...(['converge', 'mount', 'unmount', 'mount'] as const),
    ...(Object.keys(events) as (keyof typeof events)[]),
  ),
  node: fc.constantFrom(...nodes),
  most: fc.oneof(fc.nat(6), fc.constant(100)),
});

/** Without another event: the timer's passes on both hosts. */
function settle(world: World): void {
  for (let pass = 0; pass < 6; pass++) {
    for (const node of nodes) {
      world.at[node].detachable = true;
      // A mount that was refused is not counted.
      const elsewhere = world.attachment !== null && world.attachment.node !== node;
      if (elsewhere) world.at[node].mounted = false;
      converge(world, node);
    }
  }
}

function expectSettled(world: World): void {
  for (const node of nodes) expect(world.planFor(node), `left to do on ${node}`).toEqual([]);
  const { volume, attachment, target } = world;
  if (!volume) {
    expect([world.backing, target, attachment]).toEqual([false, null, null]);
    return;
  }
  expect(volume.status).toBe('ready');
  expect(world.backing).toBe(true);
  expect(target).toMatchObject({ up: true, admits: attachment?.epoch ?? null });
  for (const node of nodes) {
    const { mounted, mount, initiator } = world.at[node];
    expect(mount !== null, `mounted on ${node}`).toBe(mounted);
    expect(initiator !== null, `device on ${node}`).toBe(mounted);
    expect(attachment?.node === node).toBe(mounted);
    if (mounted) expect(world.admitted()).toEqual([node]);
  }
}

describe('plan and do', () => {
  it('lead to what is wanted whatever happened, and never do harm on the way', () => {
    const reached = { removed: 0, mounted: 0, idle: 0 };
    fc.assert(
      fc.property(fc.array(happening, { maxLength: 25 }), (history) => {
        const world = new World();
        for (const { event, node, most } of history) events[event](world, node, most);
        settle(world);
        expectSettled(world);
        const mounted = nodes.some((node) => world.at[node].mounted);
        reached[world.volume === null ? 'removed' : mounted ? 'mounted' : 'idle'] += 1;
      }),
      { numRuns: 3000 },
    );
    // The histories go everywhere, or they would prove little.
    expect(Math.min(...Object.values(reached))).toBeGreaterThan(100);
  });
});
