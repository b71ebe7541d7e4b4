import type { Ctx } from '../context.js';
import { eachOf } from '../lib/each-of.js';
import type { RoleContainers } from './role-container.js';

export interface OlderRole {
  /** Name of the container. */
  readonly container: string;
  /** The image it was made from; empty when it is of a version that did not say. */
  readonly image: string;
}

const ASKED_AT_ONCE = 8;

/** The roles that answer, and run from another image than the current one. */
export async function findOlderRoles(
  ctx: Ctx,
  roles: Pick<RoleContainers, 'list' | 'observe'>,
  current: string,
): Promise<OlderRole[]> {
  const found: OlderRole[] = [];
  await eachOf(await roles.list(), ASKED_AT_ONCE, async (container) => {
    const { status } = await roles.observe(ctx, container);
    if (status && status.image !== current) found.push({ container, image: status.image ?? '' });
  });
  return found.toSorted((one, other) => one.container.localeCompare(other.container));
}
