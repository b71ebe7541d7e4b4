import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { Ctx } from '../context.js';
import type { ContainerSpec, Engine } from '../docker/engine.js';
import { AppError, hasCode } from '../errors.js';

const shape = z.object({ reference: z.string(), entrypoint: z.array(z.string()).min(1) });

export interface DataPlaneImage {
  readonly reference: string;
  /** Imports it into the engine unless it is there; no registry is needed. */
  ensure(ctx: Ctx): Promise<void>;
  /** Removes the images of other versions of the plugin, once nothing is made from them any more. */
  removeOlder(ctx: Ctx): Promise<void>;
}

/** The image travels in the plugin: image.tar.gz, and image.json that describes it. */
export async function loadDataPlaneImage(engine: Engine, directory: string): Promise<DataPlaneImage> {
  const { reference, entrypoint } = shape.parse(
    JSON.parse(await readFile(path.join(directory, 'image.json'), 'utf8')),
  );
  let importing: Promise<void> | null = null;
  return {
    reference,
    async ensure(ctx) {
      if (await engine.hasImage(ctx, reference)) return;
      importing ??= engine
        .importImage(ctx, {
          path: path.join(directory, 'image.tar.gz'),
          reference,
          changes: [`ENTRYPOINT ${JSON.stringify(entrypoint)}`, 'LABEL openebs.role=image'],
        })
        .finally(() => {
          importing = null;
        });
      ctx.log.info({ image: reference }, 'importing the data-plane image');
      await importing;
    },
    removeOlder: (ctx) =>
      engine.removeOldTags(ctx, reference.slice(0, reference.lastIndexOf(':')), reference),
  };
}

/** An engine whose containers find their image again after `docker system prune -af`. */
export function withImage(engine: Engine, image: DataPlaneImage): Engine {
  return {
    ...engine,
    async ensureContainer(ctx: Ctx, spec: ContainerSpec) {
      try {
        return await engine.ensureContainer(ctx, spec);
      } catch (reason) {
        if (!hasCode(reason, 'not_found')) throw reason;
        await image.ensure(ctx);
        return engine.ensureContainer(ctx, spec).catch(stillAbsent);
      }
    },
  };
}

/** To who asked for a volume, `not_found` says that the volume is absent. */
function stillAbsent(reason: unknown): never {
  if (!hasCode(reason, 'not_found')) throw reason;
  throw new AppError('unavailable', `${reason.message}: is its image removed as fast as it is imported?`, {
    cause: reason,
  });
}
