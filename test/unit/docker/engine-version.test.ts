import { describe, expect, it } from 'vitest';
import { checkEngineVersion, withVersionCheck } from '../../../src/docker/engine-version.js';
import type { ContainerSpec, Engine } from '../../../src/docker/engine.js';
import type { Ctx } from '../../../src/context.js';
import { createLog } from '../../../src/log.js';

const ctx: Ctx = { log: createLog('silent'), signal: new AbortController().signal, requestId: 'test' };

describe('an engine', () => {
  it.each(['20.10.0', '20.10.24+dfsg1', '23.0.1', '26.1.5+dfsg1', '28.5.2', '100.0', 'dev', ''])(
    'of version %j is accepted',
    (version) => {
      expect(() => {
        checkEngineVersion(version);
      }).not.toThrow();
    },
  );

  it.each(['19.03.15', '18.09.1', '1.13.1', '17.12.0-ce', '20.9.9'])(
    'of version %j is refused with both versions named',
    (version) => {
      expect(() => {
        checkEngineVersion(version);
      }).toThrow(`${version}: volumes need 20.10 or newer`);
    },
  );

  it('that is too old gets no container', async () => {
    const started: string[] = [];
    const refuse = () => Promise.reject(new Error('unexpected call'));
    const old: Engine = {
      answers: refuse,
      info: () =>
        Promise.resolve({
          id: 'x',
          hostname: 'h',
          version: '19.03.15',
          apiVersion: '1.40',
          labels: [],
          dataRoot: '/',
        }),
      hasImage: refuse,
      importImage: refuse,
      findsDirectory: refuse,
      withLabel: refuse,
      removeEnded: refuse,
      removeOldTags: refuse,
      ensureContainer: (_ctx, { name }) => {
        started.push(name);
        return Promise.resolve('created');
      },
      removeContainer: refuse,
      volumeUsers: refuse,
      startUnmounted: refuse,
    };
    const spec: ContainerSpec = {
      name: 'c',
      image: 'i',
      command: [],
      labels: {},
      binds: [],
      capabilities: [],
      devices: [],
      deviceRules: [],
      securityOptions: [],
      stopTimeoutSeconds: 1,
    };
    await expect(withVersionCheck(old).ensureContainer(ctx, spec)).rejects.toThrow('19.03.15');
    expect(started).toEqual([]);
  });
});
