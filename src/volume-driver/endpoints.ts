import type { Ctx } from '../context.js';
import { hasCode } from '../errors.js';
import type { VolumeService } from '../volumes/volume-service.js';
import {
  parseBody,
  readKnownName,
  readMountId,
  readName,
  readOptions,
  toInspected,
  toListed,
  type Answer,
} from './messages.js';

export interface Endpoint {
  /** Ends below Docker's own limit for the call, so that the user reads our reason instead of a bare timeout. */
  readonly timeoutMs: number;
  answer(ctx: Ctx, body: Buffer | undefined): Answer | Promise<Answer>;
}

const slowMs = 110_000;
const quickMs = 50_000;

async function tolerateAbsence(call: () => Promise<void>): Promise<Answer> {
  try {
    await call();
  } catch (reason) {
    // What the call asks for is already so: an engine repeats what it believes lost.
    if (!hasCode(reason, 'not_found')) throw reason;
  }
  return { Err: '' };
}

/** What the engine asks without naming a volume: answered from memory. */
function createGeneralEndpoints(service: VolumeService): Readonly<Record<string, Endpoint>> {
  return {
    '/Plugin.Activate': { timeoutMs: quickMs, answer: () => ({ Implements: ['VolumeDriver'] }) },
    // Asked before nearly every other call.
    '/VolumeDriver.Capabilities': {
      timeoutMs: quickMs,
      answer: () => ({ Capabilities: { Scope: 'global' } }),
    },
    '/VolumeDriver.List': {
      timeoutMs: quickMs,
      answer: () => ({ Volumes: service.list().map(toListed), Err: '' }),
    },
  };
}

function createVolumeEndpoints(service: VolumeService): Readonly<Record<string, Endpoint>> {
  return {
    '/VolumeDriver.Create': {
      timeoutMs: slowMs,
      async answer(ctx, body) {
        const request = parseBody(body);
        await service.create(ctx, readName(request), readOptions(request));
        return { Err: '' };
      },
    },
    '/VolumeDriver.Remove': {
      timeoutMs: quickMs,
      answer: (ctx, body) => tolerateAbsence(() => service.remove(ctx, readKnownName(parseBody(body)))),
    },
    '/VolumeDriver.Path': {
      timeoutMs: quickMs,
      async answer(ctx, body) {
        const volume = await service.get(ctx, readKnownName(parseBody(body)));
        return { Mountpoint: volume.mountpoint, Err: '' };
      },
    },
    '/VolumeDriver.Get': {
      timeoutMs: quickMs,
      async answer(ctx, body) {
        return { Volume: toInspected(await service.get(ctx, readKnownName(parseBody(body)))), Err: '' };
      },
    },
  };
}

function createMountEndpoints(service: VolumeService): Readonly<Record<string, Endpoint>> {
  return {
    '/VolumeDriver.Mount': {
      timeoutMs: slowMs,
      async answer(ctx, body) {
        const request = parseBody(body);
        return {
          Mountpoint: await service.mount(ctx, readKnownName(request), readMountId(request)),
          Err: '',
        };
      },
    },
    '/VolumeDriver.Unmount': {
      timeoutMs: quickMs,
      answer(ctx, body) {
        const request = parseBody(body);
        return tolerateAbsence(() => service.unmount(ctx, readKnownName(request), readMountId(request)));
      },
    },
  };
}

/** The nine calls of the protocol, by path. */
export function createEndpoints(service: VolumeService): ReadonlyMap<string, Endpoint> {
  return new Map(
    Object.entries({
      ...createGeneralEndpoints(service),
      ...createVolumeEndpoints(service),
      ...createMountEndpoints(service),
    }),
  );
}
