import type { Ctx } from '../context.js';
import { AppError } from '../errors.js';
import type { ContainerSpec, Engine } from './engine.js';

/** The first engine whose handling of plugins, mounts and restart policies is what the driver counts on. */
export const OLDEST_ENGINE = '20.10';

/** @throws `unavailable` for an engine that is too old; a version that cannot be read passes. */
export function checkEngineVersion(version: string): void {
  const have = /^(\d+)\.(\d+)/.exec(version);
  const [major = 0, minor = 0] = OLDEST_ENGINE.split('.').map(Number);
  if (!have) return;
  const [haveMajor, haveMinor] = [Number(have[1]), Number(have[2])];
  if (haveMajor > major || (haveMajor === major && haveMinor >= minor)) return;
  throw new AppError(
    'unavailable',
    `the Docker engine of this host is ${version}: volumes need ${OLDEST_ENGINE} or newer; upgrade the engine`,
  );
}

/** The same engine, which starts no container before its version is known to be good. */
export function withVersionCheck(engine: Engine): Engine {
  let checked = false;
  return {
    ...engine,
    async ensureContainer(ctx: Ctx, spec: ContainerSpec) {
      if (!checked) {
        checkEngineVersion((await engine.info(ctx)).version);
        checked = true;
      }
      return engine.ensureContainer(ctx, spec);
    },
  };
}
