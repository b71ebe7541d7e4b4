import { describe, expect, it } from 'vitest';
import type { Ctx } from '../../../src/context.js';
import { createUserspaceInitiator, type InitiatorSpec } from '../../../src/dataplane/initiator.js';
import type { RoleStatus } from '../../../src/dataplane/role-client.js';
import type { RoleContainers } from '../../../src/dataplane/role-container.js';
import { generationOf } from '../../../src/dataplane/role-spec.js';
import { AppError } from '../../../src/errors.js';
import { createLog } from '../../../src/log.js';

const never: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };
/** Its patience is over at once. */
const impatient: Ctx = { ...never, signal: AbortSignal.abort() };

const spec = (epoch: number, port = 13_260): InitiatorSpec => ({
  volume: 'db',
  volumeId: 'v1',
  iqn: 'iqn.2016-09.com.openebs:v1',
  portal: `127.0.0.1:${String(port)}`,
  sizeBytes: 2 ** 30,
  account: { initiatorIqn: 'iqn.node', chapUser: `v1-${String(epoch)}`, chapSecret: 'secret', epoch },
});

/** One container, and who has its device mounted. */
function fakeHost() {
  let running: { generation: string; settings: Map<string, string>; status: RoleStatus } | null = null;
  const host = {
    held: false,
    heldFor: 0,
    failing: null as AppError | null,
    answers: true,
    calls: [] as string[],
  };
  const roles: RoleContainers = {
    observe: () =>
      Promise.resolve({
        present: running !== null,
        generation: running?.generation ?? null,
        settings: running?.settings ?? new Map(),
        status: host.answers ? (running?.status ?? null) : null,
      }),
    readNote: () => Promise.resolve(null),
    ensure: (_ctx, wanted) => {
      host.calls.push('ensure');
      const generation = generationOf(wanted.spec);
      const status = {
        role: 'initiator',
        state: 'ready',
        error: '',
        generation,
        device: '/dev/loop1',
      } as const;
      running = { generation, settings: new Map(wanted.spec.lines), status };
      return Promise.resolve(status);
    },
    renew: () =>
      Promise.reject(new AppError('internal', 'an initiator is not renewed, it goes with its device')),
    remove: () => {
      host.calls.push('remove');
      running = null;
      return Promise.resolve();
    },
    discard: () => {
      host.calls.push('discard');
      running = null;
      return Promise.resolve();
    },
    list: () => Promise.resolve(['openebs-initiator-v1', 'openebs-target-v2', 'openebs-etcd']),
    hasContainer: (_ctx, name) => Promise.resolve(name === 'openebs-initiator-v1'),
  };
  const isHeld = (): Promise<boolean> => {
    if (host.failing) return Promise.reject(host.failing);
    if (host.held) return Promise.resolve(true);
    return Promise.resolve(host.heldFor-- > 0);
  };
  const options = { image: 'image', cluster: 'cluster', drainSeconds: 1, isHeld, roles };
  return Object.assign(host, {
    initiator: createUserspaceInitiator(options),
    /** Of a plugin with other settings, or another version: what it would write into the spec differs. */
    later: createUserspaceInitiator({ ...options, image: 'image:2', drainSeconds: 30 }),
  });
}

describe('the initiator', () => {
  it('is attached once, and again is the same', async () => {
    const host = fakeHost();
    expect(await host.initiator.attach(never, spec(1))).toBe('/dev/loop1');
    expect(await host.initiator.attach(never, spec(1))).toBe('/dev/loop1');
    expect(host.calls).not.toContain('remove');
    expect(host.initiator.matches(spec(1), await host.initiator.observe(never, 'v1'))).toBe(true);
    expect(host.initiator.matches(spec(2), await host.initiator.observe(never, 'v1'))).toBe(false);
  });

  it.each([
    ['account', spec(2)],
    ['portal', spec(1, 13_261)],
  ])('of another %s is replaced, not reloaded', async (_what, other) => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    await host.initiator.attach(never, other);
    expect(host.calls).toEqual(['ensure', 'remove', 'ensure']);
  });

  it('of an earlier version or setting stays the wanted one while it is attached', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    host.held = true;
    const observed = await host.later.observe(never, 'v1');
    expect(host.later.matches(spec(1), observed)).toBe(true);
    expect(host.later.matches(spec(2), observed)).toBe(false);
    expect(await host.later.attach(impatient, spec(1))).toBe('/dev/loop1');
    expect(host.calls).toEqual(['ensure', 'ensure']);
  });

  it('that has not applied its spec is not the wanted one', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    const observed = await host.initiator.observe(never, 'v1');
    expect(host.initiator.matches(spec(1), { ...observed, generation: 'written, not applied' })).toBe(false);
  });

  it('is not replaced while a container has its device mounted', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    host.held = true;
    await expect(host.initiator.attach(impatient, spec(2))).rejects.toMatchObject({ code: 'in_use' });
    expect(host.calls).toEqual(['ensure']);
  });

  it('is not taken away while a container has its device mounted', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    host.held = true;
    await expect(host.initiator.detach(impatient, 'v1')).rejects.toMatchObject({ code: 'in_use' });
    expect(host.calls).toEqual(['ensure']);
  });

  it('is given up although a container has its device mounted', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    host.held = true;
    await host.initiator.forfeit(impatient, 'v1');
    expect(host.calls).toEqual(['ensure', 'discard']);
  });

  it('is known by its container', async () => {
    expect(await fakeHost().initiator.present()).toEqual(['v1']);
  });

  it('is not taken away when nobody can tell whether its device is mounted', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    host.failing = new AppError('unavailable', 'cannot tell');
    await expect(host.initiator.detach(never, 'v1')).rejects.toThrow('cannot tell');
    expect(host.calls).toEqual(['ensure']);
  });

  it('waits for a container that is just ending', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    host.heldFor = 4;
    await host.initiator.detach(never, 'v1');
    expect(host.calls).toEqual(['ensure', 'remove']);
  });

  it('that does not answer any more has no device to wait for', async () => {
    const host = fakeHost();
    await host.initiator.attach(never, spec(1));
    host.held = true;
    host.answers = false;
    await host.initiator.detach(never, 'v1');
    expect(host.calls).toEqual(['ensure', 'remove']);
  });
});
